"""Run a cohort: start loops, record their progress, and write tables and report."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._version import __version__
from ..bundle import Bundle
from ..files import complete_file, finish_interrupted, make_folder
from ..workflows.calibrate import Quota
from ..workflows.outputs import BIDS
from .cases import DESCRIPTION, Case, Listed
from .claims import Claims
from .dispatch import Crew, dispatch
from .ledger import DONE, FAILED, SCHEMA, WRITTEN, Ledger, Outcome, where
from .report import REPORT, About, write_report
from .table import Record, read_records, write_tables

FOLLOWED_SECONDS = 5.0  # between two records of a run's progress
RUN = "run.json"
# files that a BIDS validator should ignore
NO_BIDS = ("*.csv", "*.html", "*.log", RUN, "*_uncertainty.nii.gz", "*.seg.nrrd")
BIDS_VERSION = "1.10.0"


@dataclass(frozen=True)
class Cohort:
    """Cases, and where and how to segment them."""

    listed: Listed
    output: Path
    bundle: Bundle
    keyed: bool = False  # cases are pseudonymised
    quota: Quota | None = None  # of scores, for this site
    excluded: Mapping[str, str] = field(default_factory=dict)  # id of a case -> why it is excluded
    stated: Mapping[str, Any] = field(default_factory=dict)  # what `run.json` states about this run, in JSON's types

    @property
    def ledger(self) -> Ledger:
        """Its notes."""
        return Ledger(self.output, keyed=self.keyed)


def prepare(cohort: Cohort) -> None:
    """Create the folders, and clean up after killed processes.

    Raises:
        OutputError: a folder cannot be used.
    """
    make_folder(cohort.output)
    cohort.ledger.make()
    claims = Claims(cohort.ledger.claims)
    with claims:
        claims.clean_up()
    for folder in sorted({case.folder for case in cohort.listed.cases}):
        if folder.is_dir():
            finish_interrupted(folder, ending=cohort.listed.naming.report)
    if cohort.listed.naming == BIDS:
        _describe(cohort)


def run_cases(
    cohort: Cohort,
    cases: Sequence[Case],
    crew: Crew,
    *,
    launcher: Mapping[str, Any],
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Counter[str]:
    """Segment cases.

    Args:
        cohort: to which they belong.
        cases: all or some of them; excluded ones are skipped.
        crew: segments the cases; started and ended here.
        launcher: description for `run.json`.
        progress: called with the outcome of each case.

    Returns:
        Number of cases by status; "late": discarded results.

    Raises:
        OutputError: nothing can be written, or workers cannot start.
    """
    wanted = [case for case in cases if case.id not in cohort.excluded]
    counts: Counter[str] = Counter()
    with _followed(cohort, counts, {**launcher, "cases": len(wanted)}) as note, crew:
        for outcome in dispatch(crew, wanted, cohort.ledger):
            counts[outcome.status] += 1
            counts["late"] += outcome.late
            progress(outcome)
            note()
    return counts


def write_results(cohort: Cohort) -> list[Record]:
    """Write tables, report and `run.json` of all cases, by whichever process they were segmented.

    Raises:
        OutputError: they cannot be written.
    """
    records = cohort_records(cohort)
    write_tables(records, cohort.output, labels=cohort.bundle.labels)
    ledger = cohort.ledger
    about = About(cohort.bundle, cohort.listed.kind, cohort.quota, ledger.late())
    write_report(records, ledger.pictures, cohort.output / REPORT, about=about)
    states = Counter(record.status for record in records)
    content = {
        "schema": SCHEMA,
        "input": cohort.listed.kind,
        "cases": len(records),
        "states": dict(states),
        "excluded": len(cohort.excluded),
        "left_out": dict(Counter(cohort.listed.left_out)),
        "late_results_discarded": ledger.late(),
        "bundle": {"name": cohort.bundle.name, "version": cohort.bundle.version},
        "weights_sha256": cohort.bundle.weights_sha256,
        "config_sha256": cohort.bundle.config_sha256,
        "runs": ledger.runs(),
    }
    with complete_file(cohort.output / RUN) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return records


def cohort_records(cohort: Cohort) -> list[Record]:
    """Results of all cases so far, and the inputs that are not cases."""
    records = read_records(cohort.listed.cases, cohort.ledger, cohort.listed.naming, excluded=cohort.excluded)
    return [*records, *input_records(cohort)]


def input_records(cohort: Cohort) -> list[Record]:
    """Return records of inputs that are no cases; without names if pseudonymised."""
    found = []
    for number, row in enumerate(cohort.listed.rows, start=1):
        name, reason = (f"input {number}", "") if cohort.keyed else (str(row.case), row.reason)
        found.append(Record(name, "", FAILED, reason=reason, kind=type(row.error).__name__))
    return found


def state_of_runs(output: Path) -> dict[str, Any]:
    """Return the progress of a cohort, on all machines.

    Raises:
        OutputError: no cohort in this folder.
    """
    ledger = Ledger(output)
    running = ledger.running()
    latest = {str(run["launcher"].get("shard", "")): run for run in ledger.runs()}
    total: Counter[str] = Counter()
    for run in latest.values():
        total.update({"cases": run["launcher"]["cases"], **run["counts"]})
    done = total[DONE] + total[WRITTEN]
    return {
        "cases": total["cases"],
        "done": done,
        "failed": total[FAILED],
        "waiting": total["cases"] - done - total[FAILED],
        "late_results_discarded": ledger.late(),
        "running": [
            {"case": name, "host": claim.get("host"), "pid": claim.get("pid")} for name, claim in running.items()
        ],
        "failures": [{"case": row.name or row.id, "reason": row.reason} for row in ledger.failures()],
        "runs": [
            {key: run[key] for key in ("began", "updated", "ended", "launcher", "counts", "rate")}
            for run in latest.values()
        ],
    }


@contextmanager
def _followed(cohort: Cohort, counts: Counter[str], launcher: Mapping[str, Any]) -> Iterator[Callable[[], None]]:
    """Record the progress of a run in the ledger, regularly and at its end."""
    name, start = uuid.uuid4().hex[:12], time.monotonic()
    run = {"began": _now(), **where(), "launcher": dict(launcher), **cohort.stated}
    last = -FOLLOWED_SECONDS

    def note(*, ended: bool = False) -> None:
        nonlocal last
        seconds = time.monotonic() - start
        if not ended and seconds - last < FOLLOWED_SECONDS:
            return
        last = seconds
        rate = round((counts.total() - counts["late"]) / max(seconds, 1e-3), 3)
        end = {"updated": _now(), "ended": _now() if ended else None, "counts": dict(counts), "rate": rate}
        cohort.ledger.write_run({**run, **end}, name)

    note()
    try:
        yield note
    finally:
        note(ended=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(cohort: Cohort) -> None:
    """Describe the folder as derivatives of a BIDS data set."""
    bundle = cohort.bundle
    made = {"Name": "unetpp_monai", "Version": __version__, "Description": f"{bundle.name} {bundle.version}"}
    content = {
        "Name": f"Segmentations by {bundle.name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made],
    }
    with complete_file(cohort.output / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    with complete_file(cohort.output / ".bidsignore") as temporary:
        temporary.write_text("\n".join(NO_BIDS) + "\n")
