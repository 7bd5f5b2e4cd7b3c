"""Measure the labels of a label map, in few passes, however many there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 22  # voxels counted at a time
LARGEST = 65535  # label value; larger ones mean an image or instances
MOST = 255  # labels of a task, as result files have 8 bits
COMPONENTS = 200  # largest ones kept per label and case


@dataclass(frozen=True)
class LabelShape:
    """One label in one case."""

    voxels: int
    extent: tuple[float, ...]  # mm (pictures: pixels) of the box around it, along right, anterior, superior
    components: tuple[float, ...]  # mm, diameter of a ball (disc) of the same volume (area), largest first


def value_counts(labels: NDArray[Any]) -> tuple[dict[float, int], bool]:
    """Count the voxels of each value.

    Args:
        labels: `(X, Y, Z)`.

    Returns:
        Value -> voxels, at most `MOST` + 2 entries; and whether all are whole numbers.
    """
    flat = labels.T.reshape(-1)
    low, high = flat.min(), flat.max()
    if labels.dtype.kind == "f" and not all(
        np.array_equal(piece, np.rint(piece)) for piece in np.array_split(flat, len(flat) // PIECE + 1)
    ):
        part = np.unique(flat[flat != np.rint(flat)][:PIECE])
        return {float(value): 1 for value in part[: MOST + 2]}, False
    if low < 0 or high > LARGEST:
        values, counts = np.unique(flat, return_counts=True)
        worst = np.argsort((values >= 0) & (values <= LARGEST), kind="stable")[: MOST + 2]
        return {int(values[at]): int(counts[at]) for at in worst}, True
    total = np.zeros(int(high) + 1, np.int64)
    for start in range(0, len(flat), PIECE):
        total += np.bincount(flat[start : start + PIECE].astype(np.int64), minlength=len(total))
    return {int(value): int(total[value]) for value in np.flatnonzero(total)[: MOST + 2]}, True


def label_shapes(
    labels: NDArray[Any], counts: Mapping[int, int], spacing: tuple[float, ...]
) -> tuple[dict[int, LabelShape], tuple[slice, ...]]:
    """Measure the boxes and components of all labels.

    Args:
        labels: `(X, Y, Z)` whole numbers.
        counts: from `value_counts`.
        spacing: mm along its axes.

    Returns:
        Shapes by value, without 0, lengths along the array's axes; and the box around all labels.
    """
    values = [value for value in counts if value]
    whole = tuple(slice(0, 0) for _ in labels.shape)
    if not values:
        return {}, whole
    presence = [np.zeros((size, len(values)), bool) for size in labels.shape]
    index = np.zeros(max(values) + 1, np.int64)
    index[values] = np.arange(1, len(values) + 1)
    for z in range(labels.shape[2]):
        _mark(index[labels[:, :, z].T.astype(np.int64)], presence, z)
    shapes, boxes = {}, []
    for at, value in enumerate(values):
        found = [np.flatnonzero(axis[:, at]) for axis in presence]
        box = tuple(slice(int(hits[0]), int(hits[-1]) + 1) for hits in found)
        boxes.append(box)
        extent = tuple((part.stop - part.start) * mm for part, mm in zip(box, spacing, strict=True))
        shapes[value] = LabelShape(counts[value], extent, _components(labels[box] == value, spacing))
    whole = tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3)
    )
    return shapes, whole


def thinness(labels: NDArray[Any], counts: Mapping[int, int]) -> float:
    """Return how thin all labels but the largest are: the share of their voxels that end along one of two axes.

    Near 1 for the border of a blurred mask, where every voxel differs from its neighbour.

    Args:
        labels: `(X, Y, Z)` whole numbers.
        counts: from `value_counts`.
    """
    main = max((value for value in counts if value), key=counts.__getitem__)
    inner = labels[:-1, :-1]
    minor = (inner != 0) & (inner != main)
    ends = (inner != labels[1:, :-1]) | (inner != labels[:-1, 1:])
    return float((minor & ends).sum() / max(minor.sum(), 1))


def _mark(plane: NDArray[np.int64], presence: list[NDArray[np.bool_]], z: int) -> None:
    """Record the labels in a slice `(Y, X)` of indices, with their rows and columns."""
    count = presence[0].shape[1] + 1
    rows = plane.any(1)
    if not rows.any():
        return
    columns = plane.any(0)
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    part = plane[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    by_row = np.bincount((part + count * np.arange(len(part))[:, None]).ravel(), minlength=count * part.shape[0])
    by_column = np.bincount((part + count * np.arange(part.shape[1])).ravel(), minlength=count * part.shape[1])
    presence[1][y[0] : y[-1] + 1] |= by_row.reshape(-1, count)[:, 1:] > 0
    presence[0][x[0] : x[-1] + 1] |= by_column.reshape(-1, count)[:, 1:] > 0
    presence[2][z] |= by_row.reshape(-1, count)[:, 1:].any(0)


def _components(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return the diameters of components, diagonals connected."""
    import SimpleITK

    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.T.astype(np.uint8)), True)
    found = SimpleITK.GetArrayFromImage(pieces)  # a copy: a view does not keep its image
    sizes = np.sort(np.bincount(found.ravel())[1:])[::-1][:COMPONENTS]
    if mask.shape[2] == 1:
        areas = sizes * spacing[0] * spacing[1]
        return tuple(float(diameter) for diameter in np.sqrt(4 * areas / np.pi))
    return tuple(float(diameter) for diameter in np.cbrt(6 * sizes * np.prod(spacing) / np.pi))
