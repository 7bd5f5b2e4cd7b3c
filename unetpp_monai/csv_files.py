"""Tables that people write: separators of columns and names of cases are checked, not guessed."""

import re
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]{1,200}")


def is_case_name(text: str) -> bool:
    """Tell whether a case can have this name, so that files can be named after it.

    Example:
        >>> is_case_name("patient 1"), is_case_name("../patient 1"), is_case_name("")
        (True, False, False)
    """
    return bool(NAME.fullmatch(text))


def check_separator(columns: Iterable[str | None], path: Path, *, wanted: str = ",") -> None:
    """Refuse a table whose columns another character separates, as Excel writes it in some countries.

    Args:
        columns: of the header, as it was read with the wanted separator.
        path: of the table, for the message.
        wanted: separator of such a table, "," or a tab.

    Raises:
        InputError: the header is one column, which contains another separator.
    """
    names = [name or "" for name in columns]
    for other, word in SEPARATORS.items():
        if len(names) == 1 and other != wanted and other in names[0]:
            raise InputError(
                f"columns must be separated by {SEPARATORS[wanted]}, got {word} in {path}; save the table with "
                f"{SEPARATORS[wanted]}"
            )
