"""Two masks in, their metrics out. Knows no file, no label and no statistics."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PERCENTILE = 95  # of the surface distances that HD95 reports
CONVENTIONS = (
    "HD95 is the larger of the two directed 95th percentiles of the distances between boundary voxels; surface Dice "
    "weighs boundary elements by their area. Label in neither map: Dice, IoU and surface Dice 1, HD95 0. Label in one "
    "map only: Dice, IoU and surface Dice 0, HD95 undefined. Relative volume error undefined without reference. "
    "Undefined values are null and left out of the mean; `cases` counts those that are in."
)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskMetrics:
    """How a mask compares with its reference, by `CONVENTIONS`; None = undefined."""

    dice: float  # 0 ... 1
    iou: float  # 0 ... 1
    hd95: float | None  # mm (pictures: pixels)
    surface_dice: float  # share of both surfaces that is no farther than the tolerance from the other, 0 ... 1
    volume_error: float  # prediction minus reference, mL (pictures: pixels)
    volume_error_percent: float | None  # of the reference


def dice(prediction: Mask, reference: Mask) -> float:
    """Compute the Dice of two masks; 1 if both are empty."""
    total = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / total if total else 1.0


def mean_dice(labels: NDArray[np.generic], reference: NDArray[np.generic], indices: Sequence[int]) -> float:
    """Average the Dice of two label maps over label indices."""
    return float(np.mean([dice(labels == index, reference == index) for index in indices]))


def compare_masks(
    prediction: Mask, reference: Mask, *, spacing: tuple[float, float, float], tolerance: float, voxel_size: float
) -> MaskMetrics:
    """Compare two masks of one grid.

    Args:
        prediction: `(X, Y, Z)`; a single slice, along whichever axis, is compared in 2-D.
        reference: `(X, Y, Z)`.
        spacing: of the grid, mm.
        tolerance: of surface Dice, mm.
        voxel_size: mL per voxel.
    """
    predicted, referred = int(prediction.sum()), int(reference.sum())
    common = int((prediction & reference).sum())
    empty = predicted + referred == 0
    hd95: float | None = 0.0 if empty else None
    surface_dice = 1.0 if empty else 0.0
    if predicted and referred:
        hd95, surface_dice = _compare_surfaces(prediction, reference, spacing, tolerance)
    difference = predicted - referred
    return MaskMetrics(
        dice=dice(prediction, reference),
        iou=1.0 if empty else common / (predicted + referred - common),
        hd95=hd95,
        surface_dice=surface_dice,
        volume_error=difference * voxel_size,
        volume_error_percent=100 * difference / referred if referred else None,
    )


def _compare_surfaces(
    prediction: Mask, reference: Mask, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float]:
    """HD95 and surface Dice of MONAI, within the box that holds both masks."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    found = np.argwhere(prediction | reference)
    box = tuple(slice(max(low - 1, 0), high + 2) for low, high in zip(found.min(0), found.max(0), strict=True))
    flat = max((axis for axis in range(3) if prediction.shape[axis] == 1), key=spacing.__getitem__, default=None)
    first, second = (
        torch.from_numpy(np.ascontiguousarray(mask[box] if flat is None else mask[box].squeeze(flat)))[
            None, None
        ].float()
        for mask in (prediction, reference)
    )
    lengths = [length for axis, length in enumerate(spacing) if axis != flat]
    options: dict[str, Any] = {"include_background": True, "spacing": lengths}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that its own surface Dice hands to its own helper
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(first, second, percentile=PERCENTILE, **options)
        surface_dice = compute_surface_dice(first, second, [tolerance], use_subvoxels=True, **options)
    return float(hd95), float(surface_dice)
