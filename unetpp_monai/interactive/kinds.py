"""Kinds of prompts, and which of them a bundle supports.

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
    """A click on a voxel of a label.

    Example:
        >>> Point((-26.0, -20.5, -14.0), "left hippocampus").space
        'RAS'
    """

    position: Sequence[float]  # mm in the patient
    label: str | int  # name or index; "background" or 0
    space: str = "RAS"  # of the position, or "LPS" as DICOM has it


@dataclass(frozen=True, eq=False)
class Scribble:
    """A line of voxels of a label.

    Example:
        >>> Scribble([(-26.0, -20.5, -14.0), (-26.0, -24.0, -14.0)], "left hippocampus").connected
        True
    """

    positions: NDArray[np.floating[Any]] | Sequence[Sequence[float]]  # (N, 3), mm in the patient
    label: str | int  # name or index; "background" or 0
    connected: bool = True  # by straight lines, in order; False: separate points
    space: str = "RAS"  # of the positions, or "LPS" as DICOM has it
    spread: bool = True  # what is around follows; False: only the voxels themselves, where an outline is known


@dataclass(frozen=True, eq=False)
class InitialLabels:
    """Initial labels, whose inner voxels count as scribbles.

    Example:
        >>> InitialLabels(Volume(np.zeros((1, 8, 8, 8), np.uint8), np.eye(4))).labels.shape
        (8, 8, 8)
    """

    labels: Volume  # (1, X, Y, Z), label indices, on the grid of the image


Prompt = Point | Scribble | InitialLabels


@dataclass(frozen=True)
class Prompting:
    """The prompts that a bundle supports.

    Example:
        >>> Prompting(("background", "liver"), (0, 1), 3.0, 10.0, (1.5, 1.5, 1.5)).channel("liver")
        1
    """

    names: tuple[str, ...]  # of every label by index, the background first
    labels: tuple[int, ...]  # with prompts, one channel each, in this order; empty: the bundle is automatic
    radius: float  # of a point, mm
    reach: float  # of the correction around prompts, standard deviation, mm; 0: prompts only enter the network
    pixdim: tuple[float, ...]  # spacing of the network's grid, mm

    @classmethod
    def of(cls, parser: ConfigParser, labels: Sequence[Label], channels: int) -> "Prompting":
        """Read the prompt settings of `inference.json`.

        Args:
            parser: of `inference.json`.
            labels: of the bundle.
            channels: prompt channels of its network.

        Raises:
            BundleError: wrong number of labels, or invalid values.
        """
        names = (BACKGROUND, *(label.name for label in sorted(labels, key=lambda label: label.index)))
        if not channels and not parser.config.get("prompt_labels"):
            return cls(names, (), 0.0, 0.0, ())

        def stated(key: str, kind: type) -> tuple[Any, ...]:
            found = attempt(lambda: parser.get_parsed_content(key), f"{key} must be stated")
            values = found if isinstance(found, list | tuple) else [found]
            return attempt(lambda: tuple(map(kind, values)), f"{key} must hold numbers")

        prompted, (radius, *_), pixdim = (
            stated("prompt_labels", int),
            stated("prompt_radius", float),
            stated("pixdim", float),
        )
        reach, *_ = stated("prompt_reach", float) if "prompt_reach" in parser.config else (0.0,)
        if len(prompted) != channels or not set(prompted) <= set(range(len(names))):
            raise BundleError(
                f"prompt_labels must be {channels} labels (prompt_channels of network_def), got {prompted}"
            )
        return cls(names, prompted, radius, reach, pixdim)

    def index(self, label: str | int) -> int:
        """Return the index of a label by name or index.

        Raises:
            InputError: no such label.
        """
        if isinstance(label, str) and label in self.names:
            return self.names.index(label)
        if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(self.names):
            return int(label)
        raise InputError(f"a label must be one of {', '.join(self.names)}, or its index, got {shown(label)}")

    def channel(self, label: str | int) -> int:
        """Return the prompt channel of a label.

        Raises:
            InputError: no such label, or it has no prompts.
        """
        if (index := self.index(label)) not in self.labels:
            names = ", ".join(self.names[each] for each in self.labels)
            raise InputError(f"a prompt's label must be one of {names}, got {label!r}")
        return self.labels.index(index)


def shown(value: object) -> str:
    """Return any value in one short line, for messages."""
    return " ".join(repr(value)[:60].split())
