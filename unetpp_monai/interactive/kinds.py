"""What a person can say about an image, and which of it a bundle takes.

Positions are mm in the patient, RAS unless said otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from ..bundle.components import attempt
from ..errors import BundleError, InputError
from ..labels import Label
from ..volume import Volume

BACKGROUND = "background"


@dataclass(frozen=True)
class Point:
    """A click: here is that label."""

    position: Sequence[float]  # mm in the patient
    label: str | int  # name or index; "background" or 0
    space: str = "RAS"  # of the position, or "LPS" as DICOM has it


@dataclass(frozen=True, eq=False)
class Scribble:
    """Assign a label to the places of a line."""

    positions: NDArray[np.floating[Any]] | Sequence[Sequence[float]]  # (N, 3), mm in the patient
    label: str | int  # name or index; "background" or 0
    connected: bool = True  # by straight lines, in their order; False: each stands alone
    space: str = "RAS"  # of the positions, or "LPS" as DICOM has it


@dataclass(frozen=True, eq=False)
class InitialLabels:
    """Begin with given labels; their inner voxels count as scribbles."""

    labels: Volume  # (1, X, Y, Z), label indices, on the grid of the image


Prompt = Point | Scribble | InitialLabels


@dataclass(frozen=True)
class Prompting:
    """Which prompts a bundle takes."""

    names: tuple[str, ...]  # of every label by index, the background first
    labels: tuple[int, ...]  # that can be prompted; each has a channel, in this order; none: the bundle is automatic
    radius: float  # of a point, mm
    pixdim: tuple[float, ...]  # spacing of the network's grid, mm

    @classmethod
    def of(cls, parser: ConfigParser, labels: Sequence[Label], channels: int) -> "Prompting":
        """Read what `inference.json` states.

        Args:
            parser: of it.
            labels: of the bundle.
            channels: of prompts that its network has.

        Raises:
            BundleError: they are not as many as labels that can be prompted, or no values.
        """
        names = (BACKGROUND, *(label.name for label in sorted(labels, key=lambda label: label.index)))
        if not channels and not parser.config.get("prompt_labels"):
            return cls(names, (), 0.0, ())

        def stated(key: str, kind: type) -> tuple[Any, ...]:
            found = attempt(lambda: parser.get_parsed_content(key), f"{key} must be stated")
            values = found if isinstance(found, list | tuple) else [found]
            return attempt(lambda: tuple(map(kind, values)), f"{key} must hold numbers")

        prompted, (radius, *_), pixdim = (
            stated("prompt_labels", int),
            stated("prompt_radius", float),
            stated("pixdim", float),
        )
        if len(prompted) != channels or not set(prompted) <= set(range(len(names))):
            raise BundleError(
                f"prompt_labels must be {channels} labels (prompt_channels of network_def), got {prompted}"
            )
        return cls(names, prompted, radius, pixdim)

    def index(self, label: str | int) -> int:
        """Index of a label by its name or index.

        Raises:
            InputError: there is none.
        """
        known = isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(self.names)
        if not known and label not in self.names:
            raise InputError(f"a label must be one of {', '.join(self.names)}, or its index, got {label!r}")
        return self.names.index(label) if isinstance(label, str) else label

    def channel(self, label: str | int) -> int:
        """Channel of a label that can be prompted.

        Raises:
            InputError: there is no such label, or it cannot be.
        """
        if (index := self.index(label)) not in self.labels:
            names = ", ".join(self.names[each] for each in self.labels)
            raise InputError(f"a label must be one that can be prompted, {names}, got {label!r}")
        return self.labels.index(index)
