"""One DICOM file: what it is, its header, whether it is whole. What several files are together is for other rooms."""

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
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # of files that are broken if they are not DICOM
FIRST_BYTES = 1 << 16  # of a file, read to learn what it is
MANY_LOOKS = 10_000  # files of which it is remembered
DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax of a data set that is packed as a whole
STORAGE_CLASSES = b"1.2.840.10008.5.1.4."  # what UIDs of classes of images begin with
UNPACKED_FREELY = 1 << 28  # bytes of which nobody asks how small they were when packed
MOST_GROWTH = 100  # by how much packed data may grow beyond that; images grow by 2 to 10
MOST_UNPACKED = 1 << 36  # bytes: 64 GiB


@dataclass(frozen=True)
class Look:
    """What the first bytes of a file say."""

    dicom: bool  # they have DICOM's preamble, or begin beyond doubt as a data set without one
    start: bytes  # the first 4
    sha256: str | None  # of a file that is not DICOM, if these bytes are all of it

    @classmethod
    def into(cls, file: BufferedReader) -> "Look":
        """Look at an open file's first bytes, and go back to its beginning."""
        first = file.read(FIRST_BYTES)
        dicom = first[128:132] == b"DICM" or _is_bare(first)
        file.seek(0)
        return cls(dicom, first[:4], None if dicom or len(first) == FIRST_BYTES else sha256_of(file))

    def should_be_dicom(self, path: Path) -> bool:
        """Whether the file is one of a series for all its lack of a preamble.

        Its suffix says so, or it is empty, or begins as an element of group 2 or 8 does.
        """
        suffix = path.suffix.lower()
        empty = not self.start and (not suffix or suffix[1:].isdigit())
        element = self.start[:2] in (b"\2\0", b"\x08\0") and self.start[3:] == b"\0"
        return suffix in DICOM_SUFFIXES or empty or element


def _is_bare(first: bytes) -> bool:
    """Whether bytes begin as a data set without preamble: an element of group 2 or 8, and a storage class soon after.

    Elements of group 8 that come first are short: a length of more than 255 bytes shows that it is something else.
    """
    if first[:8] == b"\2\0\0\0UL\4\0":
        return STORAGE_CLASSES in first
    length = first[6:8] if first[4:6].isalpha() and first[4:6].isupper() else first[4:8]
    short = int.from_bytes(length, "little") < 256
    return first[:2] == b"\x08\0" and first[3:4] == b"\0" and short and STORAGE_CLASSES in first


_looks: dict[Path, tuple[tuple[int, ...], Look]] = {}  # with a stamp that changes if the file does


def look(path: Path) -> Look:
    """Learn what a file is, and remember it, so that whoever asks next need not open it.

    Raises:
        CorruptFileError: not to be opened.
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
    """What `look` found, if it was asked and the file is still the same."""
    stamp, seen = _looks.get(path, ((), None))
    return seen if stamp and stamp == _stamp(path) else None


def _stamp(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM, as `look` tells."""
    return look(path).dicom


@contextmanager
def guarded(path: Path, fault: str = "is not a readable DICOM file") -> Iterator[None]:
    """Name the file whose damage makes pydicom or a decoder raise, whatever it is that they raise.

    Args:
        path: of the file.
        fault: what is said of it, as in "has no readable pixels".

    Raises:
        CorruptFileError: instead of any error but our own and a request to stop.
        InputError: instead of MemoryError.
    """
    try:
        yield
    except (UnetppError, *STOP):
        raise
    except MemoryError as error:
        raise InputError(f"{path} must fit into memory, got {one_line(error)}; take a part of it") from error
    # bytes of others decide what is raised here, a BaseException where a decoder in Rust panics: no list is complete
    except BaseException as error:
        raise CorruptFileError(f"{path} {fault} ({one_line(error)}); export it again") from error


def parse(file: BinaryIO, tags: Sequence[str | int] = ()) -> "pydicom.Dataset":
    """Read an open file from its beginning, with or without preamble and meta information.

    Args:
        file: open at its beginning.
        tags: those before the pixels that are wanted; (): the whole file.

    Raises:
        Exception: whatever pydicom does of damaged data; call it `guarded`.
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
        implicit, little = dataset.original_encoding  # as the first element shows
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        raw = dataset.get_item("PixelData")
        if raw is not None and getattr(raw, "length", 0) == UNDEFINED_LENGTH:
            raise ValueError("it does not say how its pixels are compressed")
    return dataset


def _check_inflated(file: BinaryIO, first: bytes) -> None:
    """Unpack a deflated data set in small pieces, before pydicom does at once, to see that it is not too much."""
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
    """Refuse packed data that unpack to more than images do.

    Args:
        packed: bytes.
        unpacked: bytes.
        what: the beginning of the message.

    Raises:
        InputError: more than `MOST_UNPACKED`, or more than `MOST_GROWTH` times as much.
    """
    if unpacked > MOST_UNPACKED or (unpacked > UNPACKED_FREELY and unpacked > MOST_GROWTH * packed):
        raise InputError(
            f"{what} must hold at most {MOST_UNPACKED >> 30} GiB and grow at most {MOST_GROWTH}-fold, got "
            f"{packed >> 20} MiB that become {unpacked >> 20} MiB or more; unpack it yourself if you trust it"
        )


def read_whole(
    path: Path, *, file: BufferedReader | None = None, tags: Sequence[str | int] = (), decode: bool = True
) -> "pydicom.Dataset":
    """Read a DICOM file, of which pydicom would shorten the last element silently if it is cut there.

    Args:
        path: of the file.
        file: the same, open at its beginning; None: open it.
        tags: those before the pixels that are wanted; (): the whole file.
        decode: convert the values now, so that one that cannot be converted is found.

    Raises:
        CorruptFileError: cut, or not to be decoded.
    """
    with guarded(path), plain_warnings(), path.open("rb") if file is None else nullcontext(file) as opened:
        dataset = parse(opened, tags)
        if decode:
            read_values(dataset)
    return dataset


def read_and_hash(path: Path) -> tuple["pydicom.Dataset", str]:
    """Read a DICOM file as `read_whole` does, values left as they are, and its SHA-256, in one opening.

    Raises:
        CorruptFileError: not to be opened, or cut.
    """
    with guarded(path), path.open("rb") as file:
        return read_whole(path, file=file, decode=False), sha256_of(file)


def check_ends(dataset: "pydicom.Dataset") -> None:
    """Raise EOFError if an element holds less than its length says."""
    from pydicom.dataelem import RawDataElement

    for tag, raw in dataset.items():
        if isinstance(raw, RawDataElement) and raw.length not in (UNDEFINED_LENGTH, len(raw.value or b"")):
            raise EOFError(f"it ends within {tag}")


def read_values(dataset: "pydicom.Dataset") -> None:
    """Convert every value now, which pydicom else does, and warns of, when one is first used."""
    for _ in dataset.iterall():
        pass


@contextmanager
def plain_warnings() -> Iterator[list[str]]:
    """Collect what pydicom warns of, each kind once, instead of printing it; a cut file becomes an error.

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
    """An error's text without its line breaks; pydicom's hints to programmers left out."""
    return " ".join(str(error).split()).split(" To replace this error")[0] or type(error).__name__
