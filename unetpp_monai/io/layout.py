"""Parse how NRRD and MetaImage files store their voxels, before reading any.

ITK reads both formats, but treats all lengths as mm, invents missing spacings, follows file names to any folder, and
ignores the checksum after the last voxel.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CorruptFileError, GeometryError, InputError, MissingGeometryError
from .compressed import check_size

MM_PER_UNIT = {
    **dict.fromkeys(("", "?", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
}  # unknown: read as mm by all tools
LONGEST = 1 << 24  # most bytes of a header
MOST_FILES = 1 << 14  # of one image


@dataclass(frozen=True)
class Layout:
    """Location and encoding of the voxels."""

    sizes: tuple[int, ...]  # per axis, fastest first, including the component axis
    dtype: np.dtype[np.generic]
    components: int | None  # the component axis; None: one number per voxel
    files: tuple[Path, ...]  # with the voxels
    start: int  # byte of the first voxel
    encoding: str  # "raw", "gzip" or "text"
    mm: tuple[float, ...]  # per unit of length, for each world axis

    @property
    def size(self) -> int:
        """Bytes of all voxels, decompressed."""
        return math.prod(self.sizes) * self.dtype.itemsize


def fields_of(path: Path, end: str) -> tuple[dict[str, str], list[str], int]:
    """Split a header of lines `name: value` or `name = value`.

    Args:
        path: header file.
        end: name of the last field; "": an empty line ends the header.

    Returns:
        The fields, the lines after the last field, and the header's length in bytes.

    Raises:
        CorruptFileError: invalid header.
    """
    separator = "=" if end else ":"
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            text = line.decode(errors="replace").strip()
            name, found, value = text.partition(separator)
            if not end and not text:
                break
            if found and not value.startswith("=") and not text.startswith("#"):  # := marks user-defined keys
                fields[name.strip()] = value.strip()
            if (end and name.strip() == end) or file.tell() > LONGEST:
                break
        start = file.tell()
        rest = file.read(LONGEST).decode(errors="replace").splitlines() if "LIST" in fields.values() else []
    return fields, rest, start


def required(fields: Mapping[str, str], name: str, path: Path) -> str:
    """Return the value of a field.

    Raises:
        CorruptFileError: it is missing.
    """
    try:
        return fields[name]
    except KeyError as error:
        raise CorruptFileError(
            f"{path} is not a readable image (its header has no {name!r}); export or copy it again"
        ) from error


def numbers(text: str, path: Path) -> tuple[float, ...]:
    """Parse the numbers of a field.

    Raises:
        CorruptFileError: not numbers.
    """
    try:
        return tuple(float(part) for part in text.split())
    except ValueError as error:
        raise CorruptFileError(
            f"{path} is not a readable image (numbers expected, got {text[:80]!r}); export or copy it again"
        ) from error


def sizes_of(text: str, path: Path) -> tuple[int, ...]:
    """Parse the number of voxels per axis.

    Raises:
        InputError: an axis without voxels.
    """
    sizes = numbers(text, path)
    if not sizes or not all(size >= 1 and size.is_integer() for size in sizes):
        raise InputError(f"every axis must have at least 1 voxel, got {text[:80]!r} in {path}; export the image again")
    return tuple(map(int, sizes))


def mm_of(unit: str, path: Path) -> float:
    """Return the length of a unit in mm.

    Raises:
        InputError: unknown unit.
    """
    try:
        return MM_PER_UNIT[unit.strip().lower()]
    except KeyError as error:
        raise InputError(
            f"the unit of length must be m, cm, mm, um or nm, got {unit!r} in {path}; correct the header"
        ) from error


def check_spacing(spacing: tuple[float, ...], path: Path) -> None:
    """Check a spacing.

    Raises:
        MissingGeometryError: no spacing.
        GeometryError: not finite, or not > 0.
    """
    if not spacing:
        raise MissingGeometryError(f"an image must state its spacing, got none in {path}; add it")
    if not all(math.isfinite(length) and length > 0 for length in spacing):
        raise GeometryError(f"spacing must be > 0 on every axis, got {spacing} in {path}; correct the header")


def named_files(text: str, rest: list[str], path: Path) -> tuple[Path, ...]:
    """List the files a header names: one file, a pattern with first, last and step, or a list after the header.

    Raises:
        InputError: outside the header's folder, missing, or invalid pattern.
    """
    pattern = re.fullmatch(r"(?P<before>[^%]*)%(?P<digits>0?\d{0,2})d(?P<after>[^%\s]*)(?P<range>( -?\d+){2,4})", text)
    if text.split()[:1] == ["LIST"]:
        names: Iterator[str] = (line.strip() for line in rest if line.strip())
    elif pattern:
        first, last, step = (*map(int, pattern["range"].split()), 1)[:3]
        steps = range(first, last + (1 if step > 0 else -1), step or 1)
        names = (f"{pattern['before']}{number:{pattern['digits']}d}{pattern['after']}" for number in steps)
    else:
        names = iter([text])
    found = []
    for name in names:
        found.append(_inside(name, path))
        if len(found) > MOST_FILES:
            raise InputError(f"voxels must be in at most {MOST_FILES} files, got more in {path}; convert it first")
    return tuple(found)


def _inside(name: str, path: Path) -> Path:
    """Return the path of a file in the header's folder or below; links may lead elsewhere."""
    folder = Path(os.path.normpath(path.parent.absolute()))
    target = Path(os.path.normpath(folder / name))
    if not name or "\0" in name or folder not in target.parents:
        raise InputError(f"voxels must be in the folder of their header, got {name!r} in {path}; move both into one")
    if not target.is_file():
        raise InputError(f"the file with the voxels must exist, got {name!r} in {path}; copy it there")
    return target


def check_stored(layout: Layout, path: Path) -> None:
    """Check that the files are long enough for the voxels.

    Raises:
        CorruptFileError: too short.
    """
    stored = sum(file.stat().st_size for file in layout.files) - layout.start
    size = 2 * math.prod(layout.sizes) - 1 if layout.encoding == "text" else layout.size  # a digit and a space
    check_size(size, stored, path, compressed=layout.encoding == "gzip")
