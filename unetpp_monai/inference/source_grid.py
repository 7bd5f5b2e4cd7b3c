"""From logits on the network's grid to labels on the source's, plane by plane: no floats per label and source voxel."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from .early_exit import MAPS
from .sliding_window import Slab

OFF_AXIS = 1e-3  # voxels by which a grid may deviate from the other's axes over its whole length
LINEAR = {"Orientation", "SpatialResample"}  # preprocessing that maps one grid onto the other along their axes


class SourceGrid:
    """Labels on the grid of the source, filled from slabs of logits: linear interpolation, then argmax.

    The same as MONAI's `Invertd` (bilinear, border) followed by argmax but for rounding: that one interpolates in
    float64 and holds every label's logits on the source grid.

    Args:
        shape: of the source, voxels per axis.
        network_shape: of the network's grid.
        mapping: homogeneous, source voxel index -> network voxel index; every axis onto one axis.
        uncertainty: the last channels are `MAPS`, as `EarlyExit` gives them.

    Attributes:
        labels: `shape`, uint8.
        uncertainty: `shape`, float32, or None: the entropy.
        sums: map of `MAPS` -> label index -> sum over its voxels; empty without uncertainty.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        network_shape: tuple[int, ...],
        mapping: NDArray[np.float64],
        *,
        uncertainty: bool = False,
    ) -> None:
        self.labels = torch.zeros(shape, dtype=torch.uint8)
        self.uncertainty = torch.zeros(shape) if uncertainty else None
        self.sums: dict[str, Counter[int]] = {name: Counter() for name in MAPS if uncertainty}
        axes = [int(np.abs(row).argmax()) for row in mapping[:-1, :-1]]  # network axis -> source axis
        self._lines = [
            _Line(mapping[n, a] * np.arange(shape[a]) + mapping[n, -1], size)
            for n, (a, size) in enumerate(zip(axes, network_shape, strict=True))
        ]
        self._views = self.labels.permute(axes), None if self.uncertainty is None else self.uncertainty.permute(axes)
        self._order = np.argsort(self._lines[0].high, kind="stable")  # source planes as rows become available
        self._next = 0
        self._last: torch.Tensor | None = None  # the row before the next slab

    @classmethod
    def of(cls, image: MetaTensor, *, uncertainty: bool = False) -> "SourceGrid | None":
        """The source grid of a preprocessed image `(C, *spatial)`; None if it was not moved along its axes only."""
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
        return cls(shape, size, mapping, uncertainty=uncertainty)

    def fill(self, slabs: Iterable[Slab]) -> "SourceGrid":
        """Take slabs from the first row to the last; returns itself."""
        for slab in slabs:
            first = slab.start
            logits = slab.logits.float().cpu()
            if self._last is not None:
                logits, first = torch.cat([self._last, logits], 1), first - 1
            stop = first + logits.shape[1]
            line = self._lines[0]
            while self._next < len(self._order) and line.high[self._order[self._next]] < stop:
                plane = self._order[self._next]
                low, high = (logits[:, int(row[plane]) - first] for row in (line.low, line.high))
                self._set(int(plane), low if line.exact else torch.lerp(low, high, float(line.weight[plane])))
                self._next += 1
            self._last = logits[:, -1:].clone()
        return self

    def _set(self, plane: int, logits: torch.Tensor) -> None:
        """Resample a plane `(out_channels, *other network axes)` and decide its labels."""
        for axis, line in enumerate(self._lines[1:], 1):
            logits = line.resample(logits, axis)
        labels, uncertainty = self._views
        if uncertainty is not None:
            maps, logits = logits[-len(MAPS) :], logits[: -len(MAPS)]
            uncertainty[plane] = maps[0]
        found = logits.max(0).indices  # as argmax(0), which torch does not vectorise on this axis
        labels[plane] = found
        if uncertainty is not None:
            for sums, values in zip(self.sums.values(), maps, strict=True):
                sums.update(dict(enumerate(torch.bincount(found.flatten(), values.flatten().double()).tolist())))


class _Line:
    """Where the voxels of a source axis lie along a network axis: between `low` and `high`, `weight` of the latter."""

    def __init__(self, positions: NDArray[np.float64], size: int) -> None:
        positions = np.clip(np.round(positions, 6), 0, size - 1)  # outside: the border; rounded: affines are inexact
        self.low = np.floor(positions).astype(np.int64)
        self.high = np.minimum(self.low + 1, size - 1)
        self.weight = (positions - self.low).astype(np.float32)
        self.exact = not self.weight.any()
        if self.exact:
            self.high = self.low
        self.same = self.exact and np.array_equal(self.low, np.arange(size))

    def resample(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Interpolate `x` linearly along an axis."""
        if self.same:
            return x
        low = x.index_select(axis, torch.from_numpy(self.low))
        if self.exact:
            return low
        weight = torch.from_numpy(self.weight).reshape([-1, *[1] * (x.dim() - axis - 1)])
        return torch.lerp(low, x.index_select(axis, torch.from_numpy(self.high)), weight)
