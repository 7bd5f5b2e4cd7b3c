"""Read and write NIfTI."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Header as Header
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from ..errors import CorruptFileError, GeometryError, InputError, OutputError
from ..files import complete_file
from ..memory import check_memory
from ..volume import Volume
from .compressed import Unpacked, check_size
from .nifti_header import (
    MM_PER_UNIT,
    PAIR,
    affine_of,
    dtype_of,
    geometry_like,
    orientation_remarks,
    parse_header,
    set_geometry,
    shape_of,
    unit_of,
)

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")  # .hdr: header of a pair; its voxels are in .img
MOST_VOXELS = 32767  # per axis in NIfTI-1; larger images are written as NIfTI-2


def is_nifti(path: Path) -> bool:
    """Tell whether a file has a NIfTI suffix."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: Path) -> Volume:
    """Read NIfTI: dtype as stored unless the header scales, lengths in mm.

    Args:
        path: `.nii` or `.nii.gz` of NIfTI-1 or -2, or the `.hdr` of a pair; 2-D, 3-D, or 4-D with channels last.

    Raises:
        InputError: not NIfTI, not real numbers, more axes, unknown unit of length, or more voxels than memory;
            `CorruptFileError`: truncated or damaged.
        GeometryError: no usable affine, or two contradictory ones.
    """
    try:
        with path.open("rb") as file:
            stream = _unpacked(file, path)
            header = parse_header(stream, path)
            scale = np.diag([MM_PER_UNIT[unit_of(header, path)]] * 3 + [1.0])
            affine = scale @ affine_of(header, path)
            if not _is_pair(header):
                array = _voxels(stream, header, path, start=header.sizeof_hdr)
        if _is_pair(header):
            voxels = _partner(path)
            with voxels.open("rb") as file:
                array = _voxels(_unpacked(file, voxels), header, voxels, start=0)
    except OSError as error:
        raise InputError(f"{path} is not a readable NIfTI file ({error.strerror or error}); check it") from error
    while array.ndim > 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if not 2 <= array.ndim <= 4:
        raise InputError(f"a NIfTI image must have 2 to 4 axes, got shape {array.shape} in {path}")
    array = array.reshape(array.shape + (1,) * (4 - array.ndim))
    try:
        return Volume(np.moveaxis(array, -1, 0), affine)
    except InputError as error:
        raise type(error)(f"{error} ({path})") from error


def nifti_remarks(path: Path) -> tuple[str, ...]:
    """Return what is doubtful about the orientation of a readable file."""
    with path.open("rb") as file:
        return tuple(orientation_remarks(parse_header(_unpacked(file, path), path), path))


def voxel_file(path: Path) -> Path:
    """Return the file with the voxels: the `.img` of a `.hdr`, else the file itself.

    Raises:
        InputError: a pair without `.img`.
    """
    return _partner(path) if ".hdr" in path.name.lower() else path


def write_nifti(volume: Volume, path: Path, *, like: Path | None = None) -> None:
    """Write a volume to a NIfTI file.

    Writing is atomic. sform and qform are equal with code 1, unless `like` is given.

    Args:
        volume: one channel gives a 3-D image; sheared axes give no qform.
        path: `.nii` or `.nii.gz`.
        like: NIfTI file on the same grid whose unit, form codes and affines are copied exactly; a quaternion with
            rounding errors is normalised, an invalid one is omitted.

    Raises:
        GeometryError: `like` is on another grid.
        OutputError: the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_nifti(Volume(np.ones((1, 4, 5, 6)), np.eye(4)), Path(folder, "case.nii.gz"))
        ...     read_nifti(Path(folder, "case.nii.gz")).shape
        (4, 5, 6)
    """
    array = np.moveaxis(volume.array, 0, -1)
    array = array[..., 0] if array.shape[-1] == 1 else array
    if like is None:
        header = (Nifti2Header if max(array.shape) > MOST_VOXELS else Header)()
        set_geometry(header, volume.affine, volume.shape)
    else:
        header = _geometry_of(like, volume)
    kind = Nifti2Image if header.sizeof_hdr == 540 else Nifti1Image
    try:
        header.set_data_dtype(array.dtype)
        image = kind(array, None, header)
    except HeaderDataError as error:
        raise OutputError(f"voxels must be of a type that NIfTI has, got {array.dtype}; convert them first") from error
    with complete_file(path) as temporary:
        image.to_filename(temporary)


def _geometry_of(like: Path, volume: Volume) -> Header:
    with like.open("rb") as file:
        source = parse_header(_unpacked(file, like), like)
    scale = np.diag([MM_PER_UNIT[unit_of(source, like)]] * 3 + [1.0])
    if not volume.same_grid(Volume(volume.array, scale @ affine_of(source, like))):
        raise GeometryError(f"a label map must be on the grid of its source, got another affine than that of {like}")
    return geometry_like(source, like)


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO | Unpacked:
    return Unpacked(file, path) if path.suffix.lower() == ".gz" else file


def _is_pair(header: Header) -> bool:
    return bytes(header["magic"].item())[:3] in PAIR


def _partner(path: Path) -> Path:
    """Find the `.img` of a `.hdr`, compressed or not."""
    stem = path.name[: path.name.lower().rindex(".hdr")] if ".hdr" in path.name.lower() else path.stem
    found = [path.with_name(stem + ending) for ending in (".img", ".img.gz", ".IMG", ".IMG.GZ")]
    for candidate in found:
        if candidate.exists():
            return candidate
    raise InputError(f"the header of a NIfTI pair must have its voxels beside it, got no {found[0]}; copy it there")


def _voxels(stream: BinaryIO | Unpacked, header: Header, path: Path, *, start: int) -> NDArray[np.generic]:
    """Read the voxels `(X, Y, ...)`, scaled as the header states.

    Args:
        stream: file with the voxels, read up to `start`.
        header: its header.
        path: for messages.
        start: offset of the voxels in bytes.
    """
    shape, dtype = shape_of(header, path), dtype_of(header, path)
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(f"the scaling of intensities must be finite, got {error} in {path}") from error
    scaled = slope is not None and (slope, inter) != (1, 0)
    count, offset = math.prod(shape), _offset(header, path)
    size = count * dtype.itemsize
    compressed = isinstance(stream, Unpacked)
    check_size(offset + size, path.stat().st_size, path, compressed=compressed)
    needed = offset + size + 8 * count * scaled
    check_memory(needed, f"the voxels of {path}", way_out="take a part of them, or a machine with more")
    stream.read(offset - start)
    array = np.ndarray(shape, dtype, buffer=_exactly(stream, size, path), order="F")
    if isinstance(stream, Unpacked):
        stream.finish()
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return np.asarray(apply_read_scaling(array, slope, inter))


def _exactly(stream: BinaryIO | Unpacked, size: int, path: Path) -> bytearray:
    if isinstance(stream, Unpacked):
        return stream.read(size)
    found = bytearray(size)
    done = stream.readinto(found)  # type: ignore[attr-defined]
    if done != size:
        raise CorruptFileError(f"{path} is not a readable NIfTI file ({done} of {size} bytes of voxels); copy it again")
    return found


def _offset(header: Header, path: Path) -> int:
    """Return the offset of the voxels in bytes."""
    offset, least = float(header["vox_offset"]), 0 if _is_pair(header) else header.sizeof_hdr + 4
    offset = offset or float(least)  # 0: directly after the header
    if not (offset.is_integer() and least <= offset):
        raise InputError(f"voxels must begin at byte {least} or later, got {offset:g} in {path}; export it again")
    return int(offset)
