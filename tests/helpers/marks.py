"""What a test needs, it says by a mark; without it, what it needs fails it, so that no suite runs more than it says."""

import pytest

current = []  # the test that runs; conftest keeps it


def must_be_marked(mark):
    """Fail the test that runs unless it has this mark."""
    for item in current:
        if item.get_closest_marker(mark) is None:
            pytest.fail(f"what uses this must be marked {mark}, got {item.nodeid}")
