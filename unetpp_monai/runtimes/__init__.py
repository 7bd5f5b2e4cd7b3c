"""Runtimes for the network: one callable with the network's own interface, whatever computes it."""
