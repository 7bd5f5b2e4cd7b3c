"""Read label maps of any format, with the meaning of their values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..dicom.common import chosen_names
from ..dicom.reading import is_dicom, read_whole
from ..dicom.rtstruct import read_dicom_rtstruct
from ..dicom.seg import read_dicom_seg
from ..errors import InputError
from ..labels import Label
from ..volume import Volume, label_array
from .compressed import check_not_empty
from .label_table import read_label_table
from .nifti import SUFFIXES, is_nifti, read_nifti
from .seg_nrrd import read_seg_nrrd


def read_label_file(
    path: Path,
    *,
    structures: Sequence[Label] = (),
    grid: Volume | None = None,
    rois: Sequence[str] = (),
    thickness: float | None = None,
) -> tuple[Volume, tuple[Label, ...]]:
    """Read a label map.

    Args:
        path: NIfTI, `.seg.nrrd`, DICOM SEG or DICOM RTSTRUCT.
        structures: meaning of the values of a NIfTI file; empty: read the table `NAME.tsv` beside it.
        grid: volume of the series on which an RTSTRUCT was drawn.
        rois: names of the structures to read (others may overlap them); empty: all.
        thickness: slice thickness in mm for a single-plane DICOM SEG that states none.

    Returns:
        Labels `(1, X, Y, Z)` uint8, mm, RAS, and their meanings.

    Raises:
        InputError: missing file, other format, several channels, values > 255 or without meaning, or an RTSTRUCT
            without `grid`; `CorruptFileError`: truncated DICOM.
    """
    kind = label_format(path)
    if thickness is not None and (kind != "SEG" or not 0 < thickness < np.inf):
        raise InputError(
            f"thickness must be > 0 mm, and only for a single-plane DICOM SEG, got {thickness:g} mm for {path}",
            option="thickness",
        )
    if kind == "SEG":
        return read_dicom_seg(path, only=rois, thickness=thickness)
    if kind == "RTSTRUCT":
        if grid is None:
            raise InputError(
                f"contours need the grid of their images, got none for {path}; name their series", option="grid"
            )
        return read_dicom_rtstruct(path, grid, only=rois)
    volume, meanings = read_seg_nrrd(path) if kind == "NRRD" else _read_nifti(path, structures)
    chosen = tuple(meanings[index] for index in chosen_names(rois, [label.name for label in meanings], path))
    if len(chosen) < len(meanings):
        others = [label.index for label in meanings if label not in chosen]
        volume = Volume(np.where(np.isin(volume.array, others), 0, volume.array), volume.affine)
    return volume, chosen


def label_format(path: Path) -> str:
    """Tell the format of a label map: NIFTI, NRRD (`.seg.nrrd`), SEG or RTSTRUCT.

    Raises:
        InputError: missing file or other format; `CorruptFileError`: truncated DICOM.
    """
    if not path.is_file():
        raise InputError(f"a label map must be a file, got {path}; check the path")
    check_not_empty(path)
    if path.name.lower().endswith(".seg.nrrd"):
        return "NRRD"
    if is_nifti(path):
        return "NIFTI"
    if not is_dicom(path) and path.suffix.lower() != ".dcm":
        raise InputError(f"a label map must be NIfTI, .seg.nrrd, DICOM SEG or RTSTRUCT, got {path}")
    modality = str(read_whole(path, tags=["Modality"]).get("Modality"))
    if modality not in ("SEG", "RTSTRUCT"):
        raise InputError(f"a DICOM label map must be SEG or RTSTRUCT, got {modality} in {path}")
    return modality


def _read_nifti(path: Path, structures: Sequence[Label]) -> tuple[Volume, tuple[Label, ...]]:
    stem = next(path.name[: -len(suffix)] for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    table = path.with_name(f"{stem}.tsv")
    if not structures:
        if not table.exists():
            raise InputError(f"values of {path} must have a meaning, got no {table.name} beside it; name a bundle")
        structures = read_label_table(table)
    volume = read_nifti(path)
    values = np.unique(label_array(volume, name=path))
    if values[-1] > 255:
        raise InputError(f"values of a label map must be at most 255, got {values[-1]:g} in {path}; renumber them")
    if unknown := sorted(set(values.tolist()) - {0, *(label.index for label in structures)}):
        raise InputError(f"values of {path} must be 0 or labels of its structures, got {unknown[:5]}")
    return Volume(volume.array.astype(np.uint8), volume.affine), tuple(structures)
