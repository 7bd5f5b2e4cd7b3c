"""Choose rotation, scaling and mirroring of patches, from their shape and the names of the labels."""

import math

import numpy as np

from .checking import Checked
from .dataset import sided_labels
from .decision import Decision, times
from .grid import Grid
from .topology import ANISOTROPY

ROTATION, SCALE, TRANSLATION = 0.5, 0.25, 16  # radians; fraction; a 16th of the patch
SHORT = 10_000  # steps below which strong augmentation of volumes costs accuracy (docs/results_own_data.md)
MILD_ROTATION, MILD_SCALE = 0.2, 0.12


def augmentation(checked: Checked, grid: Grid, steps: int) -> list[Decision]:
    """Choose ranges and mirrored axes.

    Args:
        checked: its labels may have sides.
        grid: its patch may be flat.
        steps: of the training.
    """
    dims, edit = len(grid.patch), "edit task.json"
    mild = dims == 3 and steps < SHORT
    angle, zoom = (MILD_ROTATION, MILD_SCALE) if mild else (ROTATION, SCALE)
    thin = int(np.argmin(grid.patch))
    flat = dims == 3 and max(grid.patch) > ANISOTROPY * grid.patch[thin]
    sided = sided_labels(checked.dataset.labels)
    shape = f"patch {times(grid.patch)}" + (f", labels {', '.join(sided)}" if sided else "")
    if dims == 3:
        shape += f", {steps:,} steps"
    scale, shear = [zoom] * dims, None
    rotation = [angle] * (3 if dims == 3 else 1)
    if flat:
        turned = angle if sided or mild else round(math.pi, 4)
        rotation = [turned if axis == thin else 0.0 for axis in range(3)]
        scale, shear = [0.0 if axis == thin else zoom for axis in range(3)], [0.0] * 3
    found = [
        Decision(
            "rotate_range",
            rotation,
            "0.5 rad about each axis, 0.2 in volumes below 10,000 steps; in-plane only if the patch is three times as "
            "long as thick, then by pi unless labels have sides or steps are few",
            shape,
            edit,
        ),
        Decision("scale_range", scale, "0.25, 0.12 in volumes below 10,000 steps; 0 through a flat patch", shape, edit),
        Decision("translate_range", [size // TRANSLATION for size in grid.patch], "a 16th of the patch", shape, edit),
        Decision(
            "flip_axes",
            [axis for axis in range(1 if mild else dims) if axis or not sided],
            "all axes, or only left-right in volumes below 10,000 steps; not left-right if a label has a side",
            shape,
            edit,
        ),
    ]
    if shear is not None:
        found.append(Decision("shear_range", shear, "none in a flat patch", shape, edit))
    return found
