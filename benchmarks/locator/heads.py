"""Heads synthesised from label maps: any contrast, resolution and field of view, so that none of them matters.

As SynthSeg does it (Billot et al. 2023, arXiv 2107.09559): a label map is deformed, each label gets an intensity at
random, and what a scanner would do is done to the image. The maps are those of SynthSeg, Apache-2.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch.nn.functional import avg_pool3d, grid_sample, interpolate

LEFT = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 25, 26, 28, 30, 136, 163)  # FreeSurfer's numbers
RIGHT = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 57, 58, 60, 62, 137, 164)
BOTH = (14, 15, 16, 24, 85)
HIPPOCAMPI = (17, 53)
CEREBELLUM = (7, 8, 46, 47)
OUTSIDE_BRAIN = 500  # labels from here on are skull, skin, ...
CLASSES = ("background", "hippocampus", "cerebrum", "other brain", "head")  # sides are told apart by their place
HELD_OUT = (1, 7, 13, 18)  # maps that no training sees; 07, 01 and 18 have small hippocampi
SPACING, SIZE = 3.0, 80  # mm and voxels of what the locator sees
AS_MR, AS_T2 = 0.85, 0.15  # shares of images with the contrast of an MR image, and of these with that of a T2
FINE = 2  # times finer is the grid on which intensities are drawn


@dataclass(frozen=True)
class Map:
    """A label map of a head, RAS, 1 mm."""

    number: int
    labels: torch.Tensor  # (X, Y, Z) uint8, index into `values`
    values: tuple[int, ...]


def read_maps(folder: Path, numbers: Sequence[int]) -> list[Map]:
    """Read maps by their number."""
    found = []
    for number in numbers:
        image = nib.as_closest_canonical(nib.load(folder / f"map_{number:02d}.nii.gz"))
        values, index = np.unique(np.asanyarray(image.dataobj).astype(np.int64), return_inverse=True)
        labels = torch.from_numpy(index.reshape(image.shape).astype(np.uint8))
        found.append(Map(number, labels, tuple(values.tolist())))
    return found


def classes_of(values: Sequence[int]) -> torch.Tensor:
    """Class of each label value."""
    return torch.tensor([_class_of(value) for value in values], dtype=torch.uint8)


def _class_of(value: int) -> int:
    if value in (0, *HIPPOCAMPI):
        return int(value in HIPPOCAMPI)
    if value >= OUTSIDE_BRAIN:
        return 4
    return 3 if value in BOTH or value in CEREBELLUM else 2


class Synthesis:
    """Draws heads from label maps.

    Args:
        maps: to draw from.
        cache: folder for deformed maps, 4 MB each; made as they are needed.
        count: of deformed maps; each is painted anew whenever it is drawn.
        strength: of deformation and degradation, 0 ... 1.
    """

    def __init__(self, maps: Sequence[Map], cache: Path, *, count: int = 400, strength: float = 1.0) -> None:
        self.maps, self.cache, self.count, self.strength = list(maps), cache, count, strength
        self.rng = np.random.default_rng(0)
        cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw an image `(1, 80, 80, 80)` float32 and its classes, the same shape, uint8; all by the seed."""
        number = int(np.random.default_rng(seed).integers(self.count))
        labels, values = self._cached(number)
        self.rng = np.random.default_rng((seed, 1))
        if self.rng.random() < 0.5:
            labels, values = labels.flip(0), _mirrored(values)
        labels = self._visible(labels, values)
        classes = classes_of(values)[labels.long()]
        image = self._scanned(self._painted(labels, values))
        return normalised(image), _majority(classes)

    def _cached(self, number: int) -> tuple[torch.Tensor, tuple[int, ...]]:
        path = self.cache / f"{number}.pt"
        if not path.exists():
            self.rng = np.random.default_rng((number, 0))
            torch.save(self._deformed(self.maps[number % len(self.maps)]), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        labels, values = torch.load(path, weights_only=True)
        return labels, tuple(values)

    def _deformed(self, head: Map) -> tuple[torch.Tensor, tuple[int, ...]]:
        """The map on a grid of 1.5 mm around a place near its middle."""
        size = SIZE * FINE
        step = SPACING / FINE
        axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * step
        places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
        places = places + self._elastic(size)
        places = places @ torch.from_numpy(self._matrix()).float().T
        shape = torch.tensor(head.labels.shape, dtype=torch.float32)
        middle = shape / 2 + torch.from_numpy(self.rng.normal(0, 12 * self.strength, 3)).float()
        grid = 2 * (places + middle) / (shape - 1) - 1
        found = grid_sample(
            head.labels[None, None].float(),
            grid.flip(-1)[None],
            mode="nearest",
            padding_mode="zeros",
            align_corners=True,
        )
        return found[0, 0].to(torch.uint8), head.values

    def _matrix(self) -> np.ndarray:
        angles = self.rng.normal(0, np.deg2rad(12) * self.strength, 3)
        scale = np.exp(self.rng.normal(0, 0.1 * self.strength, 3) + self.rng.normal(0, 0.06 * self.strength))
        matrix = np.diag(scale)
        for axis, angle in enumerate(angles):
            turn = np.eye(3)
            first, second = (axis + 1) % 3, (axis + 2) % 3
            turn[[first, first, second, second], [first, second, first, second]] = (
                np.cos(angle),
                -np.sin(angle),
                np.sin(angle),
                np.cos(angle),
            )
            matrix = matrix @ turn
        shear = np.eye(3) + np.triu(self.rng.normal(0, 0.05 * self.strength, (3, 3)), 1)
        return np.asarray(matrix @ shear)

    def _elastic(self, size: int) -> torch.Tensor:
        points = int(self.rng.integers(4, 10))
        field = self.rng.normal(0, self.rng.uniform(0, 4 * self.strength), (1, 3, points, points, points))
        return interpolate(torch.from_numpy(field).float(), size=(size,) * 3, mode="trilinear")[0].permute(1, 2, 3, 0)

    def _visible(self, labels: torch.Tensor, values: tuple[int, ...]) -> torch.Tensor:
        """What is in the image: a stripped, defaced or whole head, and a field of view that may end within it."""
        outside = torch.tensor([value >= OUTSIDE_BRAIN for value in values])
        kind = self.rng.random()
        if kind < 0.2:
            labels = torch.where(outside[labels.long()], 0, labels)
        elif kind < 0.35:
            labels = self._defaced(labels, outside)
        if self.rng.random() < 0.5:
            labels = labels.clone()
            for axis in range(3):
                for end in (0, 1):
                    cut = int(self.rng.exponential(6.0) * (self.rng.random() < 0.4) * (SPACING / 3) * FINE)
                    if axis == 2 and end == 1:
                        cut //= 2
                    if cut:
                        labels.narrow(axis, 0 if end == 0 else labels.shape[axis] - cut, cut).zero_()
        return labels

    def _defaced(self, labels: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
        size = labels.shape[0]
        y, z = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        front = (y - size / 2) - self.rng.uniform(0.2, 0.9) * (z - size / 2) > size * self.rng.uniform(0.15, 0.3)
        return torch.where(front[None] & outside[labels.long()], 0, labels)

    def _painted(self, labels: torch.Tensor, values: tuple[int, ...]) -> torch.Tensor:
        """Give every label an intensity; left and right share theirs mostly."""
        means = self.rng.uniform(0, 1, len(values))
        spreads = self.rng.uniform(0.01, 0.12, len(values))
        pairs = {value: place for place, value in enumerate(values)}
        for left, right in zip(LEFT, RIGHT, strict=True):
            if left in pairs and right in pairs:
                means[pairs[right]], spreads[pairs[right]] = means[pairs[left]], spreads[pairs[left]]
        if 0 in pairs:
            means[pairs[0]] = 0 if self.rng.random() < 0.7 else self.rng.uniform(0, 0.3)
            spreads[pairs[0]] = self.rng.uniform(0, 0.03)
        if self.rng.random() < AS_MR:
            self._as_mr(means, pairs)
        index = labels.long()
        noise = torch.from_numpy(self.rng.standard_normal(labels.shape, dtype=np.float32))
        return torch.from_numpy(means).float()[index] + torch.from_numpy(spreads).float()[index] * noise

    def _as_mr(self, means: np.ndarray, pairs: dict[int, int]) -> None:
        """White, grey and fluid in the order of a T1 or a T2 image."""
        white, grey, fluid = np.sort(self.rng.uniform(0.1, 0.9, 3))[::-1]
        if self.rng.random() < AS_T2:
            white, fluid = fluid, white
        groups = (
            ((2, 41, 7, 46, 16, 28, 60), white),
            ((3, 42, 8, 47, 11, 50, 12, 51, 17, 53, 18, 54, 26, 58), grey),
            ((4, 43, 5, 44, 14, 15, 24), fluid),
        )
        for members, mean in groups:
            for value in members:
                if value in pairs:
                    means[pairs[value]] = mean + self.rng.normal(0, 0.03)

    def _scanned(self, image: torch.Tensor) -> torch.Tensor:
        """Bias, blur, resolution, noise and gamma, as scanners have them; at 3 mm afterwards."""
        rng, s = self.rng, self.strength
        points = int(rng.integers(2, 6))
        bias = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.5 * s), (1, 1, points, points, points))).float()
        image = image[None, None] * torch.exp(interpolate(bias, size=tuple(image.shape), mode="trilinear"))
        if rng.random() < 0.4:
            image = self._thick(image)
        image = avg_pool3d(image, FINE)
        image = image + rng.uniform(0, 0.06 * s) * torch.from_numpy(
            rng.standard_normal(tuple(image.shape), dtype=np.float32)
        )
        image = (image - image.min()) / (image.max() - image.min() + 1e-6)
        return image[0] ** float(np.exp(rng.normal(0, 0.25 * s)))

    def _thick(self, image: torch.Tensor) -> torch.Tensor:
        """Slices of 4 to 9 mm along one axis."""
        factor = int(self.rng.integers(3, 7))
        kernel = [1, 1, 1]
        kernel[self.rng.integers(3)] = factor
        low = avg_pool3d(image, tuple(kernel), ceil_mode=True)
        return interpolate(low, size=tuple(image.shape[2:]), mode="trilinear")


def normalised(image: torch.Tensor) -> torch.Tensor:
    """Scale an image `(1, X, Y, Z)` by its percentiles 1 and 99, clipped."""
    sample = image.flatten()[:: max(image.numel() // 100_000, 1)]
    low, high = torch.quantile(sample, torch.tensor([0.01, 0.99], dtype=image.dtype)).tolist()
    return ((image - low) / max(high - low, 1e-6)).clamp(0, 1)


def _mirrored(values: tuple[int, ...]) -> tuple[int, ...]:
    swap = {**dict(zip(LEFT, RIGHT, strict=True)), **dict(zip(RIGHT, LEFT, strict=True))}
    return tuple(swap.get(value, value) for value in values)


def _majority(classes: torch.Tensor) -> torch.Tensor:
    """Classes `(X, Y, Z)` at half the resolution: the one that most of a voxel has."""
    size = classes.shape[0] // FINE
    shares = torch.stack(
        [avg_pool3d((classes == index)[None, None].float(), FINE)[0, 0] for index in range(len(CLASSES))]
    )
    return shares.argmax(0).to(torch.uint8).reshape(1, size, size, size)
