"""What reviewers marked in the report, read back: cases that are left out, and cases that are segmented again."""

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
    sha256: str  # of the result that was reviewed; empty: there was none


def read_review(path: Path) -> list[Mark]:
    """Read what the report saved.

    Raises:
        InputError: no such file, or a row that does not say what it should.
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
    """A cell without the apostrophe that keeps spreadsheets from taking it for a formula, as the report saves it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


@dataclass(frozen=True)
class Reviewed:
    """What a review means for a cohort."""

    excluded: dict[str, str]  # id -> why
    again: tuple[Record, ...]  # to be segmented again
    outdated: tuple[str, ...]  # cases that were marked for another result than there is now


def apply_review(marks: Sequence[Mark], records: Iterable[Record]) -> Reviewed:
    """Find the cases that were marked; of several marks of a case the last one counts.

    Raises:
        InputError: a case that the cohort does not have.
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
