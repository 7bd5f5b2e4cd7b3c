"""Read the results of a cohort from its reports and ledger, and write its tables."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..files import complete_file
from ..labels import Label
from ..workflows.outputs import Naming
from .cases import Case
from .ledger import DONE, EXCLUDED, FAILED, WAITING, Ledger

LONG = ("case", "label", "index", "voxels", "ml", "score")  # columns of `results.csv`
FORMULA = ("=", "+", "-", "@")  # first characters of what a spreadsheet takes for a formula
ERRORS = ("case", "kind", "reason", "note", "host")
FIXED = ("case", "status", "review", "score", "plausibility", "note", "excluded", "depth", "runtime", "seconds")
OLD = "to be segmented again; this is the older result"
RESULTS, WIDE, FAILURES = "results.csv", "results_wide.csv", "errors.csv"


@dataclass(frozen=True)
class Record:
    """One case of a cohort, for tables and report."""

    case: str  # name of its results; id of a failed case that is pseudonymised
    id: str
    status: str  # done, failed, waiting or excluded
    report: Mapping[str, Any] = field(default_factory=dict)  # JSON report of its results; empty: no results
    reason: str = ""  # of a failure
    kind: str = ""  # of a failure
    note: str = ""  # a remark
    host: str = ""  # of a failure
    excluded: str = ""  # why a reviewer excluded it
    made: datetime | None = None  # when its results were delivered; None: no results

    @property
    def sha256(self) -> str:
        """Hash of its first output, which identifies what was reviewed."""
        outputs = self.report.get("outputs", {})
        return next((str(written["sha256"]) for written in outputs.values()), "")

    @property
    def seconds(self) -> float | None:
        """Wall time of all steps, s; None: no results."""
        return round(sum(self.report["seconds"].values()), 3) if self.report else None

    @property
    def values(self) -> Mapping[str, float]:
        """Label -> mL, or pixels for pictures."""
        values: Mapping[str, float] = self.report.get("ml") or self.report.get("voxels", {})
        return values


def read_records(cases: Iterable[Case], ledger: Ledger, naming: Naming, *, excluded: Mapping[str, str]) -> list[Record]:
    """Read the results of all cases, in their order.

    Args:
        cases: of the cohort.
        ledger: of the cohort.
        naming: of results.
        excluded: id of a case -> why a reviewer excluded it.
    """
    records = (_record(case, ledger, naming) for case in cases)
    return [replace(record, excluded=excluded.get(record.id, "")) for record in records]


def _record(case: Case, ledger: Ledger, naming: Naming) -> Record:
    row = ledger.row(case.id)
    name = case.name or (row.name if row is not None else None)
    note = row.note if row is not None else ""
    if row is not None and row.status == FAILED:
        return Record(name or case.id, case.id, FAILED, {}, row.reason, row.kind, note, row.host)
    report, made = ({}, None) if name is None else _read(case.folder / f"{name}{naming.report}")
    if report and ledger.is_wanted_again(case.id):
        note = OLD
    return Record(name or case.id, case.id, DONE if report else WAITING, report, note=note, made=made)


def _read(path: Path) -> tuple[dict[str, Any], datetime | None]:
    """Return a report, and when it was written."""
    try:
        found = json.loads(path.read_text())
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError):
        return {}, None
    return (found, made) if isinstance(found, dict) and "outputs" in found else ({}, None)


def write_tables(records: Sequence[Record], folder: Path, *, labels: Sequence[Label]) -> None:
    """Write `results.csv`, a row for each case and label, `results_wide.csv`, one for each case, and `errors.csv`.

    Args:
        records: of the cases.
        folder: for the tables.
        labels: of the bundle.

    Raises:
        OutputError: one cannot be written.
    """
    names = [label.name for label in labels]
    write_csv(folder / RESULTS, LONG, (row for record in records for row in _long(record, labels)))
    units = {"ml" if record.report.get("ml") else "pixels" for record in records if record.report}
    unit = units.pop() if len(units) == 1 else "ml"
    columns = (*FIXED, *(f"{unit}_{name}" for name in names))
    write_csv(folder / WIDE, columns, (_wide(record, names) for record in records))
    failed = (record for record in records if record.status == FAILED)
    write_csv(folder / FAILURES, ERRORS, ((r.case, r.kind, r.reason, r.note, r.host) for r in failed))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, complete or not at all; None becomes an empty cell.

    Raises:
        OutputError: it cannot be written.
    """
    with complete_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(["" if cell is None else _safe(cell) for cell in row] for row in rows)


def _safe(cell: object) -> object:
    """Mark text that a spreadsheet would take for a formula; file names come from strangers."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in FORMULA else cell


def _long(record: Record, labels: Sequence[Label]) -> Iterable[Sequence[object]]:
    for label in labels if record.report else ():
        voxels, ml, score = (record.report[key].get(label.name) for key in ("voxels", "ml", "scores"))
        yield record.case, label.name, label.index, voxels, ml, score


def _wide(record: Record, names: Sequence[str]) -> Sequence[object]:
    report = record.report
    status = EXCLUDED if record.excluded else record.status
    plausibility = "; ".join(report.get("plausibility") or ())
    said = (report.get("review"), report.get("score"), plausibility, record.note, record.excluded)
    how = (report.get("depth"), report.get("runtime"), record.seconds)
    return (record.case, status, *said, *how, *(record.values.get(name) for name in names))
