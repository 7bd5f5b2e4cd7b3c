"""Read JSON objects from untrusted files, within limits and with one-line errors."""

import json
import math
import re
from pathlib import Path
from typing import Any

from .errors import BundleError
from .words import printable

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000  # of an object, over all levels
MAX_LEVELS = 32
LARGEST = 2**63 - 1  # largest whole number for libraries
NO_TEXT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]"
)  # lone surrogates, and terminal control codes
PATH, REASON = 160, 220  # most characters in a message


def clipped(text: object, length: int) -> str:
    """Return a text as one line of at most `length` characters."""
    line = printable(str(text)[: 10 * length])
    return line if len(line) <= length else f"{line[: length - 3]}..."


def at(path: Path) -> str:
    """Return a path for a message; only the end if it is very long."""
    text = clipped(str(path)[-PATH:], PATH)
    return text if len(str(path)) <= PATH else f"...{text[3:]}"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BundleError: missing file, not JSON, repeated keys, or invalid numbers.
    """
    try:
        if not path.is_file() and path.exists():
            raise BundleError(f"{at(path)} must be a JSON object, got no file")
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{at(path)} must be a JSON object of at most {MAX_BYTES >> 20} MiB, got more")
        return parse_object(path.read_bytes(), at(path))
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise BundleError(f"{at(path)} must be a JSON object, got {clipped(reason, REASON)}") from error


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Parse the content of a file.

    Args:
        data: of the file.
        name: of the file, for messages.

    Raises:
        BundleError: not a JSON object within the limits.
    """
    try:
        content = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as error:
        raise BundleError(f"{name} must be a JSON object of at most {MAX_LEVELS} levels, got more") from error
    except ValueError as error:
        raise BundleError(f"{name} must be a JSON object, got {clipped(error, REASON)}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{name} must be a JSON object, got a {type(content).__name__}")
    if fault := _fault(content):
        raise BundleError(f"{name} must be a JSON object of plain values, got {clipped(fault, REASON)}")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {clipped(key, 80)!r} twice")
        found[key] = value
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text}, which is no number")


def _fault(content: dict[str, Any]) -> str:
    """Return the first value beyond a limit, with its key; empty if none."""
    todo: list[tuple[str, int, Any]] = [("", 1, content)]
    for number, (key, level, value) in enumerate(todo):  # which grows
        if number > MAX_VALUES or level > MAX_LEVELS:
            return f"more than {MAX_VALUES} values" if number > MAX_VALUES else f"more than {MAX_LEVELS} levels"
        if isinstance(value, float) and not math.isfinite(value):
            return f"a number without end at {key}"
        if isinstance(value, int) and abs(value) > LARGEST:
            return f"a whole number above {LARGEST} at {key}"
        if isinstance(value, str) and not is_text(value):
            return f"characters that are none at {key}"
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            if isinstance(name, str) and not is_text(name):
                return f"characters that are none in a key of {key or 'the object'}"
            todo.append((f"{key}#{name}" if key else str(name), level + 1, item))
    return ""


def is_text(value: str) -> bool:
    """Tell whether a text is UTF-8 without control characters."""
    return not NO_TEXT.search(value)
