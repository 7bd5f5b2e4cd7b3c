"""One reader for every input: which format a path is, and what every volume must be."""

from pathlib import Path

import numpy as np

from ..errors import AmbiguityError, InputError
from ..volume import Volume
from .dicom_series import holds_dicom, is_dicom, read_dicom_series
from .itk import SUFFIXES as ITK_SUFFIXES
from .itk import read_itk
from .nifti import SUFFIXES as NIFTI_SUFFIXES
from .nifti import read_nifti
from .picture import SUFFIXES as PICTURE_SUFFIXES
from .picture import read_picture

SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES + PICTURE_SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether the file's name ends like a format that `read_volume` reads."""
    return path.name.lower().endswith(SUFFIXES)


def is_picture(path: Path) -> bool:
    """Whether the file's name ends like a picture: pixels, no lengths, one slice."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def read_volume(path: str | Path, *, labels: bool = False) -> Volume:
    """Read a NIfTI file, a DICOM series folder, a NRRD or MetaImage file, or a PNG or TIFF picture.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, `.mhd`, `.png`, `.tif`, `.tiff`, or a folder whose files are one DICOM
            series.
        labels: the file is a label map, so that a palette picture stands for its indices.

    Returns:
        The volume `(C, X, Y, Z)`, affine in mm, RAS, on the grid of the file; a picture has 1 per pixel.

    Raises:
        InputError: missing, unreadable, empty, or not finite; `GeometryError` and `AmbiguityError` are its kinds.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"input must exist, got {path}; check the path")
    if path.is_dir():
        volume = _read_folder(path)
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = read_nifti(path)
    elif path.name.lower().endswith(ITK_SUFFIXES):
        volume = read_itk(path)
    elif is_picture(path):
        volume = read_picture(path, labels=labels)
    elif is_dicom(path):
        raise AmbiguityError(f"{path} is one DICOM image; give the folder of its series, {path.parent}")
    else:
        raise InputError(f"input must be one of {', '.join(SUFFIXES)} or a DICOM folder, got {path}")
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        count = int(volume.array.size - np.isfinite(volume.array).sum())
        raise InputError(f"voxels must be finite, got {count} NaN or infinite ones in {path}; replace them first")
    return volume


def _read_folder(path: Path) -> Volume:
    if not holds_dicom(path):
        images = [entry.name for entry in sorted(path.iterdir()) if is_image_file(entry)]
        hint = f"; it holds image files, name one of {images[:3]}" if images else ""
        raise InputError(f"a folder must hold one DICOM series, found none in {path}{hint}")
    return read_dicom_series(path)
