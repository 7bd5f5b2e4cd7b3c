"""Pair label maps with their references by name, and read them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import AmbiguityError, GeometryError, InputError
from ..io import find_cases, is_picture, read_volume
from ..io.cases import case_and_result, image_files
from ..volume import Volume, label_array

GRID_TOLERANCE = 0.1  # voxels, which rounded headers stay far below, and which no metric notices
LABEL_MAPS = ("_seg", ".seg", "")  # as the endings of their names say, the surest first


def pair_label_maps(
    predictions: str | Path, references: str | Path, *, partial: bool
) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Pair predictions with their references by name.

    Args:
        predictions: folder or file.
        references: folder or file.
        partial: accept references without a prediction.

    Returns:
        Prediction and reference by case, and the references that have no prediction.

    Raises:
        InputError: a file without its counterpart.
    """
    predicted = cases_by_name(predictions)
    referred = cases_by_name(references)
    if len(predicted) == len(referred) == 1 and Path(predictions).is_file() and Path(references).is_file():
        # two files belong together whatever their names
        referred = dict(zip(predicted, referred.values(), strict=True))
    if unknown := sorted(predicted.keys() - referred.keys()):
        raise InputError(f"every prediction must have a reference, got none for {unknown[:5]} ({len(unknown)} in all)")
    missing = sorted(referred.keys() - predicted.keys())
    if missing and not partial:
        raise InputError(
            f"every reference must have a prediction, got none for {missing[:5]} ({len(missing)} in all); compare "
            "the others alone",
            option="partial",
        )
    return {case: (predicted[case], referred[case]) for case in sorted(predicted)}, missing


def cases_by_name(path: str | Path) -> dict[str, Path]:
    """Label maps by case: `NAME_seg.*`, else `NAME.seg.nrrd`, else `NAME.*`; maps of uncertainty are not label maps.

    Raises:
        InputError: no such path, or a folder without label maps.
        AmbiguityError: two of one name.
    """
    files = image_files(Path(path)) if Path(path).is_dir() else []
    found: dict[str, dict[str, Path]] = {}
    for file in files or find_cases(path):
        name, ending = case_and_result(file)
        if ending not in LABEL_MAPS:
            name, ending = name + ending, ""
        if (other := found.setdefault(name, {}).setdefault(ending, file)) != file:
            raise AmbiguityError(f"label maps belong together by name, got {other} and {file}; remove one")
    return {
        name: next(kinds[ending] for ending in LABEL_MAPS if ending in kinds)
        for name, kinds in found.items()
        if name.removesuffix("_uncertainty") not in found.keys() - {name}
    }


def unit_of(paths: Iterable[Path]) -> str:
    """Return the unit of lengths: "mm" for volumes, "px" for pictures.

    Raises:
        AmbiguityError: both kinds.
    """
    kinds = {is_picture(path) for path in paths}
    if len(kinds) > 1:
        raise AmbiguityError(
            "label maps must be all volumes (mm) or all pictures (pixels), got both; evaluate them apart"
        )
    return "px" if kinds.pop() else "mm"


def labels_of(pairs: Mapping[str, tuple[Path, Path]], reference_values: Sequence[int]) -> dict[int, str]:
    """Return every label that occurs in paired files, named by its number.

    Raises:
        InputError: none occurs.
    """
    values: set[int] = set()
    for prediction, reference in pairs.values():
        values |= set(np.unique(read_label_map(prediction, None, ()).array).tolist())
        values |= set(np.unique(read_label_map(reference, None, reference_values).array).tolist())
    if not values - {0}:
        raise InputError("label maps must hold a label, got only 0 in all of them; name the labels", option="labels")
    return {value: str(value) for value in sorted(values - {0})}


def read_label_map(path: Path, labels: Mapping[int, str] | None, values: Sequence[int]) -> Volume:
    """Read a label map `(1, X, Y, Z)` int64.

    Args:
        path: of the file.
        labels: known ones, index -> name; None = any.
        values: the file's values of the labels 0, 1, 2, ...; () = the labels themselves.

    Raises:
        InputError: several channels, no whole numbers, or a value that is not known.
    """
    volume = read_volume(path, labels=True)
    array = label_array(volume, name=path)[None]
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"a label map must hold whole numbers, got others in {path}; is it an image?")
    array = array.astype(np.int64)
    found = np.unique(array)
    if values:
        if unknown := sorted(set(found.tolist()) - set(values)):
            raise InputError(f"the references' values must be {list(values)}, got also {unknown} in {path}")
        array = sum((np.int64(index) * (array == value) for index, value in enumerate(values)), np.zeros_like(array))
    elif labels is not None and (unknown := sorted(set(found.tolist()) - {0, *labels})):
        raise InputError(f"labels must be among {sorted({0, *labels})}, got also {unknown} in {path}")
    elif found[0] < 0:
        raise InputError(f"labels must be >= 0, got {found[0]} in {path}")
    return Volume(array, volume.affine)


def check_grids(case: str, prediction: Volume, reference: Volume, tolerance: float = GRID_TOLERANCE) -> None:
    """Refuse two volumes whose corners are further apart than `tolerance`, voxels."""
    if (distance := reference.grid_distance(prediction)) > tolerance:
        raise GeometryError(
            f"prediction and reference must be on the same grid within {tolerance:g} voxels, got {distance:.3g} in "
            f"case {case} ({prediction.shape} voxels of {prediction.spacing} mm, {reference.shape} of "
            f"{reference.spacing} mm); resample one of them, or raise grid_tolerance"
        )
