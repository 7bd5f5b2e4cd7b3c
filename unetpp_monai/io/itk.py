"""Read NRRD and MetaImage through SimpleITK; compressed voxels are decompressed and verified here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..dicom.geometry import LPS_TO_RAS
from ..errors import CorruptFileError, InputError
from ..memory import check_memory
from ..volume import Volume
from .compressed import EITHER, Unpacked
from .layout import Layout, check_stored
from .meta_layout import meta_layout
from .nrrd_layout import nrrd_layout

if TYPE_CHECKING:
    import SimpleITK

SUFFIXES = (".nrrd", ".mha", ".mhd")


@dataclass(frozen=True)
class ItkImage:
    """An image as stored in its file."""

    array: NDArray[np.generic]  # (C, X, Y, Z)
    affine: NDArray[np.float64]  # 4x4, voxel index -> mm, RAS
    text: Mapping[str, str]  # other header fields


def read_itk(path: Path) -> Volume:
    """Read an ITK image (LPS) as a volume (RAS, mm).

    Args:
        path: `.nrrd`, `.mha` or `.mhd` with 3 axes; vector pixels become channels.

    Raises:
        InputError: unreadable, not 3-D, not real numbers, unknown unit of length, more voxels than memory, or voxels
            in another folder; `CorruptFileError`: truncated or damaged.
        GeometryError: no spacing, or no anatomical orientation.
    """
    image = read_itk_image(path, text=False)
    return Volume(image.array, image.affine)


def itk_components(path: Path) -> int:
    """Return the number of channels from the header."""
    reader = _reader(path)
    reader.ReadImageInformation()
    return int(reader.GetNumberOfComponents())


def read_itk_image(path: Path, *, text: bool = True) -> ItkImage:
    """Read as `read_itk`, with the other header fields if `text`."""
    reader = _reader(path)
    try:
        layout = _layout(path)
        check_stored(layout, path)
        check_memory(2 * layout.size, f"the voxels of {path}", way_out="take a part of them, or a machine with more")
        reader.ReadImageInformation()
        if reader.GetDimension() != 3:
            raise InputError(f"an image must have 3 axes, got {reader.GetDimension()} in {path}")
        array = _unpacked(layout, path) if layout.encoding == "gzip" else _stored(reader)
    except OSError as error:
        raise InputError(f"{path} is not a readable image ({error.strerror or error}); check it") from error
    except RuntimeError as error:
        raise InputError(f"{path} is not a readable image ({str(error).splitlines()[-1].strip()})") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"voxels must be real numbers, got {array.dtype} in {path}")
    affine = np.eye(4)
    affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    scale = np.diag([*layout.mm, 1.0])
    return ItkImage(array, scale @ LPS_TO_RAS @ affine, _text(reader, path) if text else {})


def voxel_files(path: Path) -> tuple[Path, ...]:
    """Return the files with the voxels; the path itself, if they are not apart from its header.

    Raises:
        InputError: an unreadable header, or voxels in another folder.
        OSError: an unreadable file.
    """
    return _layout(path).files


def _layout(path: Path) -> Layout:
    return nrrd_layout(path) if _is_nrrd(path) else meta_layout(path)


def _is_nrrd(path: Path) -> bool:
    return path.name.lower().endswith(".nrrd")


def _reader(path: Path) -> "SimpleITK.ImageFileReader":
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")  # do not let ITK guess from the content
    reader.SetFileName(str(path))
    return reader


def _text(reader: "SimpleITK.ImageFileReader", path: Path) -> dict[str, str]:
    try:
        return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    except (TypeError, UnicodeDecodeError) as error:  # SimpleITK returns text only if it is UTF-8
        raise CorruptFileError(f"{path} must have its header in UTF-8, got another encoding; save it again") from error


def _stored(reader: "SimpleITK.ImageFileReader") -> NDArray[np.generic]:
    import SimpleITK

    image = reader.Execute()
    array = SimpleITK.GetArrayFromImage(image)  # (Z, Y, X) or (Z, Y, X, C)
    array = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    return np.asarray(array.transpose(3, 2, 1, 0))


def _unpacked(layout: Layout, path: Path) -> NDArray[np.generic]:
    (file,) = layout.files
    with file.open("rb") as stream:
        stream.seek(layout.start)
        unpacked = Unpacked(stream, path, EITHER)
        array = np.ndarray(layout.sizes, layout.dtype, buffer=unpacked.read(layout.size), order="F")
        unpacked.finish()
    array = array.astype(layout.dtype.newbyteorder("="), copy=False)
    return array[None] if layout.components is None else np.moveaxis(array, layout.components, 0)
