"""One reader for every input: which format a path is, and what every volume must be."""

from pathlib import Path

from ..dicom.discovery import is_dicom_source
from ..dicom.series import read_dicom_series
from ..errors import InputError
from ..volume import Volume, check_finite
from .itk import SUFFIXES as ITK_SUFFIXES
from .itk import read_itk
from .nifti import SUFFIXES as NIFTI_SUFFIXES
from .nifti import is_nifti, read_nifti
from .picture import SUFFIXES as PICTURE_SUFFIXES
from .picture import read_picture

SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES + PICTURE_SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether the file's name ends like a format that `read_volume` reads."""
    return path.name.lower().endswith(SUFFIXES)


def is_picture(path: Path) -> bool:
    """Whether the file's name ends like a picture: pixels, no lengths, one slice."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def read_volume(path: str | Path, *, labels: bool = False, series: str | None = None) -> Volume:
    """Read a NIfTI file, a DICOM series, a NRRD or MetaImage file, or a PNG or TIFF picture.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, `.mhd`, `.png`, `.tif`, `.tiff`, or DICOM: a folder (walked), a zip, a
            DICOMDIR, or a multi-frame file.
        labels: the file is a label map, so that a palette picture stands for its indices.
        series: which DICOM series, by UID, number or description; None: the only one.

    Returns:
        The volume `(C, X, Y, Z)`, affine in mm, RAS, on the grid of the file; a picture has 1 per pixel.

    Raises:
        InputError: missing, unreadable, empty, or not finite; `GeometryError` and `AmbiguityError` are its kinds.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"input must exist, got {path}; check the path")
    if is_dicom_source(path):
        return read_dicom_series(path, series=series).volume
    if path.is_dir():
        images = [entry.name for entry in sorted(path.iterdir()) if is_image_file(entry)]
        hint = f"; it holds image files, name one of {images[:3]}" if images else ""
        raise InputError(f"a folder must hold one DICOM series, found none in {path}{hint}")
    elif is_nifti(path):
        volume = read_nifti(path)
    elif path.name.lower().endswith(ITK_SUFFIXES):
        volume = read_itk(path)
    elif is_picture(path):
        volume = read_picture(path, labels=labels)
    else:
        raise InputError(f"input must be one of {', '.join(SUFFIXES)} or DICOM, got {path}")
    check_finite(volume, path)
    return volume
