"""Detect the format of an image, read it and check it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ..dicom.discovery import is_dicom_source
from ..dicom.series import read_dicom_series
from ..errors import InputError
from ..volume import Volume, check_finite
from .compressed import check_not_empty
from .itk import SUFFIXES as ITK_SUFFIXES
from .itk import read_itk, voxel_files
from .nifti import SUFFIXES as NIFTI_SUFFIXES
from .nifti import nifti_remarks, read_nifti, voxel_file
from .picture import SUFFIXES as PICTURE_SUFFIXES
from .picture import read_picture

if TYPE_CHECKING:
    from ..dicom import Header


class ImageFormat(StrEnum):
    """Formats that `read_image` reads.

    Example:
        >>> ImageFormat("nifti").name
        'NIFTI'
    """

    DICOM = "dicom"  # a folder (walked), a zip, a DICOMDIR, or a multi-frame file
    NIFTI = "nifti"
    ITK = "itk"  # NRRD and MetaImage
    PICTURE = "picture"  # PNG and TIFF: pixels, no lengths, one slice


ENDINGS = {
    ImageFormat.NIFTI: NIFTI_SUFFIXES,
    ImageFormat.ITK: ITK_SUFFIXES,
    ImageFormat.PICTURE: PICTURE_SUFFIXES,
}
SUFFIXES = tuple(suffix for suffixes in ENDINGS.values() for suffix in suffixes)


@dataclass(frozen=True)
class SourceImage:
    """A volume and what it was read from.

    Example:
        >>> read_image(Path(__file__).parents[1] / "sample" / "mni_head.nii.gz").remarks
        ()
    """

    path: Path  # as it was given
    format: ImageFormat
    volume: Volume  # (C, X, Y, Z), mm, RAS
    instances: tuple["Header", ...] = ()  # of DICOM: headers without pixels, one per slice, or one multi-frame
    remarks: tuple[str, ...] = ()  # such as ignored objects, a resampled tilt or a doubtful orientation
    warnings: tuple[str, ...] = ()  # of the reader; may quote values that identify the patient
    sha256: Mapping[Path, str] = field(default_factory=dict)  # of files that were read whole, by resolved path
    series: tuple["Header", ...] = ()  # of DICOM: one header per channel's series


def is_image_file(path: Path) -> bool:
    """Tell whether a file has a suffix that `read_volume` reads."""
    return path.name.lower().endswith(SUFFIXES)


def is_picture(path: Path) -> bool:
    """Tell whether a file name is that of a picture.

    Args:
        path: file name; the file need not exist.

    Returns:
        True for PNG and TIFF: pixels, no lengths, one slice.

    Example:
        >>> is_picture(Path("cells.png")), is_picture(Path("head.nii.gz"))
        (True, False)
    """
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def image_format(path: str | Path) -> ImageFormat:
    """Tell the format of an image.

    Args:
        path: file or folder; DICOM is detected by content, other formats by suffix.

    Returns:
        The format.

    Raises:
        InputError: missing, or not an image; `CorruptFileError`: an empty file.

    Example:
        >>> image_format(Path(__file__).parents[1] / "sample" / "mni_head.nii.gz").value
        'nifti'
    """
    path = Path(path)
    if not path.exists():
        link = f", a link to {path.readlink()}" if path.is_symlink() else ""
        raise InputError(f"input must exist, got {path}{link}; check the path")
    check_not_empty(path)
    if is_dicom_source(path):
        return ImageFormat.DICOM
    if path.is_dir():
        images = [entry.name for entry in sorted(path.iterdir()) if is_image_file(entry)]
        hint = f"; it holds image files, name one of {images[:3]}" if images else ""
        raise InputError(f"a folder must hold one DICOM series, found none in {path}{hint}")
    for kind, suffixes in ENDINGS.items():
        if path.name.lower().endswith(suffixes):
            return kind
    raise InputError(f"input must be one of {', '.join(SUFFIXES)} or DICOM, got {path}")


def files_of_image(path: str | Path) -> tuple[Path, ...]:
    """List a file and those with its voxels.

    They are apart in the `.img` of a `.hdr`, and in the files that the header of a `.mhd` or NRRD names.

    Args:
        path: file or folder; need not be readable.

    Returns:
        The path first.

    Example:
        >>> [file.name for file in files_of_image("brain.nii.gz")]
        ['brain.nii.gz']
    """
    path = Path(path)
    try:
        found = voxel_files(path) if path.name.lower().endswith(ITK_SUFFIXES) else (voxel_file(path),)
    except (InputError, OSError):  # reading it gives the error
        found = ()
    return tuple(dict.fromkeys((path, *found)))


def read_image(
    path: str | Path, *, series: str | None = None, labels: bool = False, kind: ImageFormat | None = None
) -> SourceImage:
    """Read an image with its source's headers.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd`, `.mha`, `.mhd`, `.png`, `.tif`, `.tiff`, or DICOM: a folder (walked), a zip, a
            DICOMDIR, or a multi-frame file.
        series: UID, number or description of the DICOM series; None: the only one.
        labels: read a palette picture as a label map of its indices.
        kind: result of `image_format`, if known; None: detect it.

    Returns:
        The volume, affine in mm, RAS, on the grid of the file (a picture has 1 per pixel), and its source.

    Raises:
        InputError: missing, unreadable, empty, or not finite; `GeometryError` and `AmbiguityError` are its kinds.

    Example:
        >>> read_image(Path(__file__).parents[1] / "sample" / "mni_head.nii.gz").volume.axcodes
        ('R', 'A', 'S')
    """
    path = Path(path)
    kind = image_format(path) if kind is None else kind
    if kind == ImageFormat.DICOM:
        found = read_dicom_series(path, series=series)
        return SourceImage(
            *(path, kind, found.volume, found.sources, found.remarks, found.warnings, found.sha256),
            series=found.sources[:1],
        )
    if series is not None:
        raise InputError(f"only DICOM has series to choose from, got {path}")
    remarks: tuple[str, ...] = ()
    if kind == ImageFormat.NIFTI:
        volume = read_nifti(path)
        remarks = nifti_remarks(path)
    elif kind == ImageFormat.ITK:
        volume = read_itk(path)
    else:
        volume = read_picture(path, labels=labels)
    check_finite(volume, path)
    return SourceImage(path, kind, volume, remarks=remarks)


def read_volume(path: str | Path, *, labels: bool = False, series: str | None = None) -> Volume:
    """Read the volume `(C, X, Y, Z)` of an image.

    `read_image` also returns the source's headers.

    Args:
        path: as for `read_image`.
        labels: read a palette picture as a label map of its indices.
        series: UID, number or description of the DICOM series; None: the only one.

    Returns:
        The volume, affine in mm, RAS.

    Raises:
        InputError: missing, unreadable, empty, or not finite; `GeometryError` and `AmbiguityError` are its kinds.

    Example:
        >>> read_volume(Path(__file__).parents[1] / "sample" / "mni_head.nii.gz").axcodes
        ('R', 'A', 'S')
    """
    return read_image(path, series=series, labels=labels).volume
