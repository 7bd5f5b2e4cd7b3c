"""Notes in a cohort's folder, beside its results: failed cases, remarks, late results, runs."""

import json
import os
import platform
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import OutputError
from ..files import complete_file, make_folder
from ..workflows.report import versions
from .claims import Claims

FOLDER = ".cohort"  # in the folder of the results
WRITTEN, DONE, FAILED, ELSEWHERE, WAITING, EXCLUDED = "written", "done", "failed", "elsewhere", "waiting", "excluded"
SCHEMA = 1  # of `run.json`


@dataclass(frozen=True)
class Outcome:
    """The result of a case."""

    id: str
    status: str  # one of the words above
    name: str | None = None  # of the results, if it was not known before
    reason: str = ""  # of a failure, one line
    kind: str = ""  # of a failure: the error's class
    note: str = ""  # a remark, such as a second try
    late: bool = False  # another process delivered the case first, and our result was discarded
    memory: bool = False  # it failed for lack of memory
    seconds: float = 0.0  # wall time in total
    host: str = field(default_factory=socket.gethostname)
    option: str | None = None  # of a failure: see `UnetppError`


class Ledger:
    """The files of a cohort below `OUT/.cohort`.

    Args:
        output: folder of the results.
        keyed: cases are pseudonymised, so names of results are noted by id.
    """

    def __init__(self, output: Path, *, keyed: bool = False) -> None:
        self.folder, self.keyed = output / FOLDER, keyed
        self.claims, self.pictures = self.folder / "claims", self.folder / "pictures"
        self._rows, self._late, self._runs, self._again = (
            self.folder / name for name in ("rows", "late", "runs", "again")
        )

    def make(self) -> None:
        """Create the folders.

        Raises:
            OutputError: they cannot be created.
        """
        for folder in (self.claims, self.pictures, self._rows, self._late, self._runs, self._again):
            make_folder(folder)

    def note(self, outcome: Outcome) -> None:
        """Note what the report of a case does not contain; remove an older note.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._rows / f"{outcome.id}.json"
        if outcome.late:
            (self._late / f"{outcome.id}-{uuid.uuid4().hex[:8]}").touch()
        if outcome.status == DONE and path.is_file():
            known = self.row(outcome.id)
            outcome = replace(outcome, note=outcome.note or (known.note if known else ""))
        if outcome.status == FAILED or outcome.note or (self.keyed and outcome.name):
            with complete_file(path) as temporary:
                temporary.write_text(json.dumps(asdict(outcome)) + "\n")
        else:
            path.unlink(missing_ok=True)

    def row(self, name: str) -> Outcome | None:
        """Return the note on a case, by its id, or None."""
        try:
            return Outcome(**json.loads((self._rows / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def failed_since(self, name: str, moment: float) -> Outcome | None:
        """Return the failure of a case that another loop noted after a time of the file server, or None."""
        try:
            if (self._rows / f"{name}.json").stat().st_mtime < moment:
                return None
        except FileNotFoundError:
            return None
        row = self.row(name)
        return row if row is not None and row.status == FAILED else None

    def want_again(self, name: str) -> None:
        """Note that a case is to be segmented again; older results stay until newer ones replace them."""
        (self._again / name).touch()

    def is_wanted_again(self, name: str) -> bool:
        """Tell whether a case is to be segmented again."""
        return (self._again / name).exists()

    def replaced(self, name: str) -> None:
        """Note that a case has been segmented again."""
        (self._again / name).unlink(missing_ok=True)

    def picture(self, name: str) -> Path:
        """Return the path for the picture of a case."""
        return self.pictures / f"{name}.webp"

    def late(self) -> int:
        """Count the results that were discarded because another process was faster."""
        return len(list(self._late.iterdir()))

    def failures(self) -> list[Outcome]:
        """All cases whose last try failed."""
        rows = [self.row(path.stem) for path in sorted(self._rows.glob("*.json"))]
        return [row for row in rows if row is not None and row.status == FAILED]

    def write_run(self, run: Mapping[str, Any], name: str) -> None:
        """Record a run of a launcher, or its present state."""
        with complete_file(self._runs / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(run, indent=1) + "\n")

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, by start time."""
        runs = [json.loads(path.read_text()) for path in self._runs.glob("*.json")]
        return sorted(runs, key=lambda run: str(run["began"]))

    def running(self) -> dict[str, dict[str, Any]]:
        """Return the cases that are being segmented, by id.

        Raises:
            OutputError: no cohort in this folder.
        """
        if not self.claims.is_dir():
            raise OutputError(f"a folder must contain a cohort, got none in {self.folder.parent}; start it first")
        claims = Claims(self.claims)
        with claims:
            return claims.running()


def where() -> dict[str, Any]:
    """Describe this process, its machine and its software."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "software": {"unetpp_monai": __version__, "python": platform.python_version(), **versions()},
    }
