"""Provenance of results: the algorithm, and the proof of reading back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ALGORITHM_KINDS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")  # DICOM's Segment Algorithm Type (0062,0008)


@dataclass(frozen=True)
class Algorithm:
    """Name what made a label map.

    Example:
        >>> Algorithm("our network", "1.0", {"depth": "4"}).title
        'our network 1.0'
    """

    name: str  # such as the bundle's name; empty if a person made it
    version: str  # such as the bundle's version
    parameters: Mapping[str, str] = field(default_factory=dict)  # such as weights_sha256, depth
    kind: str = "AUTOMATIC"  # of ALGORITHM_KINDS

    @property
    def title(self) -> str:
        """Name and version, for descriptions."""
        return f"{self.name} {self.version}".strip() or "by hand"


@dataclass(frozen=True)
class ReadBack:
    """Proof that a written file equals its label map, voxel by voxel in patient space."""

    reader: str  # software that read it, such as "highdicom 0.28.2"
    voxels: int  # labelled voxels of the label map
    different: int  # voxels with another label; always 0 in a delivered file
    largest_mm: float  # largest error of a grid corner, mm
