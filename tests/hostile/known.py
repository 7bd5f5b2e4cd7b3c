"""Faults that are known and open. Each list must shrink: a slice fails as soon as one of them is no longer there."""
