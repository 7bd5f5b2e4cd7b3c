"""What a loop does with a case, and how it is built wherever the loop runs: all of it can be sent to a process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..bundle import read_bundle
from ..depth import DepthLike
from ..files import make_folder
from ..runtimes.threads import limit_threads
from ..segmenter import Segmenter
from ..workflows.done import Origin, is_done
from ..workflows.many import Row, attempt
from ..workflows.request import Request
from ..workflows.segment import Unless
from .cases import Case
from .claims import BEAT_SECONDS, STALE_SECONDS
from .pictures import draw_case


class Segments(Protocol):
    """Segments a case."""

    def __call__(self, case: Case, *, unless: Unless, smallest: bool) -> Row:
        """Write the results of a case.

        Args:
            case: which.
            unless: asked before anything is computed, and again before anything is delivered.
            smallest: use as little memory as can be.
        """


class Builds(Protocol):
    """Builds what segments, in the process where it will."""

    def __call__(self) -> Segments:
        """Load the model."""


@dataclass(frozen=True)
class Model:
    """What segments."""

    bundle: Path | None = None  # as `read_bundle` takes it
    weights: Path | None = None
    trust: bool = False
    device: str = "auto"
    depth: DepthLike = None
    runtime: str = "auto"
    precision: str = "float32"
    volumes: int | None = None  # to come; see `Segmenter`

    def load(self) -> Segmenter:
        """Load it.

        Raises:
            BundleError, InputError: see `Segmenter`.
        """
        return Segmenter(
            read_bundle(self.bundle, weights=self.weights, trust=self.trust),
            device=self.device,
            depth=self.depth,
            runtime=self.runtime,
            precision=self.precision,
            volumes=self.volumes,
        )


@dataclass(frozen=True)
class Work:
    """What is wanted of every case."""

    request: Request
    verify: bool = False  # see `is_done`
    pictures: Path | None = None  # folder for one of each case; None: none are drawn
    beat: float = BEAT_SECONDS  # see `Claims`
    stale: float = STALE_SECONDS

    def is_done(self, path: Path, settings: Mapping[str, Any], origin: Origin, names: list[str]) -> bool:
        """As `done.is_done`."""
        return is_done(path, settings, origin, names, verify=self.verify)

    def request_of(self, case: Case) -> Request:
        """What is wanted of a case."""
        series = self.request.series if case.series is None else case.series
        return replace(self.request, name=case.name, series=series, overwrite=False)


@dataclass(frozen=True)
class Loaded:
    """A model, and what is wanted of it."""

    segmenter: Segmenter
    work: Work

    def __call__(self, case: Case, *, unless: Unless, smallest: bool) -> Row:
        """Segment a case, and draw its picture."""
        request = self.work.request_of(case)
        make_folder(case.folder)
        batch = self.segmenter.batches_of(1) if smallest else None
        try:
            row = attempt(self.segmenter, case.path, case.folder, request, unless=unless)
        finally:
            if batch is not None:
                self.segmenter.batches_of(batch)
        if row.result is not None and self.work.pictures is not None:
            draw_case(case, row.result, self.segmenter.bundle, request, self.work.pictures)
        return row


@dataclass(frozen=True)
class Segmenting:
    """Builds what segments by a bundle."""

    model: Model
    work: Work
    threads: int | None = None  # of the process; None: as many as there are

    def __call__(self) -> Loaded:
        """Load the model."""
        if self.threads is not None:
            limit_threads(self.threads)
        return Loaded(self.model.load(), self.work)


@dataclass(frozen=True)
class Task:
    """A case to be segmented."""

    case: Case
    smallest: bool = False  # alone, and with as little memory as can be
    note: str = ""  # why it is special
