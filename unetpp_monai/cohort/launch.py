"""Choose where loops run, and with how many threads."""

from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..posix_only import cores
from .cases import Case, Listed, shard_of
from .dispatch import Alone, Crew
from .ledger import Ledger
from .local import Workers
from .loop import Loop
from .messages import Start
from .work import Builds, Work


@dataclass(frozen=True)
class Launch:
    """Where loops run: in this process by default."""

    workers: int = 0  # processes on this machine, or actors of a cluster; 0: none; on a cluster one per GPU or machine
    shard: tuple[int, int] | None = None  # part of the cases, from 1, and number of parts
    ray: str | None = None  # address of a cluster, or "auto"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, got {self.workers}")

    @property
    def threads(self) -> int | None:
        """Number of threads of each worker; None: no limit."""
        return max(cores() // self.workers, 1) if self.workers and self.ray is None else None

    def part(self, listed: Listed) -> tuple[Case, ...]:
        """Return the cases for these loops."""
        return listed.cases if self.shard is None else shard_of(listed.cases, *self.shard)

    def stated(self) -> dict[str, Any]:
        """Return what `run.json` states of it."""
        kind = "ray" if self.ray is not None else "processes" if self.workers else "in-process"
        shard = "" if self.shard is None else "{}/{}".format(*self.shard)
        return {"kind": kind, "workers": self.workers or None, "threads": self.threads, "shard": shard}

    def crew(self, builds: Builds, work: Work, ledger: Ledger, *, gpu: bool = False) -> Crew:
        """Create the crew, without starting it.

        Args:
            builds: loads the model, with `threads`.
            work: what to do with each case.
            ledger: of the cohort.
            gpu: each worker needs a GPU.

        Raises:
            OutputError: Ray is needed but not installed.
        """
        start = Start(builds, work, ledger.folder.parent, ledger.keyed)
        if self.ray is not None:
            from .cluster import Actors

            return Actors(self.ray, start, count=self.workers, gpu=gpu)
        if self.workers:
            return Workers(self.workers, start, threads=self.threads)
        return Alone(Loop(builds(), work, ledger))
