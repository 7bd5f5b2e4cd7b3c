"""A case after some clicks, in the slices of the first of them: reference dashed, result solid, clicks as dots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpp_monai.words import counted

from .robot import Case, Corrector, Labels, next_click, score, seed_of

SHOWN = (0, 1, 3)  # clicks
COLOURS = ("white", "#d8654f", "#80ae80", "#4c78a8", "#e9a03b")  # of the labels, the background first
SLICES = (0, 2)  # axes across the slices that are shown

Click = tuple[NDArray[np.integer], int]  # voxel, label


def draw(case: Case, corrector: Corrector, path: Path, *, jitter: int) -> None:
    """Let the robot click, and draw the slices through the first click, one column for each number of clicks."""
    from matplotlib.figure import Figure

    results, clicks = clicked(case, corrector, jitter=jitter)
    shown = [count for count in SHOWN if count < len(results)]
    indices = sorted(set(np.unique(case.reference.array).tolist()) - {0})
    figure = Figure(figsize=(3 * len(shown), 6), layout="constrained")
    panels = figure.subplots(len(SLICES), len(shown), squeeze=False)
    for column, count in enumerate(shown):
        dice, _ = score(case, results[count], indices)
        panels[0, column].set_title(f"{counted(count, 'click')}: Dice {dice:.3f}", fontsize=10)
        for row, axis in enumerate(SLICES):
            draw_slice(panels[row, column], case, results[count], clicks[:count], (axis, int(clicks[0][0][axis])))
    figure.savefig(path, dpi=110)


def clicked(case: Case, corrector: Corrector, *, jitter: int) -> tuple[list[Labels], list[Click]]:
    """Give the labels before the first click and after each, and the clicks."""
    rng = np.random.default_rng(seed_of(case.name))
    results, clicks = [corrector.begin(case)], []
    for _ in range(max(SHOWN)):
        click = next_click(case, results[-1], rng, jitter=jitter)
        if click is None:
            break
        voxel = np.rint(np.linalg.inv(case.image.affine) @ [*click.position, 1])[:3].astype(int)
        clicks.append((voxel, int(click.label)))
        results.append(corrector.add(click))
    if not clicks:
        raise SystemExit(f"a case must have errors to be corrected, {case.name} has none")
    return results, clicks


def draw_slice(panel: Any, case: Case, labels: Labels, clicks: Sequence[Click], at: tuple[int, int]) -> None:
    """Draw the image, both outlines, and the clicks that are at most a voxel away; `at`: axis and voxel."""
    axis, place = at
    panel.imshow(case.image.array[0].take(place, axis).T, cmap="gray", origin="lower")
    for volume, style in ((case.reference.array[0], "dashed"), (labels, "solid")):
        for label, colour in enumerate(COLOURS[1:], 1):
            mask = (volume == label).take(place, axis).T
            if mask.any():
                panel.contour(mask, [0.5], colors=colour, linestyles=style, linewidths=1.2)
    for voxel, label in clicks:
        if abs(voxel[axis] - place) <= 1:
            panel.plot(*np.delete(voxel, axis), "o", color=COLOURS[label], markersize=4)
    panel.set_axis_off()
