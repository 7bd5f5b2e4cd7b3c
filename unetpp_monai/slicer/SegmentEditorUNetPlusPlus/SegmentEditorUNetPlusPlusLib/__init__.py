# ruff: noqa: N999 - Slicer's naming of a module's library
"""The Segment Editor effect UNet++; what it does is in UNetPlusPlusLib."""
