"""Choose spacing and patch size, which depend on each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .budget import SHARE, Shape, peak_bytes
from .decision import Choices, times
from .examine import Facts
from .topology import Topology, fit_patch, median_shape, median_spacing

WINDOW = {False: 1 / 2, True: 1 / 4}  # of the median image, in which a patch sees enough, without and with a GPU
AROUND = 1.2  # size of a patch relative to the labels' box in 90 % of the cases
COARSER = 1.05  # factor of a step towards coarser voxels
DETAIL = 4.0  # fewest voxels across the 10th percentile of the components of the smallest label
THIN = 0.5  # of a component's diameter as a ball, below which its box is thin, as that of a cord
MOST_VOXELS = 1 << 31  # of a median image, resampled; 8 GiB
BATCH = 2  # fewest patches per step
KEPT = {False: 7 / 8, True: 1.0}  # of the median image along an axis, to round a patch down, without and with a GPU


@dataclass(frozen=True)
class Grid:
    """The network's spacing, patch and topology."""

    spacing: tuple[float, ...]
    spacing_rule: str
    shape: tuple[float, ...]  # of the median image, voxels
    patch: tuple[int, ...]
    topology: Topology


def find_grid(facts: Sequence[Facts], shapes: Sequence[Sequence[int]], choices: Choices, network: Shape) -> Grid:
    """Find spacing and patch size."""
    spacings = [each.spacing for each in facts]
    if choices.spacing and facts[0].picture:
        raise InputError(f"pictures have pixels and no spacing in mm, got {choices.spacing}", option="spacing")
    spacing = np.array(choices.spacing or median_spacing(spacings, shapes))
    extent = np.median(np.array(shapes) * np.array(spacings), axis=0)  # mm
    if (spacing > extent).any() or np.prod(extent / spacing) > MOST_VOXELS:
        raise InputError(
            f"spacing must leave 1 to {MOST_VOXELS} voxels of the median image, {times(extent.round(3).tolist())} mm, "
            f"got {times(spacing.tolist())} mm; is it in mm?",
            option="spacing",
        )
    first, budget, gpu = spacing.copy(), SHARE * choices.budget.bytes, choices.budget.gpu
    rule = "as stated" if choices.spacing else "median per axis; 10th percentile along thick slices"

    def peak(topology: Topology, patch: tuple[int, ...]) -> float:
        return peak_bytes(network, topology, BATCH * math.prod(patch))

    while True:
        rounded = tuple(float(f"{mm:.4g}") for mm in spacing)
        shape = median_shape(spacings, shapes, rounded)
        patch, topology = fit_patch(rounded, shape, peak, budget, KEPT[gpu])
        grid = Grid(rounded, rule, shape, patch, topology)
        if choices.spacing or facts[0].picture or not _sees_too_little(grid, facts, gpu=gpu):
            break
        cut = np.array(grid.patch) < KEPT[gpu] * np.array(grid.shape)  # axes that a patch does not hold whole
        finest = cut & (spacing < COARSER * spacing[cut].min())
        coarser = np.where(finest, spacing * COARSER, spacing)
        if (across := _smallest(facts, finest)) < DETAIL * coarser[finest].max():
            further = "" if np.array_equal(first, spacing) else " further"
            rule += f"; not coarsened{further}, as the smallest parts are {across:.3g} mm across"
            grid = replace(grid, spacing_rule=rule)
            break
        spacing = coarser
    if not np.array_equal(first, spacing):
        part = "a quarter" if gpu else "half"
        rule += f"; coarsened from {times(first.tolist())} mm, as the patch would have less than {part} of the image"
        grid = replace(grid, spacing_rule=rule)
    return grid


def _sees_too_little(grid: Grid, facts: Sequence[Facts], *, gpu: bool) -> bool:
    shape, patch, mm = np.array(grid.shape), np.array(grid.patch), np.array(grid.spacing)
    if np.prod(np.minimum(patch, shape)) >= WINDOW[gpu] * np.prod(shape):
        return False
    boxes = [each.extent for each in facts if each.labels]
    wanted = np.minimum(AROUND * np.percentile(boxes, 90, axis=0), KEPT[gpu] * shape * mm)
    return bool((patch * mm < wanted).any())


def _smallest(facts: Sequence[Facts], axes: NDArray[np.bool_]) -> float:
    """Return the 10th percentile of sizes, of the smallest label: component diameters, or the box if it is thin; mm."""
    found: dict[int, list[float]] = {}
    for each in facts:
        for value, shape in each.labels.items():
            box = float(np.array(shape.extent)[axes].min())
            found.setdefault(value, []).extend(box if box < THIN * size else size for size in shape.components)
    return min(float(np.percentile(sizes, 10)) for sizes in found.values())
