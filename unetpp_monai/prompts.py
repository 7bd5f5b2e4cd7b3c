"""Prompts for the network: marked voxels on its grid, one channel per label with prompts.

Used by training and interactive sessions alike. Voxels only, independent of files and patient space.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Marks = NDArray[np.int16]  # (*spatial): number of the channel that a voxel is marked in, NO_MARK = in none
NO_MARK = -1
MARKED = 16.0  # of a marked voxel in a map. Adam moves each weight by at most about the learning rate a step: with 1,
# kernels of prompts only learn at rates that spoil the automatic result
AT_ONCE = 1 << 20  # voxels that are marked at once, for memory


def no_marks(shape: Sequence[int]) -> Marks:
    """Return the marks of a grid without prompts."""
    return np.full(tuple(shape), NO_MARK, np.int16)


def ball(radius: float, pixdim: Sequence[float]) -> NDArray[np.int64]:
    """Return offsets `(N, axes)` of the voxels within a radius.

    Args:
        radius: mm; less than a voxel: only the voxel itself.
        pixdim: spacing of the grid, mm.

    Example:
        >>> len(ball(1.0, (1.0, 1.0, 1.0))), len(ball(3.0, (1.5, 1.5, 10.0)))
        (7, 13)
    """
    reach = [int(radius / length) for length in pixdim]
    axes = np.meshgrid(*(np.arange(-far, far + 1) for far in reach), indexing="ij")
    offsets = np.stack(axes, -1).reshape(-1, len(reach)).astype(np.int64)
    near: NDArray[np.bool_] = ((offsets * np.asarray(pixdim)) ** 2).sum(1) <= radius**2 + 1e-9
    return np.asarray(offsets[near])


def line(corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return voxels `(N, axes)` along a polyline with corners `(M, axes)` in voxels, without gaps."""
    voxels = np.rint(walk(corners)).astype(np.int64)
    return np.asarray(voxels[np.append(True, (voxels[1:] != voxels[:-1]).any(1))])


def walk(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places `(N, axes)` along a polyline with corners `(M, axes)` in voxels, half a voxel apart or less."""
    ahead, steps = np.diff(corners, axis=0), steps_of(corners)
    segment = np.repeat(np.arange(len(steps)), steps)
    step = np.arange(1, len(segment) + 1) - np.repeat(np.cumsum(steps) - steps, steps)
    along = corners[segment] + ahead[segment] * step[:, None] / steps[segment, None]
    return np.concatenate([corners[:1], along])


def steps_of(corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the steps of `walk` between each two corners `(M, axes)` in voxels."""
    longest = np.abs(np.diff(corners, axis=0)).max(1, initial=0.0)
    return np.asarray(np.maximum(np.ceil(2 * longest), 1), np.int64)


def mark(marks: Marks, voxels: NDArray[np.int64], channel: int, offsets: NDArray[np.int64]) -> None:
    """Mark voxels and their neighbours in place, overriding older marks.

    Args:
        marks: of the grid.
        voxels: `(N, axes)`; clipped to the grid.
        channel: 0, 1, ...
        offsets: from `ball`.
    """
    each = max(AT_ONCE // len(offsets), 1)
    for start in range(0, len(voxels), each):
        places = (voxels[start : start + each, None] + offsets).reshape(-1, marks.ndim)
        inside = ((places >= 0) & (places < marks.shape)).all(1)
        marks[tuple(places[inside].T)] = channel


def prompt_maps(marks: Marks, channels: int) -> NDArray[np.float32]:
    """Return maps `(channels, *spatial)`, `MARKED` or 0, to append to the image's channels."""
    numbers = np.arange(channels).reshape(-1, *[1] * marks.ndim)
    return np.asarray(marks == numbers, np.float32) * np.float32(MARKED)


def bounds(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around a mask `(*spatial)` that is not empty."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(mask.view(np.uint8), 1)
    return tuple(box)


def core(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the inner half of a mask `(*spatial)`: at least half as far from the border as the deepest voxel.

    People scribble at a similar distance from borders. An empty mask gives an empty one.
    """
    found = np.zeros(mask.shape, bool)
    if not mask.any():
        return found
    box = bounds(mask)  # the rest takes time and memory
    layer = torch.from_numpy(np.pad(mask[box], 1))[None, None].float()
    pool = torch.nn.functional.max_pool3d if mask.ndim == 3 else torch.nn.functional.max_pool2d
    depth = torch.zeros_like(layer)
    while layer.any():
        depth += layer
        layer = -pool(-layer, 3, 1, 1)
    inside = depth[0, 0].numpy()[(slice(1, -1),) * mask.ndim]
    found[box] = inside > inside.max() / 2
    return found
