"""Read and write the geometry of NIfTI headers.

The sform is used if its code is not 0, else the qform, else only the sizes are known. Files whose `pixdim` contradicts
the sform are refused: other programs would measure different sizes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.affines import from_matvec
from nibabel.nifti1 import Nifti1Header as Header
from nibabel.nifti1 import unit_codes
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import aff2axcodes
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from ..errors import GeometryError, InputError

MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}  # unknown: read as mm by all tools
SPACING_TOLERANCE = 0.01  # relative difference by rounding within one header
QUATERNION_TOLERANCE = 0.01  # by which a quaternion's squared length may exceed 1, rounded to two digits
APART = 60  # degrees between an axis by the sform and by the qform from which they contradict
SHEAR_VOXELS = 0.01  # by which a corner may move if shear is removed for the qform
SHEARED = b"no qform: the axes are not at right angles"  # written to `descrip`
BROKEN_QFORM = b"no qform: the quaternion of the source is none"
KINDS = {348: Header, 540: Nifti2Header}  # header size in bytes, its first number
SINGLE, PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")  # magic of a single file, and of a pair


class Readable(Protocol):
    """A file, or its decompressed stream."""

    def read(self, size: int) -> bytes | bytearray:
        """Return the next bytes."""
        ...


def parse_header(file: Readable, path: Path) -> Header:
    """Read the header at the start of a file, unchanged.

    Args:
        file: decompressed, at its start; left after the header.
        path: for messages.

    Raises:
        InputError: not NIfTI.
    """
    block = bytes(file.read(348))
    orders = {order: int.from_bytes(block[:4], "little" if order == "<" else "big") for order in "<>"}
    found = [(KINDS[size], order) for order, size in orders.items() if size in KINDS]
    try:
        kind, order = found[0]
        block += bytes(file.read(kind.sizeof_hdr - len(block)))
        header: Header = kind(block, endianness=order, check=False)
    except (IndexError, WrapStructError) as error:
        raise InputError(f"{path} is not a readable NIfTI file (no header); export or copy it again") from error
    if (magic := bytes(header["magic"].item())[:3]) not in SINGLE + PAIR:
        kind = f"magic {magic!r}" if magic else "Analyze, which does not say which side is left"
        raise InputError(f"{path} is not a readable NIfTI file ({kind}); convert it to NIfTI")
    return header


def shape_of(header: Header, path: Path) -> tuple[int, ...]:
    """Return the voxels per axis.

    Raises:
        InputError: invalid number of axes, or an axis without voxels.
    """
    axes = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : axes + 1])
    if not 1 <= axes <= 7 or min(shape) < 1:
        raise InputError(
            f"a NIfTI image must have 1 to 7 axes of at least 1 voxel, got {axes} axes and the sizes {shape} in {path}"
        )
    return shape


def dtype_of(header: Header, path: Path) -> np.dtype[np.generic]:
    """Return the stored type of the voxels.

    Raises:
        InputError: not real numbers.
    """
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        code = int(header["datatype"])
        raise InputError(f"{path} is not a readable NIfTI file (type {code}); export or copy it again") from error
    if dtype.kind not in "iuf":
        kind = "colours" if dtype.names else f"type {int(header['datatype'])}" if dtype.kind == "V" else dtype
        raise InputError(f"voxels must be real numbers, got {kind} in {path}; convert it to one number per voxel")
    found: np.dtype[np.generic] = np.dtype(dtype)
    return found


def unit_of(header: Header, path: Path) -> str:
    """Return the unit of length, a key of `MM_PER_UNIT`.

    Raises:
        InputError: another unit.
    """
    code = int(header["xyzt_units"]) % 8  # the rest is the unit of time
    if code > 3:
        raise InputError(
            f"the unit of length must be m, mm or micron (1, 2, 3), got {code} in {path}; correct the header"
        )
    return str(unit_codes.label[code])


def affine_of(header: Header, path: Path) -> NDArray[np.float64]:
    """Return the affine in the file's unit of length.

    Raises:
        GeometryError: unknown, contradictory or incomplete forms.
    """
    sform, qform = _codes(header, path)
    if not sform:
        return _qform(header, path) if qform else _centred(header, path)
    affine = np.eye(4)
    affine[:3] = [header[row] for row in ("srow_x", "srow_y", "srow_z")]
    if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0:  # else the affine is unusable
        _check_spacing(header, affine, path)
    return affine


def orientation_remarks(header: Header, path: Path) -> Iterator[str]:
    """Find an orientation that is not stated, or stated twice in contradiction."""
    sform, qform = _codes(header, path)
    if not (sform or qform):
        yield (
            "a NIfTI file should state its orientation, got sform_code and qform_code 0; read with the first axis to "
            "the left, as nibabel does: if that is wrong, left and right are swapped"
        )
    elif sform and qform and (quaternion := _quaternion(header)) is not None:
        one = affine_of(header, path)[:3, :3]
        other = quat2mat(quaternion) * (1, 1, _handedness(header))  # directions only: pixdim may say nothing
        if (np.sum(one * other, axis=0) < np.cos(np.deg2rad(APART)) * np.linalg.norm(one, axis=0)).any():
            names = ["".join(aff2axcodes(from_matvec(each))) for each in (one, other)]
            yield (
                f"sform and qform should state one orientation, got {names[0]} and {names[1]}; read by the sform, "
                "other programs may read the qform: correct the wrong one"
            )


def geometry_like(source: Header, path: Path) -> Header:
    """Return a new header with an exact copy of the geometry only: unit, codes, forms and sizes.

    Args:
        source: header of an image.
        path: for messages.

    Raises:
        InputError: as for `unit_of` and `affine_of`.
    """
    header: Header = (Nifti2Header if source.sizeof_hdr == 540 else Header)()
    header.set_xyzt_units(unit_of(source, path))
    affine = affine_of(source, path)
    spacing, stated = np.linalg.norm(affine[:3, :3], axis=0), _spacing(source)
    header["pixdim"][1:4] = np.where(np.isfinite(stated) & (stated > 0), stated, spacing)
    header["sform_code"], qform = _codes(source, path)
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = source[row] if header["sform_code"] else 0
    if qform:
        _copy_qform(source, header, path)
    return header


def set_geometry(header: Header, affine: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Write an affine in mm as sform and qform, or as sform only if the axes are sheared.

    Args:
        header: changed in place.
        affine: voxel index -> mm.
        shape: voxels per axis.
    """
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner", strip_shears=True)  # sets pixdim too
    header.set_sform(affine, code="scanner")
    corners = np.array(list(np.ndindex(2, 2, 2))) * shape
    moved = corners @ (header.get_qform()[:3, :3] - affine[:3, :3]).T
    if (np.linalg.norm(moved, axis=1) > SHEAR_VOXELS * np.linalg.norm(affine[:3, :3], axis=0).min()).any():
        header["qform_code"], header["descrip"] = 0, SHEARED


def _codes(header: Header, path: Path) -> tuple[int, int]:
    codes = int(header["sform_code"]), int(header["qform_code"])
    if not set(codes) <= set(range(6)):
        raise GeometryError(f"sform_code and qform_code must be 0 to 5, got {codes} in {path}; correct the header")
    return codes


def _spacing(header: Header) -> NDArray[np.float64]:
    """Return `pixdim` of the first three axes; 1 for missing axes."""
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64).copy()
    spacing[int(header["dim"][0]) :] = 1
    return spacing


def _proper_spacing(header: Header, path: Path) -> NDArray[np.float64]:
    spacing = _spacing(header)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise GeometryError(
            f"pixdim must be > 0 on every axis if there is no sform, got {spacing.tolist()} in {path}; "
            "correct the header"
        )
    return spacing


def _check_spacing(header: Header, affine: NDArray[np.float64], path: Path) -> None:
    found, stated = np.linalg.norm(affine[:3, :3], axis=0), np.abs(_spacing(header))
    known = np.isfinite(stated) & (stated > 0) & (np.arange(3) < int(header["dim"][0]))
    if (np.abs(found - stated)[known] > SPACING_TOLERANCE * stated[known]).any():
        unit = unit_of(header, path).replace("unknown", "mm")
        raise GeometryError(
            f"sform and pixdim (with it the qform) must state one spacing, within {SPACING_TOLERANCE:.0%}, got "
            f"{_text(found)} {unit} by the sform and {_text(stated)} {unit} by pixdim in {path}: both cannot be right; "
            "correct the wrong one, or set sform_code to 0 if it is the sform"
        )


def _quaternion(header: Header) -> NDArray[np.float64] | None:
    """Return a, b, c, d of length 1; None if b, c, d are no rotation, even allowing for rounding."""
    rest = np.array([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    square = float(rest @ rest)
    if not square <= 1 + QUATERNION_TOLERANCE:  # NaN too
        return None
    whole = np.array([0 if abs(1 - square) < header.quaternion_threshold else np.sqrt(max(1 - square, 0)), *rest])
    return np.asarray(whole / np.linalg.norm(whole))


def _qform(header: Header, path: Path) -> NDArray[np.float64]:
    quaternion = _quaternion(header)
    if quaternion is None:
        parts = [float(header[f"quatern_{name}"]) for name in "bcd"]
        raise GeometryError(
            f"a qform must have a quaternion of length 1, got b, c, d = {parts} in {path}; export the image again"
        )
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) * _proper_spacing(header, path)
    affine[:3, 2] *= _handedness(header)
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _handedness(header: Header) -> int:
    return -1 if header["pixdim"][0] < 0 else 1  # 0 and anything else: 1


def _centred(header: Header, path: Path) -> NDArray[np.float64]:
    """Return the affine that nibabel and MONAI use without sform and qform: x to the left, origin at the centre."""
    spacing = _proper_spacing(header, path) * (-1, 1, 1)
    shape = np.ones(3)
    shape[: min(int(header["dim"][0]), 3)] = header["dim"][1 : min(int(header["dim"][0]), 3) + 1]
    return np.asarray(from_matvec(np.diag(spacing), -(shape - 1) / 2 * spacing))


def _copy_qform(source: Header, header: Header, path: Path) -> None:
    """Copy the qform; normalise a quaternion with rounding errors, as other programs reject it."""
    quaternion = _quaternion(source)
    if quaternion is None:
        header["descrip"] = BROKEN_QFORM
        return
    header["qform_code"], header["pixdim"][0] = source["qform_code"], _handedness(source)
    values = np.array([source[f"quatern_{name}"] for name in "bcd"], dtype=header["quatern_b"].dtype)
    if float(values.astype(np.float64) @ values) > 1 + header.quaternion_threshold:
        values = _half_turn(quaternion[1:], values.dtype)
    for name, value in zip("bcd", values, strict=True):
        header[f"quatern_{name}"] = value
    for axis in "xyz":
        header[f"qoffset_{axis}"] = source[f"qoffset_{axis}"]


def _half_turn(values: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[Any]:
    """Return b, c, d of a half turn (a = 0) with length >= 1, so that readers compute a = 0 again."""
    rounded = values.astype(dtype)
    largest = int(np.abs(rounded).argmax())
    while float(rounded.astype(np.float64) @ rounded) < 1:
        rounded[largest] = np.nextafter(rounded[largest], 2 * np.sign(rounded[largest]))
    return rounded


def _text(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.5g}" for value in spacing)
