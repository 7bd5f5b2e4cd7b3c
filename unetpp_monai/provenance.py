"""What results say of themselves: what made them, and that they were read back."""

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
        """What descriptions call it."""
        return f"{self.name} {self.version}".strip() or "by hand"


@dataclass(frozen=True)
class ReadBack:
    """Proof that a written file, read again, holds the label map it was made of, voxel by voxel in patient space."""

    reader: str  # what read it, such as "highdicom 0.28.2"
    voxels: int  # labelled voxels of the label map
    different: int  # voxels whose label differs; a file with any is never delivered
    largest_mm: float  # largest distance between where a corner of the grid should be and where it is
