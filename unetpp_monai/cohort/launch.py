"""Which loops are started for a cohort, and with how many threads each."""

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
    """How loops are started: in this process, unless said otherwise."""

    workers: int = 0  # processes of this machine, or actors of a cluster; 0: none, or one for each GPU or core there
    shard: tuple[int, int] | None = None  # which part of the cases, 1 ... of how many
    ray: str | None = None  # address of a cluster, or "auto"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, got {self.workers}")

    @property
    def threads(self) -> int | None:
        """Threads of each worker; None: as many as there are."""
        return max(cores() // self.workers, 1) if self.workers and self.ray is None else None

    def part(self, listed: Listed) -> tuple[Case, ...]:
        """The cases that are wanted of these loops."""
        return listed.cases if self.shard is None else shard_of(listed.cases, *self.shard)

    def stated(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        kind = "ray" if self.ray is not None else "processes" if self.workers else "in-process"
        shard = "" if self.shard is None else "{}/{}".format(*self.shard)
        return {"kind": kind, "workers": self.workers or None, "threads": self.threads, "shard": shard}

    def crew(self, builds: Builds, work: Work, ledger: Ledger, *, gpu: bool = False) -> Crew:
        """Make the crew, which is not started yet.

        Args:
            builds: what segments, with `threads`.
            work: what is wanted of each case.
            ledger: of the cohort.
            gpu: each worker wants one.

        Raises:
            OutputError: Ray is wanted and not installed.
        """
        start = Start(builds, work, ledger.folder.parent, ledger.keyed)
        if self.ray is not None:
            from .cluster import Actors

            return Actors(self.ray, start, count=self.workers, gpu=gpu)
        if self.workers:
            return Workers(self.workers, start, threads=self.threads)
        return Alone(Loop(builds(), work, ledger))
