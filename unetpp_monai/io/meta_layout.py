"""Parse MetaImage headers (https://itk.org/Wiki/ITK/MetaIO/Documentation)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import CorruptFileError, InputError
from .layout import Layout, check_spacing, fields_of, mm_of, named_files, numbers, required, sizes_of

DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def meta_layout(path: Path) -> Layout:
    """Read the header of a MetaImage file.

    Raises:
        InputError: not MetaImage, unknown unit of length, or voxels in another folder.
        MissingGeometryError: no spacing.
    """
    fields, rest, start = fields_of(path, "ElementDataFile")
    sizes = sizes_of(required(fields, "DimSize", path), path)
    kind, name = required(fields, "ElementType", path), required(fields, "ElementDataFile", path)
    if kind not in DTYPES:
        raise InputError(f"voxels must be real numbers, got {kind!r} in {path}; convert the image")
    if len(sizes) != 3 or required(fields, "NDims", path).strip() != "3":  # ITK trusts NDims and crashes if it is wrong
        raise InputError(f"an image must have 3 axes, got {fields['NDims']} and {len(sizes)} sizes in {path}")
    check_spacing(numbers(fields.get("ElementSpacing", fields.get("ElementSize", "")), path), path)
    order = ">" if _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB") else "<"
    local = name.upper() == "LOCAL"
    files = (path,) if local else named_files(name, rest, path)
    header = int(sizes_or_zero(fields.get("HeaderSize", "0"), path))
    packed = _is_true(fields, "CompressedData")
    if packed and (len(files) != 1 or header):
        raise InputError(
            f"compressed voxels must start at the first byte of one file, got others in {path}; save it again"
        )
    channels = int(sizes_or_zero(fields.get("ElementNumberOfChannels", "1"), path))
    unit = mm_of(fields.get("DistanceUnits", ""), path)
    text = not packed and not _is_true(fields, "BinaryData", "True")
    return Layout(
        sizes=(channels, *sizes) if channels > 1 else sizes,
        dtype=np.dtype(DTYPES[kind]).newbyteorder(">" if order == ">" else "<"),
        components=0 if channels > 1 else None,
        files=files,
        start=start if local else max(header, 0),
        encoding="gzip" if packed else "text" if text else "raw",
        mm=(unit, unit, unit),
    )


def sizes_or_zero(text: str, path: Path) -> float:
    """Parse a whole number.

    Raises:
        CorruptFileError: not one whole number.
    """
    found = numbers(text, path)
    if len(found) != 1 or not found[0].is_integer():
        raise CorruptFileError(f"{path} is not a readable image (whole number expected, got {text!r}); export it again")
    return found[0]


def _is_true(fields: Mapping[str, str], name: str, default: str = "False") -> bool:
    return fields.get(name, default)[:1] in ("T", "t", "1")
