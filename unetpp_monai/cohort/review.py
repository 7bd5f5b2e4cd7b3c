"""Read the marks that reviewers made in the report: cases to exclude, and cases to segment again."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..csv_files import check_separator
from ..errors import InputError
from .table import FORMULA, Record

COLUMNS = ("case", "mark", "note", "reviewer", "time", "sha256")  # of `review.csv`; time is ISO 8601
KEEP, EXCLUDE, REDO = MARKS = ("keep", "exclude", "redo")


@dataclass(frozen=True)
class Mark:
    """A reviewer's decision on a case."""

    case: str
    mark: str  # of `MARKS`
    note: str
    reviewer: str
    time: datetime
    sha256: str  # of the reviewed result; empty: no result


def read_review(path: Path) -> list[Mark]:
    """Read the file that the report saved.

    Raises:
        InputError: no such file, or an invalid row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"a review must be a CSV file as the report saves it, got {error} for {path}") from error
    check_separator(rows[0] if rows else (), path)
    if rows and not set(COLUMNS) <= set(rows[0]):
        raise InputError(f"a review must have the columns {', '.join(COLUMNS)}, got {', '.join(rows[0])} in {path}")
    try:
        marks = [
            Mark(
                _unquoted(row["case"]),
                row["mark"],
                _unquoted(row["note"]),
                _unquoted(row["reviewer"]),
                datetime.fromisoformat(row["time"]),
                row["sha256"],
            )
            for row in rows
        ]
    except (ValueError, TypeError) as error:
        raise InputError(f"a review must state times as ISO 8601, got {error} in {path}") from error
    if other := {mark.mark for mark in marks} - set(MARKS):
        raise InputError(f"a mark must be one of {', '.join(MARKS)}, got {', '.join(sorted(other))} in {path}")
    return marks


def _unquoted(cell: str) -> str:
    """Remove the apostrophe with which the report protects cells from being taken for formulas."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


@dataclass(frozen=True)
class Reviewed:
    """The effects of a review."""

    excluded: dict[str, str]  # id -> why
    again: tuple[Record, ...]  # to be segmented again
    outdated: tuple[str, ...]  # cases whose mark refers to an older result


def apply_review(marks: Sequence[Mark], records: Iterable[Record]) -> Reviewed:
    """Find the marked cases; the last mark of a case counts.

    Raises:
        InputError: a case that is not in the cohort.
    """
    by_name = {record.case: record for record in records}
    if unknown := [mark.case for mark in marks if mark.case not in by_name]:
        raise InputError(f"a review must be of this cohort, got {len(unknown)} other cases, such as {unknown[0]}")
    excluded, again, outdated = {}, [], []
    latest = {mark.case: mark for mark in sorted(marks, key=lambda mark: mark.time)}
    for mark in latest.values():
        record = by_name[mark.case]
        if mark.mark != KEEP and mark.sha256 != record.sha256:
            outdated.append(mark.case)
        elif mark.mark == EXCLUDE:
            excluded[record.id] = ": ".join(filter(None, (mark.reviewer, mark.note))) or "excluded"
        elif mark.mark == REDO and not (record.made is not None and record.made > mark.time):
            again.append(record)
    return Reviewed(excluded, tuple(again), tuple(outdated))
