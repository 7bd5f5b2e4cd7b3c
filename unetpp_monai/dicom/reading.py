"""Read one DICOM file: detect it, parse its header, check that it is complete."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import CorruptFileError, InputError, UnetppError
from ..faults import STOP
from ..files import sha256_of

if TYPE_CHECKING:
    import pydicom

UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element that ends with a delimiter
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # of files that must be DICOM
FIRST_BYTES = 1 << 16  # of a file, read to detect its format
MANY_LOOKS = 10_000  # most files in the cache
DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax of a data set compressed as a whole
STORAGE_CLASSES = b"1.2.840.10008.5.1.4."  # prefix of storage class UIDs
UNPACKED_FREELY = 1 << 28  # bytes up to which compression ratios are not checked
MOST_GROWTH = 100  # highest compression ratio beyond that; images have 2 to 10
MOST_UNPACKED = 1 << 36  # bytes: 64 GiB


@dataclass(frozen=True)
class Look:
    """Result of reading a file's first bytes."""

    dicom: bool  # with preamble, or certainly a data set without one
    start: bytes  # the first 4
    sha256: str | None  # of a small file that is not DICOM

    @classmethod
    def into(cls, file: BufferedReader) -> "Look":
        """Read an open file's first bytes, and seek back to its start."""
        first = file.read(FIRST_BYTES)
        dicom = first[128:132] == b"DICM" or _is_bare(first)
        file.seek(0)
        return cls(dicom, first[:4], None if dicom or len(first) == FIRST_BYTES else sha256_of(file))

    def should_be_dicom(self, path: Path) -> bool:
        """Tell whether a file without preamble belongs to a series.

        True for DICOM suffixes, empty files, and files that start like an element of group 2 or 8.
        """
        suffix = path.suffix.lower()
        empty = not self.start and (not suffix or suffix[1:].isdigit())
        element = self.start[:2] in (b"\2\0", b"\x08\0") and self.start[3:] == b"\0"
        return suffix in DICOM_SUFFIXES or empty or element


def _is_bare(first: bytes) -> bool:
    """Tell whether bytes start as a data set without preamble: group 2 or 8, with a storage class soon after.

    The first elements of group 8 are short: a length of more than 255 bytes means another format.
    """
    if first[:8] == b"\2\0\0\0UL\4\0":
        return STORAGE_CLASSES in first
    length = first[6:8] if first[4:6].isalpha() and first[4:6].isupper() else first[4:8]
    short = int.from_bytes(length, "little") < 256
    return first[:2] == b"\x08\0" and first[3:4] == b"\0" and short and STORAGE_CLASSES in first


_looks: dict[Path, tuple[tuple[int, ...], Look]] = {}  # with a stamp that changes with the file


def look(path: Path) -> Look:
    """Detect what a file is, and cache the result.

    Raises:
        CorruptFileError: cannot be opened.
    """
    seen = seen_before(path)
    if seen is None:
        with guarded(path, "must be readable"), path.open("rb") as file:
            seen = Look.into(file)
        if len(_looks) >= MANY_LOOKS:
            _looks.clear()
        _looks[path] = _stamp(path), seen
    return seen


def seen_before(path: Path) -> Look | None:
    """Return the cached result of `look` for an unchanged file."""
    stamp, seen = _looks.get(path, ((), None))
    return seen if stamp and stamp == _stamp(path) else None


def _stamp(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by `look`."""
    return look(path).dicom


@contextmanager
def guarded(path: Path, fault: str = "is not a readable DICOM file") -> Iterator[None]:
    """Turn any error of pydicom or a decoder into one that names the file.

    Args:
        path: of the file.
        fault: for the message, such as "has no readable pixels".

    Raises:
        CorruptFileError: instead of any error except ours and interrupts.
        InputError: instead of MemoryError.
    """
    try:
        yield
    except (UnetppError, *STOP):
        raise
    except MemoryError as error:
        raise InputError(f"{path} must fit into memory, got {one_line(error)}; take a part of it") from error
    # damaged bytes decide what is raised here, even a BaseException if a decoder in Rust panics
    except BaseException as error:
        raise CorruptFileError(f"{path} {fault} ({one_line(error)}); export it again") from error


def parse(file: BinaryIO, tags: Sequence[str | int] = ()) -> "pydicom.Dataset":
    """Parse an open file, with or without preamble and meta information.

    Args:
        file: open at its beginning.
        tags: attributes to read, all before the pixels; (): the whole file.

    Raises:
        Exception: anything, for damaged data; call it `guarded`.
    """
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    first = file.read(FIRST_BYTES)
    file.seek(0)
    if DEFLATED in first:
        _check_inflated(file, first)
    dataset = pydicom.dcmread(
        file, force=_is_bare(first), stop_before_pixels=bool(tags), specific_tags=list(tags) or None
    )
    check_ends(dataset.file_meta)
    check_ends(dataset)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding  # from the first element
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        raw = dataset.get_item("PixelData")
        if raw is not None and getattr(raw, "length", 0) == UNDEFINED_LENGTH:
            raise ValueError("it does not state the compression of its pixels")
    return dataset


def _check_inflated(file: BinaryIO, first: bytes) -> None:
    """Check the size of a deflated data set in small pieces, before pydicom decompresses it at once."""
    start = 144 + int.from_bytes(
        first[140:144], "little"
    )  # after the meta information, whose first element has 12 bytes
    file.seek(start)
    packed = file.read()
    file.seek(0)
    unpack, size, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, packed
    while left and not unpack.eof:
        size += len(unpack.decompress(left, FIRST_BYTES))
        left = unpack.unconsumed_tail
        check_growth(len(packed), size, "a deflated data set")


def check_growth(packed: int, unpacked: int, what: str) -> None:
    """Refuse compressed data with an implausible compression ratio.

    Args:
        packed: bytes.
        unpacked: bytes.
        what: start of the message.

    Raises:
        InputError: more than `MOST_UNPACKED`, or more than `MOST_GROWTH` times as much.
    """
    if unpacked > MOST_UNPACKED or (unpacked > UNPACKED_FREELY and unpacked > MOST_GROWTH * packed):
        raise InputError(
            f"{what} must contain at most {MOST_UNPACKED >> 30} GiB and grow at most {MOST_GROWTH}-fold, got "
            f"{packed >> 20} MiB that become {unpacked >> 20} MiB or more; unpack it yourself if you trust it"
        )


def read_whole(
    path: Path, *, file: BufferedReader | None = None, tags: Sequence[str | int] = (), decode: bool = True
) -> "pydicom.Dataset":
    """Read a DICOM file and detect truncation, which pydicom ignores in the last element.

    Args:
        path: of the file.
        file: the same, open at its start; None: open it.
        tags: attributes to read, all before the pixels; (): the whole file.
        decode: convert all values now, to find invalid ones.

    Raises:
        CorruptFileError: truncated or undecodable.
    """
    with guarded(path), plain_warnings(), path.open("rb") if file is None else nullcontext(file) as opened:
        dataset = parse(opened, tags)
        if decode:
            read_values(dataset)
    return dataset


def read_and_hash(path: Path) -> tuple["pydicom.Dataset", str]:
    """Read a DICOM file as `read_whole`, without decoding, and its SHA-256, opening it once.

    Raises:
        CorruptFileError: cannot be opened, or truncated.
    """
    with guarded(path), path.open("rb") as file:
        return read_whole(path, file=file, decode=False), sha256_of(file)


def check_ends(dataset: "pydicom.Dataset") -> None:
    """Raise EOFError if an element is shorter than its stated length."""
    from pydicom.dataelem import RawDataElement

    for tag, raw in dataset.items():
        if isinstance(raw, RawDataElement) and raw.length not in (UNDEFINED_LENGTH, len(raw.value or b"")):
            raise EOFError(f"it ends within {tag}")


def read_values(dataset: "pydicom.Dataset") -> None:
    """Convert every value now; pydicom would convert, and warn, at first use."""
    for _ in dataset.iterall():
        pass


@contextmanager
def plain_warnings() -> Iterator[list[str]]:
    """Collect pydicom's warnings, each kind once; a truncated file becomes an error.

    Raises:
        EOFError: the file ended too early.
    """
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    for warning in caught:
        text = str(warning.message)
        if "End of file" in text:
            raise EOFError(text)
        said.append(text)


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without pydicom's hints to programmers."""
    return " ".join(str(error).split()).split(" To replace this error")[0] or type(error).__name__
