"""What drivers and workers say to each other, besides tasks and outcomes."""

from dataclasses import dataclass
from pathlib import Path

from .work import Builds, Work


@dataclass(frozen=True)
class Start:
    """The first that a worker is told."""

    builds: Builds
    work: Work
    output: Path  # folder of the results
    keyed: bool  # nothing may name a patient


@dataclass(frozen=True)
class Ready:
    """The first that a worker says: its model is loaded."""


@dataclass(frozen=True)
class Broken:
    """The last that a worker says: it cannot work at all."""

    message: str
    option: str | None = None  # see `UnetppError`
