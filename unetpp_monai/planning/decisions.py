"""Compute the values of a task from measurements, each with its reason."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..words import counted
from .augmentation import augmentation
from .budget import SHARE, Shape, peak_bytes, width_for
from .checking import Checked
from .decision import Choices, Decision, times
from .examine import Facts
from .folds import choose_folds
from .grid import BATCH, Grid, find_grid
from .intensity import Kind, channel_kinds, intensity_rules

EDIT = "edit task.json"
WORTH = 0.9  # fraction of a case's voxels below which cropping zeros pays
SEEN = 0.05  # largest fraction of all voxels in one step
STEPS = {False: 50, True: 250}  # per epoch, without and with a GPU
EPOCHS = {False: 50, True: 200}
RADIUS = 1.5  # of prompts at least, in voxels of the finest axis
TENTH = 0.1  # of the diameter of the smallest label, the radius of prompts
REACH = 3.3  # of prompt_radius: what gained most of 15 to 35 mm on ACDC and the left atrium (docs/clicks.md)
FOREGROUND = 0.33  # fraction of patches centred on a labelled voxel


@dataclass(frozen=True)
class Decided:
    """All decisions."""

    decisions: tuple[Decision, ...]
    kinds: tuple[Kind, ...]  # of the channels
    folds: Mapping[str, int]  # case -> fold, from 0
    divisors: tuple[int, ...]  # of windows

    @property
    def values(self) -> dict[str, Any]:
        """By key, without those that the base has."""
        return {decision.key: decision.value for decision in self.decisions if not decision.usual}


def decide(checked: Checked, choices: Choices) -> Decided:
    """Make all decisions.

    Args:
        checked: without errors.
        choices: the user's choices.

    Raises:
        InputError: an impossible choice, or a missing one.
    """
    facts = [facts for _, facts in checked.cases]
    dims = len(facts[0].shape)
    kinds = channel_kinds(checked, choices.modality)
    rules = intensity_rules(checked, kinds)
    crop, why = _crop(facts)
    shapes = [each.inner if crop else each.shape for each in facts]
    labels = len(checked.values)
    channels = len(facts[0].channels) + (labels if choices.interactive else 0)
    network = Shape(dims, channels, labels, width_for(choices.budget), half=choices.budget.gpu)
    grid = find_grid(facts, shapes, choices, network)
    folds, fold_inputs = choose_folds(checked, choices.folds)
    decisions = [
        *_of_images(checked, kinds, rules),
        Decision("crop_foreground", crop, "crop zeros if that saves enough and cuts no label", why, EDIT),
        *_of_network(grid, network, choices),
        *(_of_prompts(labels, grid, facts) if choices.interactive else []),
        *_of_training(checked, grid, network, choices),
        Decision(
            "num_folds",
            max(folds.values()) + 1,
            "5, or 3 for fewer than 10 cases; groups are not split, each label is in as many folds as it has groups",
            fold_inputs,
            "options folds and group, or a column fold in a CSV table",
        ),
        Decision("cases_file", "cases.json", "cases with their folds", counted(len(facts), "case"), "none"),
    ]
    return Decided(tuple(decisions), kinds, folds, grid.topology.divisors)


def _of_images(checked: Checked, kinds: Sequence[Kind], rules: list[dict[str, Any]]) -> list[Decision]:
    count, values = len(kinds), list(checked.values)
    names = ", ".join(f"{kind.modality} ({kind.why})" for kind in kinds)
    found = [
        Decision(
            "spatial_dims",
            len(checked.cases[0][1].shape),
            "2 for pictures, 3 for volumes",
            counted(len(checked.cases), "case"),
            "none",
        ),
        Decision("in_channels", count, "channels of the images", names, "none"),
        Decision("out_channels", len(values), "labels and the background", f"values {values}", "none"),
    ]
    if values != list(range(len(values))):
        rule = "values of the labels 0, 1, ... in the files"
        found.append(Decision("label_values", values, rule, f"values {values}", "none"))
    suffixes = [f"_{number:04d}" for number in range(count)]
    if any(len(case.images) == 1 and case.name.endswith(tuple(suffixes)) for case, _ in checked.cases):
        suffixes = []  # results have the names of their images
    return [
        *found,
        Decision(
            "channel_suffixes",
            suffixes,
            "endings of the files of one case, if several; none if names of cases end so",
            names,
            EDIT,
        ),
        Decision(
            "intensity",
            rules,
            "CT: clipped to percentiles 0.5 and 99.5 of labelled voxels, then their mean 0 and deviation 1; others: "
            "mean 0 and deviation 1 of the image, or of nonzero voxels if a quarter of an MR is 0; none: of the image",
            names,
            f"option modality, or {EDIT}",
        ),
    ]


def _crop(facts: Sequence[Facts]) -> tuple[bool, str]:
    left = float(np.median([np.prod(each.inner) / np.prod(each.shape) for each in facts]))
    cut = sum(each.cuts_labels for each in facts)
    lowest = min(channel.lowest for each in facts for channel in each.channels)
    inputs = (
        f"{left:.0%} of the median case remain, {counted(cut, 'case')} with labels outside, lowest intensity {lowest:g}"
    )
    return left < WORTH and not cut and lowest >= 0, inputs


def _of_network(grid: Grid, network: Shape, choices: Choices) -> list[Decision]:
    topology, patch = grid.topology, list(grid.patch)
    levels = len(topology.kernels)
    shape = f"median image {times([round(size) for size in grid.shape])} voxels of {times(grid.spacing)} mm"
    peak = peak_bytes(network, topology, BATCH * math.prod(patch)) / 2**30
    memory = f"{choices.budget.gib:g} GiB ({choices.budget.source}), of which {BATCH} such patches take {peak:.2f} GiB"
    weights = [2.0**-at for at in range(levels - 1)]
    found = [
        Decision("pixdim", list(grid.spacing), grid.spacing_rule, shape, "option spacing"),
        Decision(
            "patch_size",
            patch,
            "a cube in mm, cut to the median image, rounded up to multiples of the strides, without a GPU down where "
            "7/8 of the image remain; its relatively longest axis is shortened until 2 fit in 80 % of the memory",
            f"{shape}; {memory}",
            "option memory, or edit patch_size and roi_size in task.json",
        ),
        Decision("roi_size", patch, "the patch", "patch_size", EDIT),
        Decision(
            "features",
            network.features(topology),
            f"{network.width}, as memory is {choices.budget.gib:g} GiB (32 from 10 GiB on), doubled per level",
            f"{levels} levels",
            f"option memory, or {EDIT}",
        ),
    ]
    found += _steps(grid)
    found.append(
        Decision(
            "head_weights",
            [round(weight / sum(weights), 4) for weight in weights],
            "halved from each depth to the next smaller one, deepest first, sum 1",
            f"{levels - 1} heads",
            EDIT,
        )
    )
    return found


def _of_prompts(labels: int, grid: Grid, facts: Sequence[Facts]) -> Iterator[Decision]:
    """Choose the labels with prompts, and their radius."""
    every = list(range(labels))
    yield Decision("prompt_labels", every, "every label, the background too", "option interactive", EDIT)
    diameters: dict[int, list[float]] = {}
    for each in facts:
        for value, shape in each.labels.items():
            diameters.setdefault(value, []).append(shape.components[0])
    smallest = min(float(np.median(found)) for found in diameters.values())
    radius = round(max(RADIUS * min(grid.spacing), TENTH * smallest), 3)
    rule = f"mm, a tenth of the diameter of the smallest label, at least {RADIUS:g} voxels of the finest axis"
    yield Decision("prompt_radius", radius, rule, f"pixdim, a ball as large as that label has {smallest:.1f} mm", EDIT)
    rule = f"mm, standard deviation, {REACH:g} times prompt_radius"
    yield Decision("prompt_reach", round(REACH * radius, 3), rule, "how far what is around a prompt follows it", EDIT)


def _steps(grid: Grid) -> Iterator[Decision]:
    """Choose strides and kernels; those of isotropic networks are 2 and 3, as in the base."""
    mm = f"{times(grid.spacing)} mm"
    halved = "an axis is halved while its voxels are less than twice the finest and 8 or more are left"
    inputs = f"patch {times(grid.patch)}, {mm}"
    yield _per_level("strides", grid.topology.strides, 2, halved, inputs)
    rule = "1 along an axis until its voxels are less than twice the finest, then 3"
    yield _per_level("kernel_size", grid.topology.kernels, 3, rule, mm)


def _per_level(key: str, sizes: Sequence[tuple[int, ...]], usual: int, rule: str, inputs: str) -> Decision:
    if {size for level in sizes for size in level} == {usual}:
        return Decision(key, usual, rule, inputs, EDIT, usual=True)
    return Decision(key, [list(level) for level in sizes], rule, inputs, EDIT)


def _of_training(checked: Checked, grid: Grid, network: Shape, choices: Choices) -> list[Decision]:
    gpu, facts = choices.budget.gpu, [facts for _, facts in checked.cases]
    voxels = math.prod(grid.patch)
    seen = int(SEEN * math.prod(grid.shape) * len(facts) / voxels)
    batch = BATCH
    while (
        gpu
        and batch < seen
        and peak_bytes(network, grid.topology, (batch + 1) * voxels) <= SHARE * choices.budget.bytes
    ):
        batch += 1
    where = "with a GPU" if gpu else "without a GPU"
    return [
        Decision(
            "batch_size",
            batch,
            "2; more with a GPU if they fit and have at most 5 % of all voxels",
            f"{where}, {counted(len(facts), 'case')}",
            EDIT,
        ),
        Decision("steps_per_epoch", STEPS[gpu], "250 with a GPU, 50 without", where, EDIT),
        Decision("max_epochs", EPOCHS[gpu], "200 with a GPU, 50 without", where, EDIT),
        *_stated_time(choices),
        Decision(
            "foreground_share", FOREGROUND, "a third of the patches has a labelled voxel in its centre", "none", EDIT
        ),
        *augmentation(checked, grid, STEPS[gpu] * EPOCHS[gpu]),
    ]


def _stated_time(choices: Choices) -> Iterator[Decision]:
    if choices.time:
        rule = "of one training, which counts how many steps fit; max_epochs does not count then"
        yield Decision("max_time", choices.time, rule, "as stated", f"option time, also of train, or {EDIT}")
