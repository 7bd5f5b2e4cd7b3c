"""What a loop does with each case: model, options and tasks, all of which can be sent to another process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..bundle import read_bundle
from ..depth import DepthLike
from ..files import make_folder
from ..runtimes.threads import limit_threads
from ..segmenter import Segmenter
from ..workflows.done import CaseInput, is_done
from ..workflows.many import Row, attempt
from ..workflows.request import Request
from ..workflows.segment import Then, Unless, nothing
from .cases import Case
from .claims import BEAT_SECONDS, STALE_SECONDS
from .pictures import draw_case


class Segments(Protocol):
    """A function that segments a case."""

    def __call__(self, case: Case, *, unless: Unless, overwrite: bool, smallest: bool) -> Row:
        """Write the results of a case.

        Args:
            case: what to segment.
            unless: called before computing and again before delivering; if true, the case is skipped.
            overwrite: replace existing results.
            smallest: use as little memory as possible.
        """


class Builds(Protocol):
    """A function that loads the model in the process that will use it."""

    def __call__(self) -> Segments:
        """Load the model."""


@dataclass(frozen=True)
class Model:
    """A bundle, and how to run it."""

    bundle: Path | None = None  # see `read_bundle`
    weights: Path | None = None
    trust: bool = False
    device: str = "auto"
    depth: DepthLike = None
    runtime: str = "auto"
    precision: str = "float32"
    volumes: int | None = None  # how many to expect; see `Segmenter`

    def load(self) -> Segmenter:
        """Load the model.

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
    """What to do with every case."""

    request: Request
    verify: bool = False  # see `is_done`
    pictures: Path | None = None  # folder for pictures; None: draw none
    beat: float = BEAT_SECONDS  # see `Claims`
    stale: float = STALE_SECONDS

    def is_done(self, path: Path, settings: Mapping[str, Any], case_input: CaseInput, names: list[str]) -> bool:
        """Tell whether a case is done; see `done.is_done`."""
        return is_done(path, settings, case_input, names, verify=self.verify)

    def request_of(self, case: Case, *, overwrite: bool) -> Request:
        """Return the request for one case."""
        series = self.request.series if case.series is None else case.series
        return replace(self.request, name=case.name, series=series, overwrite=overwrite)

    def files_of(self, name: str) -> set[str]:
        """Return the names of all files that results of a case can have, in all formats."""
        naming = self.request.naming
        endings = [ending for files in naming.formats.values() for ending in files]
        return {f"{name}{ending}" for ending in (naming.report, *endings, "_uncertainty.nii.gz")}


@dataclass(frozen=True)
class Loaded:
    """A loaded model, and what to do with each case."""

    segmenter: Segmenter
    work: Work

    def __call__(self, case: Case, *, unless: Unless, overwrite: bool, smallest: bool) -> Row:
        """Segment a case, and draw its picture."""
        request = self.work.request_of(case, overwrite=overwrite)
        make_folder(case.folder)
        batch = self.segmenter.batches_of(1) if smallest else None
        try:
            return attempt(self.segmenter, case.path, case.folder, request, unless=unless, then=self._draw(case))
        finally:
            if batch is not None:
                self.segmenter.batches_of(batch)

    def _draw(self, case: Case) -> Then:
        """Return the function that draws the picture of a case while its image is in memory."""
        if self.work.pictures is None:
            return nothing
        indices = [label.index for label in self.segmenter.bundle.labels]
        return partial(draw_case, self.work.pictures / f"{case.id}.webp", indices)


@dataclass(frozen=True)
class Segmenting:
    """Loads a model for a loop."""

    model: Model
    work: Work
    threads: int | None = None  # of the process; None: no limit

    def __call__(self) -> Loaded:
        """Load the model."""
        if self.threads is not None:
            limit_threads(self.threads)
        return Loaded(self.model.load(), self.work)


@dataclass(frozen=True)
class Task:
    """A case to be segmented."""

    case: Case
    smallest: bool = False  # alone, and with as little memory as possible
    note: str = ""  # remark for the tables
