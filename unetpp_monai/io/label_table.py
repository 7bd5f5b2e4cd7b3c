"""Read and write the BIDS table (`dseg.tsv`) that gives the meaning of a NIfTI label map's values."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..csv_files import check_separator
from ..errors import InputError
from ..files import complete_file
from ..labels import Code, Label, label_colour

CODES = ("category", "type", "modifier")  # then modifier2, modifier3, ... where a label has so many
MISSING = "n/a"  # an empty cell in BIDS


def write_label_table(structures: Sequence[Label], path: Path) -> None:
    """Write one row per structure, without the background; atomic.

    Args:
        structures: meaning of the label map's values.
        path: `.tsv`, named like the label map; columns are BIDS's index, name and color (`#rrggbb`), then codes, as
            many modifiers as one of the structures has.

    Raises:
        OutputError: the file cannot be written.
    """
    with complete_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        more = max([1, *(len(label.modifiers) for label in structures)])
        table.writerow(_columns(more))
        for label in structures:
            padding = (None,) * (more - len(label.modifiers))
            cells = [
                part
                for code in (label.category, label.type, *label.modifiers, *padding)
                for part in ((code.scheme, code.value, code.meaning) if code else ("",) * 3)
            ]
            colour = "#{:02x}{:02x}{:02x}".format(*label_colour(label))
            table.writerow([label.index, label.name, colour, *(cell or MISSING for cell in cells)])


def read_label_table(path: Path) -> tuple[Label, ...]:
    """Read a table with at least BIDS's columns index and name; skip the background, 0.

    Raises:
        InputError: missing or invalid table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=MISSING))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({error}); write it as UTF-8 with tabs") from error
    check_separator(rows[0] if rows else (), path, wanted="\t")
    if rows and not {"index", "name"} <= rows[0].keys():
        raise InputError(f"a label table must have the columns index and name, got {list(rows[0])} in {path}")
    labels = tuple(label for row in rows if (label := _label(row, path)).index != 0)
    values = [label.index for label in labels]
    if len(set(values)) < len(values):
        raise InputError(f"every index must be in one row of a label table, got {values} in {path}")
    return labels


def _label(row: Mapping[str, str], path: Path) -> Label:
    colour = row.get("color", MISSING)
    try:
        index = int(row["index"])
        rgb = None if colour in ("", MISSING) else bytes.fromhex(colour.removeprefix("#"))
        if index < 0 or (rgb is not None and len(rgb) != 3):
            raise ValueError("out of range")
    except ValueError as error:
        raise InputError(
            f"a label table must have integers >= 0 as index and colours as #rrggbb, got {row['index']!r} and "
            f"{colour!r} in {path}"
        ) from error
    category, kind = (_code(row, name) for name in CODES[:2])
    names = [name for name in _modifier_names(len(row)) if f"{name}_value" in row]
    modifiers = tuple(code for name in names if (code := _code(row, name)) is not None)
    return Label(index, row["name"], category, kind, modifiers, None if rgb is None else (rgb[0], rgb[1], rgb[2]))


def _code(row: Mapping[str, str], name: str) -> Code | None:
    scheme, value, meaning = (row.get(f"{name}_{part}", MISSING) for part in ("scheme", "value", "meaning"))
    return None if value in ("", MISSING) else Code(value, scheme, meaning)


def _columns(modifiers: int) -> tuple[str, ...]:
    names = (*CODES[:2], *_modifier_names(modifiers))
    return ("index", "name", "color", *(f"{name}_{part}" for name in names for part in ("scheme", "value", "meaning")))


def _modifier_names(count: int) -> list[str]:
    """Column groups of the first modifiers: `modifier`, `modifier2`, `modifier3`, ..."""
    return [CODES[2], *(f"{CODES[2]}{number}" for number in range(2, count + 1))]
