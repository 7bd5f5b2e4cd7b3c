"""Where structures were found in a whole image, before each was segmented in a box of its own."""

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Found:
    """One structure that was located, and the box around it."""

    name: str  # such as "left hippocampus"
    labels: tuple[int, ...]  # of the result, for the network's labels 1, 2, ... in the box
    start: tuple[int, int, int]  # first voxel of the box on the network's grid, 0-based
    stop: tuple[int, int, int]  # first voxel behind the box
    centre: Triple  # mean of the structure, mm, RAS
    size: Triple  # of the structure along the grid's axes, without the box's margin, mm
    ml: float  # of the structure as the locator sees it, mL
    uncertainty: float  # mean of 1 - max probability over its voxels, 0 (sure) ... 1
    cut: bool  # it reaches an end of the image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the box."""
        x, y, z = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return x, y, z

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box as indices of the network's grid."""
        x, y, z = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Located:
    """All that was located in one image."""

    found: tuple[Found, ...]  # in the order of the labels
    brain_ml: float  # of the brain as the locator sees it, mL; no measure of intracranial volume
    remarks: tuple[str, ...] = ()  # what of it contradicts anatomy, one sentence each
