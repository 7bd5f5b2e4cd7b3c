"""Measurements as commands; nothing of the package needs them."""
