"""Messages between a driver and its workers, besides tasks and outcomes."""

from dataclasses import dataclass
from pathlib import Path

from .work import Builds, Work


@dataclass(frozen=True)
class Start:
    """First message to a worker: what to load and where to write."""

    builds: Builds
    work: Work
    output: Path  # folder of the results
    keyed: bool  # cases are pseudonymised


@dataclass(frozen=True)
class Ready:
    """First message of a worker: its model is loaded."""


@dataclass(frozen=True)
class Broken:
    """Last message of a worker that cannot work at all."""

    message: str
    option: str | None = None  # see `UnetppError`
