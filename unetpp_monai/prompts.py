"""Prompts for the network: marked voxels on its grid, one channel per label with prompts.

Used by training and interactive sessions alike. Voxels only, independent of files and patient space.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

Marks = NDArray[np.int16]  # (*spatial): number of the channel that a voxel is marked in, NO_MARK = in none
NO_MARK = -1
MARKED = 16.0  # of a marked voxel in a map. Adam moves each weight by at most about the learning rate a step: with 1,
# kernels of prompts only learn at rates that spoil the automatic result


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
    found = [np.rint(corners[:1])]
    for start, stop in pairwise(corners):
        steps = max(int(np.ceil(2 * np.abs(stop - start).max())), 1)  # half a voxel each
        found.append(np.rint(start + (stop - start) * np.arange(1, steps + 1)[:, None] / steps))
    voxels = np.concatenate(found).astype(np.int64)
    return np.asarray(voxels[np.append(True, (voxels[1:] != voxels[:-1]).any(1))])


def mark(marks: Marks, voxels: NDArray[np.int64], channel: int, offsets: NDArray[np.int64]) -> None:
    """Mark voxels and their neighbours in place, overriding older marks.

    Args:
        marks: of the grid.
        voxels: `(N, axes)`; clipped to the grid.
        channel: 0, 1, ...
        offsets: from `ball`.
    """
    places = (voxels[:, None] + offsets).reshape(-1, marks.ndim)
    inside = ((places >= 0) & (places < marks.shape)).all(1)
    marks[tuple(places[inside].T)] = channel


def prompt_maps(marks: Marks, channels: int) -> NDArray[np.float32]:
    """Return maps `(channels, *spatial)`, `MARKED` or 0, to append to the image's channels."""
    numbers = np.arange(channels).reshape(-1, *[1] * marks.ndim)
    return np.asarray(marks == numbers, np.float32) * np.float32(MARKED)


def core(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the inner half of a mask `(*spatial)`: at least half as far from the border as the deepest voxel.

    People scribble at a similar distance from borders. An empty mask gives an empty one.
    """
    layer = torch.from_numpy(np.pad(mask, 1))[None, None].float()
    pool = torch.nn.functional.max_pool3d if mask.ndim == 3 else torch.nn.functional.max_pool2d
    depth = torch.zeros_like(layer)
    while layer.any():
        depth += layer
        layer = -pool(-layer, 3, 1, 1)
    found: NDArray[np.bool_] = (
        mask.astype(bool) & (depth[0, 0].numpy() > depth.max().item() / 2)[(slice(1, -1),) * mask.ndim]
    )
    return found
