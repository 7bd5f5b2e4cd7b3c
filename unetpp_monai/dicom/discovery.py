"""Where DICOM comes from: folder, files, DICOMDIR or zip, to the instances of the one chosen image series.

Headers only; geometry and pixels are for other rooms.
"""

import logging
import shutil
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AmbiguityError, CorruptFileError, InputError

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

HEADER_TAGS = [
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "FrameOfReferenceUID"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("SOPClassUID", "SOPInstanceUID", "ImageType", "NumberOfFrames"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "DiffusionBValue", "TriggerTime"),
]
# what pydicom and its decoders raise on files that are not as they should be
UNREADABLE = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError, NotImplementedError)
BROKEN = (*UNREADABLE, struct.error, zlib.error)  # with InvalidDicomError, which is neither
UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element that ends with a delimiter
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # of files that are broken if they are not DICOM


@dataclass(frozen=True)
class Instance:
    """One image object of a series."""

    path: Path
    header: "pydicom.Dataset"  # `HEADER_TAGS` only

    @property
    def frames(self) -> int:
        """Number of frames, 1 for single-frame objects."""
        return int(self.header.get("NumberOfFrames") or 1)


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Whether at least one file directly in `folder` is DICOM."""
    return any(is_dicom(path) for path in sorted(folder.iterdir()) if path.is_file())


def is_dicom_source(path: Path) -> bool:
    """Whether a path is a folder with DICOM files in it or below, a zip, a DICOMDIR or a DICOM file."""
    if path.is_dir():
        return any(is_dicom(file) for file in _walk(path))
    return path.is_file() and (path.suffix.lower() == ".zip" or is_dicom(path))


@contextmanager
def chosen_series(
    source: Path | Sequence[Path], series: str | None = None
) -> Iterator[tuple[list[Instance], list[str]]]:
    """Give the instances of one image series, in no order, and remarks on what was ignored.

    Args:
        source: folder (walked), zip, DICOMDIR, or files; a zip's files exist only within the block.
        series: UID, number or description; None: the only one.

    Raises:
        InputError: no image series, or none of that name.
        AmbiguityError: several; the message lists them.
        CorruptFileError: a file that should be DICOM cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
        groups, ignored = _images(_files(source, Path(folder)))
        name = str(source) if isinstance(source, Path) else f"{len(source)} files"
        if not groups:
            raise InputError(f"DICOM input must hold an image series, found none in {name}{_listed(ignored)}")
        remarks = [f"ignored {count} object(s) of class {kind}" for kind, count in sorted(ignored.items())]
        for remark in remarks:
            logger.info("%s", remark)
        chosen = _choose(groups, series, name)
        if source == chosen[0].path and chosen[0].frames == 1:
            raise AmbiguityError(f"{source} is one image of a series; give the folder of its series, {source.parent}")
        yield chosen, remarks


def _files(source: Path | Sequence[Path], folder: Path) -> Iterable[Path]:
    paths = [source] if isinstance(source, Path) else list(source)
    if missing := [str(path) for path in paths if not path.exists()]:
        raise InputError(f"input must exist, got {', '.join(missing[:5])}; check the path")
    if not isinstance(source, Path):
        return paths
    if source.is_dir():
        return _walk(source)
    if source.suffix.lower() == ".zip":
        return _unzip(source, folder)
    if source.name.upper() == "DICOMDIR":
        return _listed_in(source)
    return [source]


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a folder and those below it, by name; hidden ones and links to a folder above are left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _unzip(archive: Path, folder: Path) -> Iterator[Path]:
    """Unpack under numbers of our own, so that no name in the archive leads anywhere else."""
    try:
        with zipfile.ZipFile(archive) as unpacked:
            for number, entry in enumerate(unpacked.infolist()):
                name = entry.filename.replace("\\", "/").rsplit("/", 1)[-1]
                if entry.is_dir() or name.startswith("."):
                    continue
                target = folder / str(number) / name
                target.parent.mkdir()
                with unpacked.open(entry) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
                yield target
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CorruptFileError(f"{archive} must be a readable zip without password ({error})") from error


def _listed_in(directory: Path) -> Iterator[Path]:
    """Files that a DICOMDIR names; some media write their names in lower case."""
    for record in read_whole(directory).get("DirectoryRecordSequence", []):
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        parts = [parts] if isinstance(parts, str) else list(parts)
        candidates = (directory.parent.joinpath(*parts), directory.parent.joinpath(*(part.lower() for part in parts)))
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise CorruptFileError(f"{directory} names {'/'.join(parts)}, which is missing; copy the medium again")
        yield found


def _images(paths: Iterable[Path]) -> tuple[dict[tuple[str, str], list[Instance]], dict[str, int]]:
    """Image instances by study and series UID, and how many objects of which other kinds there are."""
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored: dict[str, int] = defaultdict(int)
    for path in paths:
        header = _header(path)
        if header is None:
            continue
        kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")
        name = getattr(kind, "name", str(kind))
        if not name and "Rows" not in header:
            raise CorruptFileError(f"{path} must say what it is, got no SOPClassUID; export the series again")
        if "Image Storage" not in name and (name != kind or "Rows" not in header):  # a private class may be an image
            ignored[name] += 1
        elif "Rows" not in header:
            raise CorruptFileError(f"{path} is an image without its pixels (truncated?); export the series again")
        else:
            groups[str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))].append(
                Instance(path, header)
            )
    return groups, ignored


def _header(path: Path) -> "pydicom.Dataset | None":
    """Header of a DICOM file; None if it is something else."""
    try:
        if is_dicom(path):
            return read_whole(path, tags=HEADER_TAGS)
        if _should_be_dicom(path):
            raise CorruptFileError(
                f"{path} must be DICOM, got {path.stat().st_size} bytes without DICOM's preamble; export it again"
            )
        return None
    except OSError as error:
        raise CorruptFileError(f"{path} must be readable, got {error}; copy it again") from error


def _should_be_dicom(path: Path) -> bool:
    """Whether a file without preamble is one of a series: by its suffix, or as an element of group 2 or 8 begins it."""
    with path.open("rb") as file:
        start = file.read(4)
    suffix = path.suffix.lower()
    empty = not start and (not suffix or suffix[1:].isdigit())
    return suffix in DICOM_SUFFIXES or empty or (start[:2] in (b"\2\0", b"\x08\0") and start[3:] == b"\0")


def read_whole(path: Path, *, tags: Sequence[str] = (), decode: bool = True) -> "pydicom.Dataset":
    """Read a DICOM file, of which pydicom would shorten the last element without a word if it is cut there.

    Args:
        path: of the file.
        tags: those before the pixels that are wanted; (): the whole file.
        decode: convert the values now, so that one that cannot be converted is found.

    Raises:
        CorruptFileError: cut, or not to be decoded.
    """
    import pydicom

    try:
        with plain_warnings():
            dataset = pydicom.dcmread(path, stop_before_pixels=bool(tags), specific_tags=list(tags) or None)
            check_ends(dataset)
            if decode:
                read_values(dataset)
        return dataset
    except (pydicom.errors.InvalidDicomError, *BROKEN) as error:
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


def _choose(groups: dict[tuple[str, str], list[Instance]], series: str | None, name: str) -> list[Instance]:
    wanted = list(groups.values()) if series is None else [group for group in groups.values() if _named(group, series)]
    if len(wanted) == 1:
        return wanted[0]
    listing = "; ".join(_describe(group) for group in wanted or groups.values())
    if not wanted:
        raise InputError(f"series must be a UID, number or description of {name}, got {series!r}; it holds: {listing}")
    what = "several image series" if series is None else f"several series called {series!r}"
    raise AmbiguityError(
        f"one series must be chosen, got {what} in {name}: {listing}; name one, or give its folder", option="series"
    )


def _named(group: Sequence[Instance], series: str) -> bool:
    header = group[0].header
    names = (header.get("SeriesInstanceUID", ""), header.get("SeriesNumber", ""), header.get("SeriesDescription", ""))
    return series.strip().casefold() in {str(name).strip().casefold() for name in names if str(name or "").strip()}


def _describe(group: Sequence[Instance]) -> str:
    header = group[0].header
    return (
        f"{header.get('SeriesInstanceUID', 'no UID')} (number {header.get('SeriesNumber', '?')} of study "
        f"{header.get('StudyInstanceUID', '?')}, "
        f"{header.get('Modality', '?')} {header.get('SeriesDescription', '')!r}, {len(group)} images)"
    )


def _listed(ignored: dict[str, int]) -> str:
    return "; it holds " + ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) if ignored else ""
