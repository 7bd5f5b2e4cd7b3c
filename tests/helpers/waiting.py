"""Waits for conditions, not for clocks: only what hangs reaches the deadline."""

import time

DEADLINE = 600  # seconds


def wait_for(condition, what, *, every=0.05, pause=time.sleep):
    """Ask until `condition()` is true; return what it gave. `pause(seconds)` waits between two questions."""
    give_up = time.monotonic() + DEADLINE
    while not (given := condition()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} must come within {DEADLINE} s, got {given!r}")
        pause(every)
    return given
