"""Label maps that annotators submit: onto the image's grid, values as the bundle means them. Knows no server."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GeometryError, InputError
from ..interactive import BACKGROUND
from ..io import read_volume
from ..io.label_files import read_label_file
from ..labels import Label
from ..volume import Volume, label_array

HIGHEST = 255  # value of a label map that is kept
OFF_LATTICE = 0.1  # voxels that a label map's voxel may lie beside one of the image's


def read_submitted(
    path: Path, grid: Volume, info: Sequence[Mapping[str, Any]], bundles: Iterable[Sequence[Label]]
) -> tuple[Volume, tuple[Label, ...]]:
    """Read a label map that a client sent.

    Clients number segments in the order in which they show them, and say so in `label_info`. Where all of its names
    are those of one bundle's labels, the values become that bundle's.

    Args:
        path: NIfTI, NRRD or `.seg.nrrd`.
        grid: volume of the image that was annotated.
        info: `label_info` of the client, with `name` and `idx`; empty: values are as in the bundle.
        bundles: labels of each bundle that is served.

    Returns:
        `(1, X, Y, Z)` uint8 on the grid, and what its values mean.

    Raises:
        InputError: unreadable, or values that nothing explains.
        GeometryError: voxels beside those of the image.
    """
    choices = [tuple(labels) for labels in bundles]
    if path.name.lower().endswith(".seg.nrrd"):
        volume, structures = read_label_file(path)
    else:
        volume = read_volume(path, labels=True)
        structures = tuple(_label(entry) for entry in info) or choices[0]
    if void := [label.index for label in structures if label.name.casefold() == BACKGROUND]:  # a segment for clicks
        volume = Volume(np.where(np.isin(volume.array, void), 0, volume.array), volume.affine)
        structures = tuple(label for label in structures if label.index not in void) or choices[0]
    if unknown := sorted(set(np.unique(volume.array).tolist()) - {0, *(label.index for label in structures)}):
        raise InputError(
            f"values of a label map must be named in label_info or by the bundle, got {unknown[:5]} besides "
            f"{', '.join(f'{label.index} {label.name}' for label in structures)}"
        )
    return as_kept(volume, structures, grid, choices)


def as_kept(
    labels: Volume, structures: Sequence[Label], grid: Volume, bundles: Iterable[Sequence[Label]]
) -> tuple[Volume, tuple[Label, ...]]:
    """Put a label map onto the image's grid, with the values that are kept; different names never share one.

    Args:
        labels: `(1, X, Y, Z)` integers, 0 or a structure's index.
        structures: what the values mean; where all names are those of one bundle's labels, its values are kept, else
            those of the file.
        grid: volume of the image.
        bundles: labels of each bundle that is served.

    Returns:
        `(1, X, Y, Z)` uint8 on the grid, and what its values mean.

    Raises:
        InputError: values above 255.
        GeometryError: voxels beside those of the image.
    """
    numbers = _numbers(structures, [tuple(labels_of) for labels_of in bundles])
    if (highest := max((label.index for label in numbers.values()), default=0)) > HIGHEST:
        raise InputError(f"values of a label map must lie in 1 ... {HIGHEST}, got {highest}; number the segments anew")
    placed = on_grid(labels, grid)
    array = np.zeros(placed.array.shape, dtype=np.uint8)
    for value, label in numbers.items():
        array[placed.array == value] = label.index
    return Volume(array, grid.affine), tuple(sorted(numbers.values(), key=lambda label: label.index))


def on_grid(labels: Volume, grid: Volume) -> Volume:
    """Put a label map that covers another part of the image's lattice, with axes in any order, onto its grid.

    Raises:
        GeometryError: a labelled voxel lies beside the lattice or outside the image.
    """
    voxels = np.argwhere(label_array(labels))
    if labels.same_grid(grid):
        return labels
    transform = np.linalg.inv(grid.affine) @ labels.affine
    exact = voxels @ transform[:3, :3].T + transform[:3, 3]
    places = np.rint(exact).astype(np.intp)
    if (
        not np.allclose(labels.voxel_ml, grid.voxel_ml, rtol=1e-3)
        or np.abs(exact - places).max(initial=0) > OFF_LATTICE
    ):
        raise GeometryError("a label map must have the voxels of its image, got others; export it on the image's grid")
    if (places < 0).any() or (places >= grid.shape).any():
        raise GeometryError(
            "a label map must lie within its image, got labelled voxels outside; check which image it is"
        )
    array = np.zeros((1, *grid.shape), dtype=labels.array.dtype)
    array[0][tuple(places.T)] = labels.array[0][tuple(voxels.T)]
    return Volume(array, grid.affine)


def check_label_info(info: Any) -> None:
    """Check what a client says of a label map's values.

    Raises:
        InputError: it is no list of names and values.
    """
    if not isinstance(info or [], list) or not all(isinstance(entry, dict) for entry in info or []):
        raise InputError(f"label_info must be a list of objects with name and idx, got {str(info)[:50]!r}")
    for entry in info or []:
        _label(entry)


def _label(entry: Mapping[str, Any]) -> Label:
    try:
        index, name = int(entry["idx"]), str(entry["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"label_info must hold name and idx of each label, got {entry!r}") from error
    if not 0 < index <= HIGHEST:
        raise InputError(f"idx of a label must lie in 1 ... {HIGHEST}, got {index}")
    return Label(index, name, None, None, None, None)


def _numbers(structures: Sequence[Label], choices: Sequence[Sequence[Label]]) -> dict[int, Label]:
    """Value in the file -> label as it is kept: the bundle's of that name, or as the file says."""
    for labels in choices:
        by_name = {label.name.casefold(): label for label in labels}
        if all(label.name.casefold() in by_name for label in structures):
            return {label.index: by_name[label.name.casefold()] for label in structures}
    known = {label.name.casefold(): label for labels in choices for label in labels}
    return {
        label.index: replace(known.get(label.name.casefold(), label), index=label.index, name=label.name)
        for label in structures
    }
