"""Choose rotation, scaling and mirroring of patches, from their shape and the names of the labels."""

import math

import numpy as np

from .checking import Checked
from .dataset import sided_labels
from .decision import Decision, times
from .grid import Grid
from .topology import ANISOTROPY

ROTATION, SCALE, TRANSLATION = 0.5, 0.25, 16  # radians; fraction; a 16th of the patch


def augmentation(checked: Checked, grid: Grid) -> list[Decision]:
    """Choose ranges and mirrored axes."""
    dims, edit = len(grid.patch), "edit task.json"
    thin = int(np.argmin(grid.patch))
    flat = dims == 3 and max(grid.patch) > ANISOTROPY * grid.patch[thin]
    sided = sided_labels(checked.dataset.labels)
    shape = f"patch {times(grid.patch)}" + (f", labels {', '.join(sided)}" if sided else "")
    scale, shear = [SCALE] * dims, None
    rotation = [ROTATION] * (3 if dims == 3 else 1)
    if flat:
        rotation = [(ROTATION if sided else round(math.pi, 4)) if axis == thin else 0.0 for axis in range(3)]
        scale, shear = [0.0 if axis == thin else SCALE for axis in range(3)], [0.0] * 3
    found = [
        Decision(
            "rotate_range",
            rotation,
            "0.5 rad about each axis; in-plane only if the patch is three times as long as thick, then by pi unless "
            "labels have sides",
            shape,
            edit,
        ),
        Decision("scale_range", scale, "0.25; 0 through a flat patch", shape, edit),
        Decision("translate_range", [size // TRANSLATION for size in grid.patch], "a 16th of the patch", shape, edit),
        Decision(
            "flip_axes",
            [axis for axis in range(dims) if axis or not sided],
            "all axes; not left-right if a label has a side",
            shape,
            edit,
        ),
    ]
    if shear is not None:
        found.append(Decision("shear_range", shear, "none in a flat patch", shape, edit))
    return found
