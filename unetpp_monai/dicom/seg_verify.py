"""Compare a DICOM SEG on disk with its label map, voxel by voxel in patient space."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, UnetppError
from ..labels import Label
from ..provenance import ReadBack
from ..volume import SAME_GRID_MM, Volume
from .common import long_string, segment_numbers
from .geometry import LPS_TO_RAS
from .seg_reader import SegFrames, parse_seg


def read_back(path: Path, labels: Volume, structures: Sequence[Label]) -> tuple[ReadBack, SegFrames]:
    """Parse a file and compare it with its label map; missing frames count as 0.

    Returns:
        What was compared, and the parsed file.

    Raises:
        OutputError: a voxel, a corner, or a segment's name or modifiers differ.
    """
    import pydicom

    try:
        frames = parse_seg(path)
        view, slices, largest = _placed(frames, labels)
        different, voxels = _differences(frames, view, slices, structures)
    except UnetppError as error:
        raise OutputError(f"{path.name} could not be read back: {error}; nothing was written, report this") from error
    given = sorted(structures, key=lambda structure: structure.index)
    if different or largest > SAME_GRID_MM or list(map(_key, frames.labels)) != list(map(_key, given)):
        raise OutputError(
            f"{path.name} must equal its label map, got {different} of {voxels} voxels different when read back, "
            f"corners off by {largest:.4f} mm, {len(frames.labels)} segments for {len(given)} structures; "
            "nothing was written, report this"
        )
    return ReadBack(f"pydicom {pydicom.__version__}", voxels, different, largest), frames


def _key(label: Label) -> tuple[str, ...]:
    return long_string(label.name), *(f"{code.scheme} {code.value}" for code in label.modifiers)


def _placed(frames: SegFrames, labels: Volume) -> tuple[NDArray[np.generic], NDArray[np.intp], float]:
    """Find the frames in the label map.

    Returns:
        The label map as `(slices, rows, columns)` of the frames, the slice of each frame, and the largest distance
        in mm between a frame's corner and the label map's.

    Raises:
        OutputError: axes or size of the frames differ from the label map's.
    """
    affine = LPS_TO_RAS @ labels.affine  # index -> mm, LPS
    steps = np.linalg.solve(affine[:3, :3], frames.steps.T)  # of the label map's index per column, per row
    column, row = (int(axis) for axis in np.abs(steps).argmax(axis=0))
    if column == row or frames.shape != (labels.shape[row], labels.shape[column]):
        raise OutputError(f"frames of {frames.shape} rows and columns are not planes of {labels.shape} voxels")
    across = 3 - column - row
    view = np.transpose(labels.array[0], (across, row, column))
    directions, first = [], np.zeros((len(frames.positions), 3))
    for number, axis in enumerate((column, row)):
        backwards = steps[axis, number] < 0
        directions.append(-affine[:3, axis] if backwards else affine[:3, axis])
        if backwards:
            view = np.flip(view, 2 - number)
            first[:, axis] = labels.shape[axis] - 1
    indices = np.linalg.solve(affine[:3, :3], (frames.positions - affine[:3, 3]).T)[across]
    slices = np.rint(indices).astype(np.intp)
    if slices.min() < 0 or slices.max() >= labels.shape[across]:
        raise OutputError(f"frames are at slices {slices.min()} ... {slices.max()} of {labels.shape[across]}")
    first[:, across] = slices
    off = frames.positions - (first @ affine[:3, :3].T + affine[:3, 3])  # of each frame's first voxel
    drift = frames.steps - np.array(directions)  # per column, per row
    rows, columns = frames.shape
    corners = [off + i * columns * drift[0] + j * rows * drift[1] for i in (0, 1) for j in (0, 1)]
    return view, slices, float(np.linalg.norm(corners, axis=-1).max())


def _differences(
    frames: SegFrames, view: NDArray[np.generic], slices: NDArray[np.intp], structures: Sequence[Label]
) -> tuple[int, int]:
    """Count differing voxels (including voxels in two frames) and labelled voxels."""
    numbers = segment_numbers(structures)
    table = np.zeros(max(numbers) + 1, dtype=np.uint16)
    table[list(numbers)] = list(numbers.values())
    stored = np.zeros(view.shape, dtype=np.uint8 if len(numbers) < 256 else np.uint16)
    different = 0
    for index, plane in zip(slices, frames.planes(), strict=True):
        target, inside = stored[index], plane > 0
        different += int(np.count_nonzero(target[inside]))
        target[inside] = plane[inside]
    voxels = 0
    for plane, given in zip(stored, np.ascontiguousarray(view), strict=True):
        expected = np.take(table, given.astype(np.intp))
        different += int(np.count_nonzero(plane != expected))
        voxels += int(np.count_nonzero(expected))
    return different, voxels
