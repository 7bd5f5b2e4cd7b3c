"""Parse lengths of time that people write."""

import re

from .errors import InputError

TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")


def seconds_of(text: str) -> float:
    """Parse a length of time.

    Args:
        text: such as 2h, 90min, 1h30min, 45m or 30s.

    Raises:
        InputError: another text, or no time.

    Example:
        >>> seconds_of("1h30min")
        5400.0
    """
    parts = TIME.fullmatch("".join(text.lower().split()))
    hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
    found = hours * 3600 + minutes * 60 + seconds
    if not found > 0:
        raise InputError(f"time must be such as 2h, 45min, 1h30min or 30s, got {text!r}", option="time")
    return found
