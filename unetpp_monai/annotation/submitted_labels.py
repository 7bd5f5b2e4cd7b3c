"""Convert submitted label maps to the image's grid and the bundle's values. Independent of the server."""

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

HIGHEST = 255  # largest value of a stored label map
OFF_LATTICE = 0.1  # most distance in voxels between voxels of label map and image


def read_submitted(
    path: Path, grid: Volume, info: Sequence[Mapping[str, Any]], bundles: Iterable[Sequence[Label]]
) -> tuple[Volume, tuple[Label, ...]]:
    """Read a submitted label map.

    Clients number segments in display order, and state names in `label_info`. If all names are labels of one bundle,
    values are converted to that bundle's.

    Args:
        path: NIfTI, NRRD or `.seg.nrrd`.
        grid: volume of the annotated image.
        info: `label_info` of the client, with `name` and `idx`; empty: values are the bundle's.
        bundles: labels of each bundle that is served.

    Returns:
        `(1, X, Y, Z)` uint8 on the grid, and what its values mean.

    Raises:
        InputError: unreadable, or values of unknown meaning.
        GeometryError: voxels beside those of the image.
    """
    choices = [tuple(labels) for labels in bundles]
    if path.name.lower().endswith(".seg.nrrd"):
        volume, structures = read_label_file(path)
    else:
        volume = read_volume(path, labels=True)
        structures = tuple(_label(entry) for entry in info) or choices[0]
    if void := [
        label.index for label in structures if label.name.casefold() == BACKGROUND
    ]:  # segment of background clicks
        volume = Volume(np.where(np.isin(volume.array, void), 0, volume.array), volume.affine)
        structures = tuple(label for label in structures if label.index not in void) or choices[0]
    if unknown := sorted(set(np.unique(volume.array).tolist()) - {0, *(label.index for label in structures)}):
        raise InputError(
            f"values of a label map must be named in label_info or by the bundle, got {unknown[:5]} besides "
            f"{', '.join(f'{label.index} {label.name}' for label in structures)}"
        )
    return to_bundle_values(volume, structures, grid, choices)


def to_bundle_values(
    labels: Volume, structures: Sequence[Label], grid: Volume, bundles: Iterable[Sequence[Label]]
) -> tuple[Volume, tuple[Label, ...]]:
    """Convert a label map to the image's grid and stored values; different names get different values.

    Args:
        labels: `(1, X, Y, Z)` integers, 0 or a structure's index.
        structures: meaning of the values; if all names are labels of one bundle, its values are used, else the file's.
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
        raise InputError(f"values of a label map must be in 1 ... {HIGHEST}, got {highest}; renumber the segments")
    placed = on_grid(labels, grid)
    array = np.zeros(placed.array.shape, dtype=np.uint8)
    for value, label in numbers.items():
        array[placed.array == value] = label.index
    return Volume(array, grid.affine), tuple(sorted(numbers.values(), key=lambda label: label.index))


def on_grid(labels: Volume, grid: Volume) -> Volume:
    """Crop, pad and reorder a label map on the image's lattice to its grid.

    Raises:
        GeometryError: a labelled voxel is off the lattice or outside the image.
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
            "a label map must be inside its image, got labelled voxels outside; check that it is the right image"
        )
    array = np.zeros((1, *grid.shape), dtype=labels.array.dtype)
    array[0][tuple(places.T)] = labels.array[0][tuple(voxels.T)]
    return Volume(array, grid.affine)


def check_label_info(info: Any) -> None:
    """Check a client's `label_info`.

    Raises:
        InputError: not a list of names and values.
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
        raise InputError(f"idx of a label must be in 1 ... {HIGHEST}, got {index}")
    return Label(index, name, None, None, (), None)


def _numbers(structures: Sequence[Label], choices: Sequence[Sequence[Label]]) -> dict[int, Label]:
    """Map values in the file to stored labels: the bundle's with that name, or the file's."""
    for labels in choices:
        by_name = {label.name.casefold(): label for label in labels}
        if all(label.name.casefold() in by_name for label in structures):
            return {label.index: by_name[label.name.casefold()] for label in structures}
    known = {label.name.casefold(): label for labels in choices for label in labels}
    return {
        label.index: replace(known.get(label.name.casefold(), label), index=label.index, name=label.name)
        for label in structures
    }
