"""Where DICOM comes from: folder, files, DICOMDIR or zip, to the instances of the one chosen image series.

Headers only; geometry and pixels are for other rooms. No file is opened more than twice, its pixels and hash included.
"""

import logging
import shutil
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AmbiguityError, CorruptFileError, InputError
from .reading import Look, look, read_and_hash, read_whole, seen_before

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

SERIES_TAGS = (  # which series an instance is of, and where it is
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
)
HEADER_TAGS = [
    *(*SERIES_TAGS, "FrameOfReferenceUID", "SeriesNumber", "SOPClassUID", "ImageType"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "DiffusionBValue", "TriggerTime"),
]
MANY_OPEN = 16  # files that may stay open from header to pixels


@dataclass(frozen=True)
class Instance:
    """One image object of a series."""

    path: Path
    header: "pydicom.Dataset"  # `HEADER_TAGS` only
    opened: BufferedReader | None = None  # the file, kept open if it had been looked at before its header was read

    @property
    def frames(self) -> int:
        """Number of frames, 1 for single-frame objects."""
        return int(self.header.get("NumberOfFrames") or 1)

    @contextmanager
    def file(self) -> Iterator[BufferedReader]:
        """Give the file, open at its beginning."""
        if self.opened is None:
            with self.path.open("rb") as file:
                yield file
        else:
            self.opened.seek(0)
            yield self.opened


@dataclass
class Source:
    """What is being read, and its chosen series."""

    name: str
    files: ExitStack  # closes `opened` once the pixels are read
    opened: list[BufferedReader] = field(default_factory=list)
    sha256: dict[Path, str] = field(default_factory=dict)  # of files that were read to their ends, by resolved path
    remarks: list[str] = field(default_factory=list)  # on what was ignored
    instances: list[Instance] = field(default_factory=list)  # of the chosen series, in no order


def holds_dicom(folder: Path) -> bool:
    """Whether at least one file directly in `folder` is DICOM."""
    return any(look(path).dicom for path in sorted(folder.iterdir()) if path.is_file())


def is_dicom_source(path: Path) -> bool:
    """Whether a path is a folder with DICOM files in it or below, a zip, a DICOMDIR or a DICOM file."""
    if path.is_dir():
        return any(look(file).dicom for file in _walk(path))
    return path.is_file() and (path.suffix.lower() == ".zip" or look(path).dicom)


@contextmanager
def chosen_series(source: Path | Sequence[Path], series: str | None = None) -> Iterator[Source]:
    """Choose one image series.

    Args:
        source: folder (walked), zip, DICOMDIR, or files; a zip's files exist only within the block.
        series: UID, number or description; None: the only one.

    Raises:
        InputError: no image series, or none of that name.
        AmbiguityError: several; the message lists them.
        CorruptFileError: a file that should be DICOM cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="unetpp_") as folder, ExitStack() as files:
        chosen = Source(str(source) if isinstance(source, Path) else f"{len(source)} files", files)
        groups, ignored = _images(_files(source, Path(folder), chosen), chosen)
        if not groups:
            raise InputError(f"DICOM input must hold an image series, found none in {chosen.name}{_listed(ignored)}")
        chosen.remarks = [f"ignored {count} object(s) of class {kind}" for kind, count in sorted(ignored.items())]
        for remark in chosen.remarks:
            logger.info("%s", remark)
        chosen.instances = _choose(groups, series, chosen.name)
        first = chosen.instances[0]
        if source == first.path and first.frames == 1:
            raise AmbiguityError(f"{source} is one image of a series; give the folder of its series, {source.parent}")
        yield chosen


def _files(source: Path | Sequence[Path], folder: Path, chosen: Source) -> Iterable[Path]:
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
        return _listed_in(source, chosen)
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


def _listed_in(directory: Path, chosen: Source) -> Iterator[Path]:
    """Files that a DICOMDIR names; some media write their names in lower case."""
    content, chosen.sha256[directory.resolve()] = read_and_hash(directory)
    for record in content.get("DirectoryRecordSequence", []):
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        parts = [parts] if isinstance(parts, str) else list(parts)
        candidates = (directory.parent.joinpath(*parts), directory.parent.joinpath(*(part.lower() for part in parts)))
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise CorruptFileError(f"{directory} names {'/'.join(parts)}, which is missing; copy the medium again")
        yield found


def _images(paths: Iterable[Path], chosen: Source) -> tuple[dict[tuple[str, str], list[Instance]], dict[str, int]]:
    """Image instances by study and series UID, and how many objects of which other kinds there are."""
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored: dict[str, int] = defaultdict(int)
    for path in paths:
        instance = _instance(path, chosen)
        if instance is None:
            continue
        header = instance.header
        kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")
        name = getattr(kind, "name", str(kind))
        if not name and "Rows" not in header:
            raise CorruptFileError(f"{path} must say what it is, got no SOPClassUID; export the series again")
        if "Image Storage" not in name and (name != kind or "Rows" not in header):  # a private class may be an image
            ignored[name] += 1
        elif "Rows" not in header:
            raise CorruptFileError(f"{path} is an image without its pixels (truncated?); export the series again")
        else:
            groups[str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))].append(instance)
    return groups, ignored


def _instance(path: Path, chosen: Source) -> Instance | None:
    """Read a DICOM file's header; None if the file is something else.

    A file that had been looked at to find the source is opened for the second time here, and stays open.
    """
    try:
        seen = seen_before(path)
        if seen is not None and seen.dicom and len(chosen.opened) < MANY_OPEN:
            chosen.opened.append(chosen.files.enter_context(path.open("rb")))
            return Instance(path, read_whole(path, file=chosen.opened[-1], tags=HEADER_TAGS), chosen.opened[-1])
        if seen is None or seen.dicom:
            with path.open("rb") as file:
                seen = Look.into(file)
                if seen.dicom:
                    return Instance(path, read_whole(path, file=file, tags=HEADER_TAGS))
        if seen.should_be_dicom(path):
            raise CorruptFileError(
                f"{path} must be DICOM, got {path.stat().st_size} bytes without DICOM's preamble; export it again"
            )
        if seen.sha256 is not None:
            chosen.sha256[path.resolve()] = seen.sha256
        return None
    except OSError as error:
        raise CorruptFileError(f"{path} must be readable, got {error}; copy it again") from error


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
