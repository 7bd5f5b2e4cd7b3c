"""Positions of structures in a whole image, found before segmenting each in its box."""

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Found:
    """One located structure with its box."""

    name: str  # such as "left hippocampus"
    labels: tuple[int, ...]  # of the result, for the network's labels 1, 2, ... in the box
    start: tuple[int, int, int]  # first voxel of the box on the network's grid, 0-based
    stop: tuple[int, int, int]  # last voxel of the box + 1
    centre: Triple  # mean of the structure, mm, RAS
    size: Triple  # of the structure along the grid's axes, without the box's margin, mm
    ml: float  # volume of the structure by the locator, mL
    uncertainty: float  # mean of 1 - max probability over its voxels, 0 (sure) ... 1
    cut: bool  # it touches the border of the image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the box."""
        x, y, z = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return x, y, z

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Index of the box in the network's grid."""
        x, y, z = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Located:
    """All structures located in one image."""

    found: tuple[Found, ...]  # in the order of the labels
    brain_ml: float  # volume of the brain by the locator, mL; not the intracranial volume
    remarks: tuple[str, ...] = ()  # contradictions to anatomy, one sentence each
