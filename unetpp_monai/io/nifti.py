"""NIfTI to volume and back."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from ..errors import GeometryError, InputError
from ..files import complete_file
from ..volume import Volume

SUFFIXES = (".nii", ".nii.gz")
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}  # unknown: every tool takes it as mm
# what nibabel raises on a file that it cannot decode
BROKEN = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, zlib.error, ValueError)


def is_nifti(path: Path) -> bool:
    """Whether the file's name ends like NIfTI's."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file as it is stored: dtype kept unless the header scales, lengths in mm.

    Args:
        path: `.nii` or `.nii.gz`; 2-D, 3-D, or 4-D whose last axis are channels.

    Raises:
        InputError: not NIfTI, truncated, no real numbers, more axes, or an unknown unit of length.
        GeometryError: no usable affine.
    """
    try:
        image = nib.nifti1.load(path)
        if image.get_data_dtype().kind not in "iuf":
            raise InputError(f"voxels must be real numbers, got {image.get_data_dtype()} in {path}")
        array = np.asanyarray(image.dataobj)
    except BROKEN as error:
        raise InputError(
            f"{path} is not a readable NIfTI file ({_first_line(error)}); export or copy it again"
        ) from error
    while array.ndim > 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if not 2 <= array.ndim <= 4:
        raise InputError(f"a NIfTI image must have 2 to 4 axes, got shape {array.shape} in {path}")
    array = array.reshape(array.shape + (1,) * (4 - array.ndim))
    scale = np.diag([MM_PER_UNIT[_unit(image.header, path)]] * 3 + [1.0])
    try:
        return Volume(np.moveaxis(array, -1, 0), scale @ np.asarray(image.affine, dtype=np.float64))
    except InputError as error:
        raise type(error)(f"{error} ({path})") from error


def write_nifti(volume: Volume, path: Path, *, like: Path | None = None) -> None:
    """Write a volume, complete or not at all.

    Args:
        volume: what to write; one channel gives a 3-D image.
        path: `.nii` or `.nii.gz`; written under a temporary name beside it, then renamed.
        like: a NIfTI file on the same grid whose units, form codes and affine are kept to the bit.

    Raises:
        GeometryError: `like` is on another grid.
        OutputError: the file cannot be written.
    """
    array = np.moveaxis(volume.array, 0, -1)
    array = array[..., 0] if array.shape[-1] == 1 else array
    if like is None:
        image = nib.nifti1.Nifti1Image(array, None)
        image.header.set_xyzt_units("mm")
        image.set_sform(volume.affine, code="scanner")
        image.set_qform(volume.affine, code="scanner")
    else:
        image = nib.nifti1.Nifti1Image(array, *_geometry_of(like, volume))
    with complete_file(path) as temporary:
        nib.nifti1.save(image, temporary)


def _geometry_of(like: Path, volume: Volume) -> tuple[NDArray[np.float64], nib.nifti1.Nifti1Header]:
    """Affine in the file's own unit, and a header that holds nothing of the source but its geometry."""
    source = nib.nifti1.load(like)
    affine = np.asarray(source.affine, dtype=np.float64)
    unit = _unit(source.header, like)
    scale = np.diag([MM_PER_UNIT[unit]] * 3 + [1.0])
    if not volume.same_grid(Volume(volume.array, scale @ affine)):
        raise GeometryError(f"a label map must lie on the grid of its source, got another affine than that of {like}")
    header = nib.nifti1.Nifti1Header()
    header.set_data_dtype(volume.array.dtype)
    header.set_xyzt_units(unit)
    zooms = source.header.get_zooms()[:3]  # all that says where voxels are if neither form is coded
    header["pixdim"][1 : 1 + len(zooms)] = zooms
    header.set_sform(*source.header.get_sform(coded=True))
    header.set_qform(*source.header.get_qform(coded=True))
    return affine, header


def _unit(header: nib.nifti1.Nifti1Header, path: Path) -> str:
    """Name of the unit of length, one of `MM_PER_UNIT`."""
    code = int(header["xyzt_units"]) % 8  # the rest is the unit of time
    if code > 3:
        raise InputError(
            f"the unit of length must be m, mm or micron (1, 2, 3), got {code} in {path}; correct the header"
        )
    return str(nib.nifti1.unit_codes.label[code])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
