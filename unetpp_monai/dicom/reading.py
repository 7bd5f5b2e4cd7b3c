"""One DICOM file: what it is, its header, whether it is whole. What several files are together is for other rooms."""

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CorruptFileError
from ..files import sha256_of

if TYPE_CHECKING:
    import pydicom

# what pydicom and its decoders raise on files that are not as they should be
UNREADABLE = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, NotImplementedError)
BROKEN = (*UNREADABLE, struct.error, zlib.error)  # with InvalidDicomError, which is neither
UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element that ends with a delimiter
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # of files that are broken if they are not DICOM
FIRST_BYTES = 1 << 16  # of a file, read to learn what it is
MANY_LOOKS = 10_000  # files of which it is remembered


@dataclass(frozen=True)
class Look:
    """What the first bytes of a file say."""

    dicom: bool  # they have DICOM's preamble
    start: bytes  # the first 4
    sha256: str | None  # of a file that is not DICOM, if these bytes are all of it

    @classmethod
    def into(cls, file: BufferedReader) -> "Look":
        """Look at an open file's first bytes, and go back to its beginning."""
        first = file.read(FIRST_BYTES)
        dicom = first[128:132] == b"DICM"
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


_looks: dict[Path, tuple[tuple[int, ...], Look]] = {}  # with a stamp that changes if the file does


def look(path: Path) -> Look:
    """Learn what a file is, and remember it, so that whoever asks next need not open it."""
    seen = seen_before(path)
    if seen is None:
        with path.open("rb") as file:
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
    """Whether the file has DICOM's preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_whole(
    path: Path, *, file: BufferedReader | None = None, tags: Sequence[str] = (), decode: bool = True
) -> "pydicom.Dataset":
    """Read a DICOM file, of which pydicom would shorten the last element without a word if it is cut there.

    Args:
        path: of the file.
        file: the same, open at its beginning; None: open it.
        tags: those before the pixels that are wanted; (): the whole file.
        decode: convert the values now, so that one that cannot be converted is found.

    Raises:
        CorruptFileError: cut, or not to be decoded.
    """
    import pydicom

    try:
        with plain_warnings():
            dataset = pydicom.dcmread(file or path, stop_before_pixels=bool(tags), specific_tags=list(tags) or None)
            check_ends(dataset)
            if decode:
                read_values(dataset)
        return dataset
    except (pydicom.errors.InvalidDicomError, *BROKEN) as error:
        raise CorruptFileError(f"{path} is not a readable DICOM file ({one_line(error)}); export it again") from error


def read_and_hash(path: Path) -> tuple["pydicom.Dataset", str]:
    """Read a DICOM file as `read_whole` does, values left as they are, and its SHA-256, in one opening.

    Raises:
        CorruptFileError: not to be opened, or cut.
    """
    try:
        with path.open("rb") as file:
            return read_whole(path, file=file, decode=False), sha256_of(file)
    except OSError as error:
        raise CorruptFileError(f"{path} is not a readable DICOM file ({one_line(error)}); export it again") from error


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
    """An error's text without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
