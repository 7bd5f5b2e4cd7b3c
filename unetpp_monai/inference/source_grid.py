"""Convert logits on the network's grid to labels on the source grid, plane by plane, to save memory."""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from .slab import UNCERTAINTIES, Slab

OFF_AXIS = 1e-3  # voxels by which a grid may deviate from the other's axes over its whole length
CROP = "CropForeground"
LINEAR = {"Orientation", "SpatialResample", CROP}  # preprocessing along the axes of the grids


class SourceGrid:
    """Labels on the grid of the source, filled from slabs of logits: linear interpolation, then argmax.

    The same as MONAI's `Invertd` (bilinear, border) followed by argmax but for rounding: that one interpolates in
    float64 and holds every label's logits on the source grid.

    Args:
        shape: of the source, voxels per axis.
        network_shape: of the network's grid.
        mapping: homogeneous, source voxel index -> network voxel index; every axis onto one axis.
        cropped: voxels that were cut off each network axis before it was resampled, at its start and at its end; they
            get no label. Empty: none.

    Attributes:
        labels: `shape`, uint8.
        uncertainty: `shape`, float32, the entropy; None if the slabs had no maps.
        sums: map of `UNCERTAINTIES` -> label index -> sum over its voxels; nothing in them if the slabs had no maps.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        network_shape: tuple[int, ...],
        mapping: NDArray[np.float64],
        cropped: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.labels = torch.zeros(shape, dtype=torch.uint8)
        self.uncertainty: torch.Tensor | None = None
        self.sums: dict[str, Counter[int]] = {name: Counter() for name in UNCERTAINTIES}
        self._axes = axes = [int(np.abs(row).argmax()) for row in mapping[:-1, :-1]]  # network axis -> source axis
        self._lines = [
            _Line(mapping[n, a] * np.arange(shape[a]) + mapping[n, -1], size)
            for n, (a, size) in enumerate(zip(axes, network_shape, strict=True))
        ]
        inside = [torch.zeros(size, dtype=torch.bool) for size in shape]  # per source axis, what was not cropped
        for each, part in zip(inside, _not_cropped(shape, mapping, cropped), strict=True):
            each[part] = True
        first, *others = (inside[a] for a in axes)  # by network axis
        self._planes = first if any(map(any, cropped)) else None
        self._mask = others[0] if len(others) == 1 else others[0][:, None] & others[1]  # of each plane
        self._order = np.argsort(self._lines[0].high, kind="stable")  # source planes as rows become available
        self._next = 0
        self._last: list[torch.Tensor] = []  # of each layer, the row before the next slab

    @classmethod
    def of(cls, image: MetaTensor) -> "SourceGrid | None":
        """Return the source grid of a preprocessed image `(C, *spatial)`; None unless moved along its axes only."""
        found = _geometry(image)
        return None if found is None else cls(*found)

    def fill(self, slabs: Iterable[Slab]) -> "SourceGrid":
        """Add slabs from first to last row, all with maps or all without; return self."""
        others = self._lines[1:]
        for slab in slabs:
            cuts = [line.cut(within) for line, within in zip(others, slab.within or (None,) * len(others), strict=True)]
            window = (slice(None), slice(None), *(cut.needed for cut in cuts))
            first, layers = slab.start, [layer[window].float().cpu() for layer in slab.layers]
            if self._last:
                layers = [torch.cat(rows, 1) for rows in zip(self._last, layers, strict=True)]
                first -= 1
            stop = first + layers[0].shape[1]
            line = self._lines[0]
            while self._next < len(self._order) and line.high[self._order[self._next]] < stop:
                plane = int(self._order[self._next])
                low, high = int(line.low[plane]) - first, int(line.high[plane]) - first
                self._set(plane, cuts, *(line.between(layer[:, low], layer[:, high], plane) for layer in layers))
                self._next += 1
            self._last = [layer[:, -1:].clone() for layer in layers]
        return self

    def _set(self, plane: int, cuts: Sequence["_Cut"], logits: torch.Tensor, maps: torch.Tensor | None = None) -> None:
        """Resample a plane `(channels, *what the cuts need)` and decide the labels of their voxels."""
        if self._planes is not None and not self._planes[plane]:
            return
        part, mask = tuple(cut.voxels for cut in cuts), self._mask
        found = _resampled(logits, cuts).max(0).indices  # as argmax(0), which torch does not vectorise on this axis
        if self._planes is not None:
            found *= mask[part]
        self.labels.permute(self._axes)[plane][part] = found
        if maps is None:
            return
        if self.uncertainty is None:
            self.uncertainty = torch.zeros(self.labels.shape)
        maps = _resampled(maps, cuts)
        if self._planes is not None:
            maps = maps * mask[part]
        self.uncertainty.permute(self._axes)[plane][part] = maps[0]
        for sums, values in zip(self.sums.values(), maps, strict=True):
            sums.update(dict(enumerate(torch.bincount(found.flatten(), values.flatten().double()).tolist())))


def kept_box(image: MetaTensor) -> tuple[slice, ...] | None:
    """Return the part of each source axis that preprocessing did not cut off; None: all, or it is not known."""
    found = _geometry(image)
    if found is None or not any(map(any, found[3])):
        return None
    shape, _, mapping, cropped = found
    return _not_cropped(shape, mapping, cropped)


def _geometry(
    image: MetaTensor,
) -> tuple[tuple[int, ...], tuple[int, ...], NDArray[np.float64], tuple[tuple[int, int], ...]] | None:
    """Return the arguments of `SourceGrid`, if a preprocessed image was moved along its axes only."""
    size = tuple(image.shape[1:])
    steps: list[dict[str, Any]] = image.applied_operations
    if any(step["class"] not in LINEAR for step in steps):
        return None
    shape = tuple(steps[0]["orig_size"]) if steps else size
    mapping = np.eye(len(size) + 1)
    if steps:
        source, network = (
            to_affine_nd(len(size), np.asarray(affine)) for affine in (image.meta["original_affine"], image.affine)
        )
        mapping = np.linalg.inv(network) @ source
    linear = np.abs(mapping[:-1, :-1])
    best = linear.argmax(1)
    off = linear.copy()
    off[np.arange(len(size)), best] = 0
    if sorted(best) != list(range(len(size))) or (off * shape).max() > OFF_AXIS:
        return None
    ends: list[int] = next((step["extra_info"]["cropped"] for step in steps if step["class"] == CROP), [])
    return shape, size, mapping, tuple(zip(ends[::2], ends[1::2], strict=True))


def _not_cropped(
    shape: tuple[int, ...], mapping: NDArray[np.float64], cropped: tuple[tuple[int, int], ...]
) -> tuple[slice, ...]:
    found = [slice(0, size) for size in shape]
    for row, ends in zip(mapping[:-1, :-1], cropped, strict=False):
        axis = int(np.abs(row).argmax())
        start, end = ends if row[axis] > 0 else ends[::-1]
        found[axis] = slice(start, shape[axis] - end)
    return tuple(found)


def _resampled(layer: torch.Tensor, cuts: Sequence["_Cut"]) -> torch.Tensor:
    for axis, cut in enumerate(cuts, 1):
        layer = cut.line.resample(layer, axis)
    return layer


@dataclass(frozen=True)
class _Cut:
    """What of an axis is looked at."""

    voxels: slice  # of the source
    needed: slice  # of the network's grid, for these
    line: "_Line"  # of the former in the latter


class _Line:
    """Positions of the voxels of a source axis on a network axis: between `low` and `high`, `weight` for `high`."""

    def __init__(self, positions: NDArray[np.float64], size: int) -> None:
        positions = np.clip(np.round(positions, 6), 0, size - 1)  # outside: the border; rounded: affines are inexact
        self.low = np.floor(positions).astype(np.int64)
        self.high = np.minimum(self.low + 1, size - 1)
        self.weight = (positions - self.low).astype(np.float32)
        self.exact = not self.weight.any()
        if self.exact:
            self.high = self.low
        self.same = self.exact and np.array_equal(self.low, np.arange(size))

    def cut(self, within: slice | None) -> _Cut:
        """Take the voxels whose value depends on a part of the network axis; None: all."""
        if within is None:
            return _Cut(slice(None), slice(None), self)
        touched = np.flatnonzero((self.high >= within.start) & (self.low < within.stop))  # in one piece
        voxels = slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)
        low, high = self.low[voxels], self.high[voxels]
        needed = slice(int(low.min()), int(high.max()) + 1) if len(touched) else slice(0, 0)
        line = copy(self)
        line.low, line.high, line.weight = low - needed.start, high - needed.start, self.weight[voxels]
        line.same = self.exact and np.array_equal(line.low, np.arange(needed.stop - needed.start))
        return _Cut(voxels, needed, line)

    def between(self, low: torch.Tensor, high: torch.Tensor, voxel: int) -> torch.Tensor:
        """Interpolate at a source voxel, from the rows at its `low` and `high`."""
        return low if self.exact else torch.lerp(low, high, float(self.weight[voxel]))

    def resample(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Interpolate `x` linearly along an axis."""
        if self.same:
            return x
        low = x.index_select(axis, torch.from_numpy(self.low))
        if self.exact:
            return low
        weight = torch.from_numpy(self.weight).reshape([-1, *[1] * (x.dim() - axis - 1)])
        return torch.lerp(low, x.index_select(axis, torch.from_numpy(self.high)), weight)
