"""What a cohort's folder remembers beside results: cases that failed or were special, late results, and runs."""

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

FOLDER = ".cohort"  # in that of the results
WRITTEN, DONE, FAILED, ELSEWHERE, WAITING, EXCLUDED = "written", "done", "failed", "elsewhere", "waiting", "excluded"
SCHEMA = 1  # of `run.json`


@dataclass(frozen=True)
class Outcome:
    """The result of a case."""

    id: str
    status: str  # one of the words above
    name: str | None = None  # of the results, where it was not known before
    reason: str = ""  # of a failure, one line
    kind: str = ""  # of a failure: the error's class
    note: str = ""  # of what was special, such as a second try
    late: bool = False  # another had delivered it meanwhile, so that our result was discarded
    memory: bool = False  # it failed because memory was too small
    seconds: float = 0.0  # wall time of it all
    host: str = field(default_factory=socket.gethostname)
    option: str | None = None  # of a failure: see `UnetppError`


class Ledger:
    """The files of a cohort below `OUT/.cohort`.

    Args:
        output: folder of the results.
        keyed: nothing may name a patient, so that names of results are remembered by ids.
    """

    def __init__(self, output: Path, *, keyed: bool = False) -> None:
        self.folder, self.keyed = output / FOLDER, keyed
        self.claims, self.pictures = self.folder / "claims", self.folder / "pictures"
        self._rows, self._late, self._runs, self._again = (
            self.folder / name for name in ("rows", "late", "runs", "again")
        )

    def make(self) -> None:
        """Make the folders.

        Raises:
            OutputError: they cannot be made.
        """
        for folder in (self.claims, self.pictures, self._rows, self._late, self._runs, self._again):
            make_folder(folder)

    def note(self, outcome: Outcome) -> None:
        """Remember an outcome that its report does not tell; forget an older one that it replaces.

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
        """What is remembered of a case with an id; None: nothing."""
        try:
            return Outcome(**json.loads((self._rows / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def failed_since(self, name: str, moment: float) -> Outcome | None:
        """The failure of a case that another loop noted after a moment of the server's clock."""
        try:
            if (self._rows / f"{name}.json").stat().st_mtime < moment:
                return None
        except FileNotFoundError:
            return None
        row = self.row(name)
        return row if row is not None and row.status == FAILED else None

    def want_again(self, name: str) -> None:
        """Remember that a case is to be segmented again; its results stay until others take their place."""
        (self._again / name).touch()

    def is_wanted_again(self, name: str) -> bool:
        """Whether the results of a case, if it has any, are to be replaced."""
        return (self._again / name).exists()

    def replaced(self, name: str) -> None:
        """Remember that a case has been segmented again."""
        (self._again / name).unlink(missing_ok=True)

    def picture(self, name: str) -> Path:
        """Path of the picture of a case, if it has one."""
        return self.pictures / f"{name}.webp"

    def late(self) -> int:
        """How many results were discarded since another was faster."""
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
        """All runs, by the time they began."""
        runs = [json.loads(path.read_text()) for path in self._runs.glob("*.json")]
        return sorted(runs, key=lambda run: str(run["began"]))

    def running(self) -> dict[str, dict[str, Any]]:
        """Cases that are segmented now, by id.

        Raises:
            OutputError: there is no cohort.
        """
        if not self.claims.is_dir():
            raise OutputError(f"a cohort must have been begun, got none in {self.folder.parent}; start it first")
        claims = Claims(self.claims)
        with claims:
            return claims.running()


def where() -> dict[str, Any]:
    """What and where this program is."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "software": {"unetpp_monai": __version__, "python": platform.python_version(), **versions()},
    }
