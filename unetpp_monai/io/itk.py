"""NRRD and MetaImage to volume, through SimpleITK."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..dicom.geometry import LPS_TO_RAS
from ..errors import InputError
from ..volume import Volume

if TYPE_CHECKING:
    import SimpleITK

SUFFIXES = (".nrrd", ".mha", ".mhd")


def read_itk(path: Path) -> Volume:
    """Read an image whose geometry ITK states in LPS.

    Args:
        path: `.nrrd`, `.mha` or `.mhd` with 3 axes; vector pixels become channels.

    Raises:
        InputError: unreadable, or not 3-D.
    """
    return load_itk(path)[0]


def load_itk(path: Path) -> "tuple[Volume, SimpleITK.Image]":
    """Read an image as `read_itk` does; return ITK's object, too, which has the metadata."""
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} is not a readable image ({str(error).splitlines()[-1].strip()})") from error
    if image.GetDimension() != 3:
        raise InputError(f"an image must have 3 axes, got {image.GetDimension()} in {path}")
    array = SimpleITK.GetArrayFromImage(image)  # (Z, Y, X) or (Z, Y, X, C)
    array = array[..., None] if array.ndim == 3 else array
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(array.transpose(3, 2, 1, 0), LPS_TO_RAS @ affine), image
