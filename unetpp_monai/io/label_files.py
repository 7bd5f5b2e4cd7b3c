"""Label maps of any format to a volume and the meaning of its values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..dicom.reading import is_dicom, read_whole
from ..dicom.rtstruct import read_dicom_rtstruct
from ..dicom.seg import read_dicom_seg
from ..errors import InputError
from ..labels import Label
from ..volume import Volume, label_array
from .label_table import read_label_table
from .nifti import SUFFIXES, is_nifti, read_nifti
from .seg_nrrd import read_seg_nrrd


def read_label_file(
    path: Path, *, structures: Sequence[Label] = (), grid: Volume | None = None
) -> tuple[Volume, tuple[Label, ...]]:
    """Read a label map.

    Args:
        path: NIfTI, `.seg.nrrd`, DICOM SEG or DICOM RTSTRUCT.
        structures: what the values of a NIfTI file mean; empty: as the table beside it says (`NAME.tsv`).
        grid: volume of the series that an RTSTRUCT's contours were drawn on.

    Returns:
        Labels `(1, X, Y, Z)` uint8, mm, RAS, and their meanings.

    Raises:
        InputError: no such file or format, several channels, values above 255 or without a meaning, or an RTSTRUCT
            without grid; `CorruptFileError`: truncated DICOM.
    """
    if not path.is_file():
        raise InputError(f"a label map must be a file, got {path}; check the path")
    name = path.name.lower()
    if name.endswith(".seg.nrrd"):
        return read_seg_nrrd(path)
    if is_nifti(path):
        return _read_nifti(path, structures)
    if not is_dicom(path):
        raise InputError(f"a label map must be NIfTI, .seg.nrrd, DICOM SEG or RTSTRUCT, got {path}")
    modality = read_whole(path, tags=["Modality"]).get("Modality")
    if modality == "SEG":
        return read_dicom_seg(path)
    if modality != "RTSTRUCT":
        raise InputError(f"a DICOM label map must be SEG or RTSTRUCT, got {modality} in {path}")
    if grid is None:
        raise InputError(
            f"contours need the grid of their images, got none for {path}; name their series", option="grid"
        )
    return read_dicom_rtstruct(path, grid)


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
