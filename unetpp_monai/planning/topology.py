"""Choose spacing, strides, kernels and patch of a network from the cases' grids and a memory budget.

Source: nnU-Net v2 (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z), `network_topology.py` and
`default_experiment_planner.py`, with fewer levels, as a nested grid costs more. Axes: right, anterior, superior.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..memory import GIB

ANISOTROPY = 3.0  # ratio of spacings, and of sizes, from which an axis has thick slices
THICK = 10.0  # percentile of the spacing along such an axis, instead of the median
SMALLEST = 4  # voxels of an axis at the coarsest level
WITHIN = 2.0  # ratio to the finest spacing below which an axis is pooled and convolved
DEEPEST = {2: 5, 3: 4}  # steps between levels; the number of nodes grows with their square
START = {2: 2048, 3: 256}  # voxels per axis of the first patch in the search


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of a network."""

    strides: tuple[tuple[int, ...], ...]  # one entry per step
    kernels: tuple[tuple[int, ...], ...]  # one entry per level

    @property
    def divisors(self) -> tuple[int, ...]:
        """Return the divisors of window sizes."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def median_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Choose the spacing to which cases are resampled, mm.

    Args:
        spacings: of the cases.
        shapes: of the cases, voxels.
    """
    chosen: NDArray[np.float64] = np.median(spacings, axis=0)
    worst = int(np.argmax(chosen))
    others = [axis for axis in range(len(chosen)) if axis != worst]
    sizes = median_shape(spacings, shapes, chosen.tolist())
    if chosen[worst] > ANISOTROPY * max(chosen[others]) and sizes[worst] * ANISOTROPY < min(
        sizes[axis] for axis in others
    ):
        finer = np.percentile([spacing[worst] for spacing in spacings], THICK)
        chosen[worst] = max(finer, max(chosen[others]))
    return tuple(float(f"{mm:.4g}") for mm in chosen)


def median_shape(
    spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]], spacing: Sequence[float]
) -> tuple[float, ...]:
    """Return the median size of the cases at a spacing, voxels."""
    sizes = np.median(np.array(shapes) * np.array(spacings) / np.array(spacing), axis=0)
    return tuple(float(size) for size in np.maximum(sizes, 1.0))


def pooling(spacing: Sequence[float], patch: Sequence[float]) -> Topology:
    """Choose strides and kernels: pool an axis while it is among the finest and long enough."""
    dims = len(patch)
    mm, size, kernel = list(spacing), list(patch), [1] * dims
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    while len(strides) < DEEPEST[dims]:
        long = [axis for axis in range(dims) if size[axis] >= 2 * SMALLEST]
        pooled = [axis for axis in long if mm[axis] < WITHIN * min(mm[other] for other in long)]
        if not pooled or (len(pooled) == 1 and size[pooled[0]] < 3 * SMALLEST and strides):
            break
        kernel = [3 if kernel[axis] == 3 or mm[axis] < WITHIN * min(mm) else 1 for axis in range(dims)]
        strides.append(tuple(2 if axis in pooled else 1 for axis in range(dims)))
        kernels.append(tuple(kernel))
        for axis in pooled:
            mm[axis], size[axis] = 2 * mm[axis], math.ceil(size[axis] / 2)
    return Topology(tuple(strides), (*kernels, (3,) * dims))


def _rounded(patch: Sequence[int], image: Sequence[float], divisors: Sequence[int], kept: float) -> tuple[int, ...]:
    """Round sizes to multiples: down along axes that keep enough of the image, else up."""
    down = (size // step * step for size, step in zip(patch, divisors, strict=True))
    up = (-(-size // step) * step for size, step in zip(patch, divisors, strict=True))
    return tuple(low if low >= kept * whole else high for low, high, whole in zip(down, up, image, strict=True))


def fit_patch(
    spacing: Sequence[float],
    shape: Sequence[float],
    peak: Callable[[Topology, tuple[int, ...]], float],
    budget: float,
    kept: float = 1.0,
) -> tuple[tuple[int, ...], Topology]:
    """Find the largest patch that fits: a cube in mm, clipped to the image, its relatively longest axis shortened.

    Args:
        spacing: mm.
        shape: median image at this spacing, voxels.
        peak: bytes needed for a topology and patch size.
        budget: bytes.
        kept: fraction of the image that an axis must keep to be rounded down to a multiple of its strides; else up.

    Raises:
        InputError: images are too small for one step, or the smallest patch does not fit.
    """
    dims, image = len(shape), np.array(shape)
    if max(image) < 2 * SMALLEST:
        sizes = " x ".join(f"{size:.0f}" for size in image)
        raise InputError(
            f"images must be {2 * SMALLEST} voxels or more along an axis, got {sizes} at {tuple(spacing)} mm; choose a "
            "finer spacing",
            option="spacing",
        )
    cube = np.array([1.0 / mm for mm in spacing])
    cube *= START[dims] / np.prod(cube) ** (1 / dims)
    patch = tuple(map(math.ceil, np.minimum(cube, image).round(3)))
    while True:
        topology = pooling(spacing, patch)
        whole = _rounded(patch, shape, topology.divisors, kept)
        if (needed := peak(topology, whole)) <= budget:
            return whole, topology
        long = [axis for axis in range(dims) if whole[axis] > 2 * SMALLEST]
        if not long:
            raise InputError(
                f"memory must suffice for a patch of {whole}, which needs {needed / GIB:.2g} GiB, got "
                f"{budget / GIB:.2g} GiB; allow more",
                option="memory",
            )
        axis = max(long, key=lambda axis: (whole[axis] / image[axis], whole[axis] * spacing[axis], -axis))
        shorter = list(whole)
        shorter[axis] = max(shorter[axis] - topology.divisors[axis], SMALLEST)
        shorter[axis] = whole[axis] - min(pooling(spacing, shorter).divisors[axis], whole[axis] - SMALLEST)
        patch = tuple(shorter)
