"""Find structures in a whole image, and boxes around them, with a small network on a coarse grid."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool3d

from ..errors import InputError
from ..label_rules import DIRECTIONS, feature_faults
from ..located import Found, Located, Triple
from ..networks import UNetPlusPlus
from ..pieces import components
from .slab import as_tensor

SAMPLE = 100_000  # voxels to estimate the intensity distribution
AIR_SHARE, AIR_MARGIN = 0.1, 3  # fraction of the brightest intensity below which a voxel may be air; margin in voxels
PERCENTILES = (0.01, 0.99)  # of intensities, mapped to 0 and 1
WORDS = dict(zip(DIRECTIONS, ("right of", "in front of", "above"), strict=True))


class Locator:
    """Find a box around each structure in one coarse pass.

    The structures are the largest connected components of one class, from left to right: paired structures need no
    network to tell their sides apart.

    The image is preprocessed: on the network's grid, RAS. Its intensities may have any scale.

    Args:
        features: channels per level of the network, finest first.
        classes: names: the background, the located class, then others.
        structures: names of the located components, from left to right.
        labels: labels of the result for each structure.
        brain: names of the classes that are brain.
        order: triples of class, direction (R, A or S) and class: the first must lie further that way.
        spacing: of the coarse grid, mm; a multiple of `pixdim`.
        pixdim: spacing of the network's grid, mm.
        margin: of a box around its structure, mm.
        extent: smallest size of a whole image to the right, front and top, mm; empty: any.
        brain_ml: smallest brain volume of a whole image, mL.
        ml: smallest volume of a structure, mL.
        way_out: advice for other images, for messages.

    Raises:
        ValueError: a network that is too large for a locator.

    Attributes:
        network: labels a coarse image `(1, 1, X, Y, Z)`, 0 ... 1.

    Example:
        >>> classes, structures = ["background", "structure"], ["left", "right"]
        >>> locator = Locator(features=[4, 8], classes=classes, structures=structures, labels=[[1], [2]])
        >>> locator.network.out_channels
        2
    """

    def __init__(  # noqa: PLR0913 - all locator settings of a task
        self,
        *,
        features: Sequence[int],
        classes: Sequence[str],
        structures: Sequence[str],
        labels: Sequence[Sequence[int]],
        brain: Sequence[str] = (),
        order: Sequence[Sequence[str]] = (),
        spacing: float = 3.0,
        pixdim: Sequence[float] = (1.0, 1.0, 1.0),
        margin: float = 6.0,
        extent: Sequence[float] = (),
        brain_ml: float = 0.0,
        ml: float = 0.0,
        way_out: str = "",
    ) -> None:
        if fault := next(feature_faults(features), ""):
            raise ValueError(fault)
        self.classes, self.labels, self.order = tuple(classes), tuple(map(tuple, labels)), tuple(map(tuple, order))
        self.structures = tuple(structures)
        self.brain = [self.classes.index(name) for name in brain]
        self.spacing, self.pixdim, self.margin = spacing, tuple(pixdim), margin
        self.extent, self.brain_ml, self.ml, self.way_out = tuple(extent), brain_ml, ml, way_out
        self.factors = tuple(round(spacing / length) for length in self.pixdim)  # the network's voxels in a coarse one
        self.network = UNetPlusPlus(3, 1, len(self.classes), features, deep_supervision=False).eval()

    def __call__(self, image: torch.Tensor, affine: NDArray[np.float64] | None = None) -> Located:
        """Locate the structures.

        Args:
            image: `(1, 1, X, Y, Z)`, on the device of the network.
            affine: of its grid, RAS mm; None: origin at 0.

        Raises:
            InputError: not a whole image, no brain, or a missing structure.
        """
        self._check_extent(image.shape[2:])
        affine = np.diag([*self.pixdim, 1.0]) if affine is None else np.asarray(affine)
        classes, sure = self._classified(image)
        counts = np.bincount(classes.ravel(), minlength=len(self.classes))
        voxel_ml = math.prod(self.factors) * math.prod(self.pixdim) / 1000
        brain = float(counts[self.brain].sum() * voxel_ml)
        if self.brain and brain < self.brain_ml:
            raise self._refusal(f"an image must show at least {self.brain_ml:.4g} mL of brain, got {brain:.4g} mL")
        wanted = len(self.structures)
        pieces, counts_of = components(classes == 1, wanted)
        sizes = [count * voxel_ml for count in counts_of]
        if sum(size >= self.ml for size in sizes) < wanted:
            names, came = (
                " and ".join(self.structures),
                ", ".join(f"{size:.2g} mL" for size in sizes[:wanted]) or "none",
            )
            raise self._refusal(f"{names} must be within the image, at least {self.ml:g} mL each, got {came}")
        chosen = sorted(pieces, key=lambda piece: float(np.argwhere(piece)[:, 0].mean()))
        found = [self._found(at, piece, sure, affine, image.shape[2:]) for at, piece in enumerate(chosen)]
        remarks = (*self._contradictions(classes), *self._oddities(chosen, sizes))
        return Located(tuple(found), brain, remarks)

    def _check_extent(self, shape: Sequence[int]) -> None:
        lengths = [size * length for size, length in zip(shape, self.pixdim, strict=True)]
        if any(length < least for length, least in zip(lengths, self.extent, strict=False)):
            least, came = (" x ".join(f"{length:.0f}" for length in each) for each in (self.extent, lengths))
            raise self._refusal(f"a whole image must measure at least {least} mm (right, front, top), got {came} mm")

    def _refusal(self, message: str) -> InputError:
        if not self.way_out:
            return InputError(message)
        return InputError(f"{message}; {self.way_out}", option="task")

    def _classified(self, image: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the class and its probability for every coarse voxel."""
        coarse = avg_pool3d(as_tensor(image).float(), self.factors, ceil_mode=True)[0]
        box = shown(coarse)
        logits: torch.Tensor = self.network(normalised(coarse[(slice(None), *box)])[None])
        found = logits.float().softmax(1)[0].max(0)
        classes, sure = np.zeros(coarse.shape[1:], np.int64), np.ones(coarse.shape[1:], np.float32)
        sure[box], classes[box] = found.values.cpu().numpy(), found.indices.cpu().numpy()
        return classes, sure

    def _found(
        self,
        at: int,
        piece: NDArray[np.bool_],
        sure: NDArray[np.float32],
        affine: NDArray[np.float64],
        shape: Sequence[int],
    ) -> Found:
        """Measure a structure and its box."""
        places = np.argwhere(piece)
        low, high = places.min(0), places.max(0) + 1  # coarse voxels
        margins = [math.ceil(self.margin / length) for length in self.pixdim]
        starts = [max(int(a) * f - more, 0) for a, f, more in zip(low, self.factors, margins, strict=True)]
        stops = [
            min(int(b) * f + more, size) for b, f, more, size in zip(high, self.factors, margins, shape, strict=True)
        ]
        centre = (places.mean(0) + 0.5) * self.factors - 0.5
        return Found(
            name=self.structures[at],
            labels=self.labels[at],
            start=(starts[0], starts[1], starts[2]),
            stop=(stops[0], stops[1], stops[2]),
            centre=_triple(affine[:3, :3] @ centre + affine[:3, 3]),
            size=_triple((high - low) * self.spacing),
            ml=float(len(places) * math.prod(self.factors) * math.prod(self.pixdim) / 1000),
            uncertainty=float(1 - sure[piece].mean()),
            cut=bool((low == 0).any() or (high == piece.shape).any()),
        )

    def _contradictions(self, classes: NDArray[np.int64]) -> Iterator[str]:
        """Yield classes in the wrong order: the header's orientation may be wrong."""
        for first, direction, second in self.order:
            axis = DIRECTIONS.index(direction)
            near, far = (np.nonzero(classes == self.classes.index(name))[axis] for name in (second, first))
            if len(near) and len(far) and far.mean() <= near.mean():
                yield f"{first} does not lie {WORDS[direction]} {second}; check the orientation in the image's header"

    def _oddities(self, chosen: Sequence[NDArray[np.bool_]], sizes: Sequence[float]) -> Iterator[str]:
        """Yield oddities of the components: not side by side, or too many."""
        centres = [np.argwhere(piece).mean(0) for piece in chosen]
        for (one, other), (start, end) in zip(pairwise(self.structures), pairwise(centres), strict=True):
            if np.abs(end - start).argmax() != 0:
                yield f"{one} and {other} do not lie side by side; check the orientation in the image's header"
        count = len(chosen)
        if len(sizes) > count and sizes[count] > sizes[count - 1] / 2:
            yield f"{self.classes[1]} was seen in {sizes[count]:.2g} mL elsewhere too"


class LocatedNetwork(torch.nn.Module):
    """Hold the segmenting and the locating network together.

    One file has the weights of both.

    Called like the segmenting network.

    Args:
        segment: segments windows.
        locator: calls its own network.

    Example:
        >>> locator = Locator(features=[4, 8], classes=["background", "a"], structures=["a"], labels=[[1]])
        >>> LocatedNetwork(UNetPlusPlus(3, 1, 2, [4, 8]), locator).out_channels
        2
    """

    def __init__(self, segment: UNetPlusPlus, locator: Locator) -> None:
        super().__init__()
        self.segment, self.locate = segment, locator.network
        self.depth, self.first_head, self.out_channels = segment.depth, segment.first_head, segment.out_channels

    def forward(self, images: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Segment windows `(B, in_channels, *spatial)`."""
        logits: torch.Tensor = self.segment(images, depth)
        return logits

    def step(self, grid: dict[str, torch.Tensor], depth: int, *, last: bool = False) -> torch.Tensor:
        """As `UNetPlusPlus.step`."""
        return self.segment.step(grid, depth, last=last)


def located(network: torch.nn.Module, locator: Locator | None) -> torch.nn.Module:
    """Combine the segmenting and the locating network.

    Args:
        network: the segmenting network, or both.
        locator: None: no locator.

    Returns:
        Both; `network` itself without locator, or if already combined.

    Example:
        >>> network = UNetPlusPlus(3, 1, 2, [4, 8])
        >>> located(network, None) is network
        True
    """
    return LocatedNetwork(network, locator) if locator and isinstance(network, UNetPlusPlus) else network


def shown(image: torch.Tensor) -> tuple[slice, slice, slice]:
    """Return the part of an image `(1, X, Y, Z)` without surrounding air."""
    low, high = _quantiles(image, (0.01, 0.995))
    bright = image[0] > low + AIR_SHARE * (high - low)
    ends = []
    for axis in range(3):
        places = bright.any(tuple(other for other in range(3) if other != axis)).nonzero()[:, 0]
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, bright.shape[axis] - 1)
        ends.append(slice(max(first - AIR_MARGIN, 0), last + 1 + AIR_MARGIN))
    x, y, z = ends
    return x, y, z


def normalised(image: torch.Tensor) -> torch.Tensor:
    """Scale an image `(1, X, Y, Z)` by `PERCENTILES`, clipped to 0 ... 1."""
    low, high = _quantiles(image, PERCENTILES)
    scaled: torch.Tensor = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
    return scaled


def _quantiles(image: torch.Tensor, shares: tuple[float, float]) -> list[float]:
    sample = image.flatten()[:: max(image.numel() // SAMPLE, 1)]
    found: list[float] = torch.quantile(sample, torch.tensor(shares, dtype=image.dtype, device=image.device)).tolist()
    return found


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = map(float, values)
    return x, y, z
