"""Parse NRRD headers (https://teem.sourceforge.net/nrrd/format.html)."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import AmbiguityError, CorruptFileError, InputError, MissingGeometryError
from .layout import Layout, check_spacing, fields_of, mm_of, named_files, numbers, required, sizes_of

SPACES = {  # anatomical ones
    "right-anterior-superior": "RAS",
    "left-anterior-superior": "LAS",
    "left-posterior-superior": "LPS",
}
TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
DTYPES = {name: np.dtype(code) for code, names in TYPES.items() for name in names.split(", ")}
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", **dict.fromkeys(("txt", "text", "ascii", "hex"), "text")}


def nrrd_layout(path: Path) -> Layout:
    """Read the header of a NRRD file.

    Raises:
        InputError: not NRRD, unknown unit of length, or voxels in another folder.
        MissingGeometryError: no spacing, or no anatomical space.
    """
    with path.open("rb") as file:
        if file.read(4) != b"NRRD":
            raise CorruptFileError(f"{path} is not a readable image (no NRRD header); export or copy it again")
    fields, rest, start = fields_of(path, "")
    fields = {name.lower(): value for name, value in fields.items()}
    sizes = sizes_of(required(fields, "sizes", path), path)
    encoding = ENCODINGS.get(required(fields, "encoding", path).lower())
    dtype = DTYPES.get(required(fields, "type", path).lower())
    if encoding is None or dtype is None:
        raise InputError(
            f"a NRRD file must hold numbers, raw, gzip or text, got {fields['type']!r} and {fields['encoding']!r} in "
            f"{path}; save it again"
        )
    if dtype.itemsize > 1 and encoding != "text":
        order = {"little": "<", "big": ">"}.get(required(fields, "endian", path).lower())
        if order is None:
            raise CorruptFileError(f"{path} is not a readable image (endian {fields['endian']!r}); export it again")
        dtype = dtype.newbyteorder("<" if order == "<" else ">")
    name = fields.get("data file", fields.get("datafile"))
    files = (path,) if name is None else named_files(name, rest, path)
    skipped = [fields.get(key, "0") for key in ("line skip", "lineskip", "byte skip", "byteskip")]
    if encoding == "gzip" and (len(files) != 1 or set(skipped) != {"0"}):
        raise InputError(
            f"compressed voxels must start at the first byte of one file, got others in {path}; save it again"
        )
    return Layout(
        sizes=sizes,
        dtype=dtype,
        components=_components(fields, sizes, path),
        files=files,
        start=start if name is None else 0,
        encoding=encoding,
        mm=_mm(fields, path),
    )


def _components(fields: Mapping[str, str], sizes: tuple[int, ...], path: Path) -> int | None:
    """Check the geometry and return the axis without direction, if any."""
    space = fields.get("space", "").lower()
    if SPACES.get(space, space.upper()) not in SPACES.values() or "space directions" not in fields:
        raise MissingGeometryError(
            f"a NRRD file must state its orientation and spacing, got space {space or 'none'!r} and "
            f"{'no ' * ('space directions' not in fields)}space directions in {path}; save it with a space such as "
            "left-posterior-superior"
        )
    directions = re.findall(r"none|\([^)]*\)", fields["space directions"])
    without = [axis for axis, direction in enumerate(directions) if direction == "none"]
    if len(directions) != len(sizes) or len(sizes) - len(without) != 3:
        raise InputError(f"an image must have 3 axes, got {len(sizes) - len(without)} of {len(sizes)} in {path}")
    if len(without) > 1:
        raise AmbiguityError(f"at most one axis may be non-spatial, got {len(without)} in {path}; save one image")
    axes = [numbers(direction.strip("()").replace(",", " "), path) for direction in directions if direction != "none"]
    if any(len(axis) != 3 for axis in axes):
        raise InputError(
            f"directions must have 3 numbers, got {fields['space directions']!r} in {path}; correct the header"
        )
    check_spacing(tuple(float(np.linalg.norm(axis)) for axis in axes), path)
    return without[0] if without else None


def _mm(fields: Mapping[str, str], path: Path) -> tuple[float, ...]:
    text = fields.get("space units", "")
    units = re.findall(r'"([^"]*)"', text) or text.split() or [""] * 3
    if len(units) != 3:
        raise InputError(f"space units must be 3, got {text!r} in {path}; correct the header")
    return tuple(mm_of(unit, path) for unit in units)
