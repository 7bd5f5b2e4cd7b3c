"""Find the instances of one chosen image series in a folder, files, a DICOMDIR or a zip.

Reads headers only. No file is opened more than twice, including for pixels and hash.
"""

import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AmbiguityError, CorruptFileError, InputError
from ..words import counted
from .media import listed_in, unzip, walk
from .reading import Look, guarded, look, read_whole, seen_before
from .tiles import TILE_TAGS

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

DESCRIBED = ("SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesNumber", "SeriesDescription")
SERIES_TAGS = (  # series and position of an instance
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
)
# tags that distinguish acquisitions, in single images and in frames
DISTINCTIONS = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "FrameAcquisitionNumber"),
    *("EchoNumbers", "EchoTime", "EffectiveEchoTime", "DiffusionBValue", "InversionTime", "FlipAngle"),
    *("RepetitionTime", "TriggerTime", "StackID", "ConvolutionKernel", "ContrastBolusAgent", "ImageType"),
    *("SeriesNumber", "SeriesDescription", "SeriesTime", "ProtocolName"),
)
MOMENTS = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime", "InstanceNumber")  # order of acquisition
HEADER_TAGS: list[str | int] = [
    *SERIES_TAGS,
    *("FrameOfReferenceUID", "SeriesNumber", "SOPClassUID", "PatientID", "PatientName", "PatientBirthDate"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "BitsAllocated"),
    *DISTINCTIONS,
    *MOMENTS,
    *TILE_TAGS,
]
DIRECTORY = "1.2.840.10008.1.3.10"  # class of a DICOMDIR, stated in the meta information only
LISTED = 10  # most series in a message about channels
MANY_OPEN = 16  # most files that stay open from header to pixels


@dataclass(frozen=True)
class Instance:
    """One image object of a series."""

    path: Path
    header: "pydicom.Dataset"  # `HEADER_TAGS` only
    frames: int  # 1 for single-frame objects
    opened: BufferedReader | None = None  # kept open if it was opened before its header was read

    @property
    def bare(self) -> bool:
        """Tell whether the file lacks preamble or meta information."""
        return self.header.preamble is None or "MediaStorageSOPClassUID" not in self.header.file_meta

    @contextmanager
    def file(self) -> Iterator[BufferedReader]:
        """Yield the file, open at its start."""
        if self.opened is None:
            with self.path.open("rb") as file:
                yield file
        else:
            self.opened.seek(0)
            yield self.opened


@dataclass
class Source:
    """An input and its chosen series."""

    name: str
    files: ExitStack  # closes `opened` once the pixels are read
    opened: list[BufferedReader] = field(default_factory=list)
    sha256: dict[Path, str] = field(default_factory=dict)  # of files read whole, by resolved path
    remarks: list[str] = field(default_factory=list)  # about ignored objects
    instances: list[Instance] = field(default_factory=list)  # of the chosen series, in no order


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder directly contains a DICOM file."""
    return any(look(path).dicom for path in sorted(folder.iterdir()) if path.is_file())


def is_dicom_source(path: Path) -> bool:
    """Tell whether a path is a folder with DICOM at any depth, a zip, a DICOMDIR or a DICOM file."""
    if path.is_dir():
        return any(look(file).dicom for file in walk(path) if file.is_file())
    return path.is_file() and (path.suffix.lower() == ".zip" or look(path).dicom)


@contextmanager
def chosen_series(source: Path | Sequence[Path], series: str | None = None) -> Iterator[Source]:
    """Choose one image series.

    Args:
        source: folder (walked), zip, DICOMDIR, or files; a zip's files exist only within the block.
        series: UID, number or description; None: the only one.

    Raises:
        InputError: no image series, or none with that name.
        AmbiguityError: several image series; the message lists them.
        CorruptFileError: unreadable DICOM file.
    """
    with tempfile.TemporaryDirectory(prefix="unetpp_") as folder, ExitStack() as files:
        chosen = Source(str(source) if isinstance(source, Path) else counted(len(source), "file"), files)
        groups, ignored = _images(_files(source, Path(folder), chosen), chosen)
        if not groups:
            raise InputError(f"DICOM input must hold an image series, found none in {chosen.name}{_listed(ignored)}")
        chosen.remarks = [f"ignored {counted(n, 'object')} of class {kind}" for kind, n in sorted(ignored.items())]
        chosen.instances = _choose(groups, series, chosen.name)
        if bare := sum(instance.bare for instance in chosen.instances):
            chosen.remarks.append(f"{counted(bare, 'file')} without preamble or meta information, read by content")
        for remark in chosen.remarks:
            logger.info("%s", remark)
        first = chosen.instances[0]
        if source == first.path and first.frames == 1:
            raise AmbiguityError(f"{source} is one image of a series; give the folder of its series, {source.parent}")
        yield chosen


def described_series(source: Path | Sequence[Path]) -> list[str]:
    """Describe each image series: UID, number, description, number of images.

    Raises:
        InputError: as for `chosen_series`.
    """
    with tempfile.TemporaryDirectory(prefix="unetpp_") as folder, ExitStack() as files:
        seen = Source(str(source), files)
        groups, _ = _images(_files(source, Path(folder), seen), seen)
        found = [_describe(group) for group in groups.values()]
    return found[:LISTED] + ([f"and {len(found) - LISTED} more"] if len(found) > LISTED else [])


def _files(source: Path | Sequence[Path], folder: Path, chosen: Source) -> Iterable[Path]:
    paths = [source] if isinstance(source, Path) else list(source)
    if missing := [str(path) for path in paths if not path.exists()]:
        raise InputError(f"input must exist, got {', '.join(missing[:5])}; check the path")
    if not isinstance(source, Path):
        return paths
    if source.is_dir():
        return walk(source)
    if source.suffix.lower() == ".zip":
        return unzip(source, folder)
    if source.name.upper() == "DICOMDIR":
        return listed_in(source, chosen.sha256)
    return [source]


def _images(paths: Iterable[Path], chosen: Source) -> tuple[dict[tuple[str, str], list[Instance]], dict[str, int]]:
    """Group image instances by study and series UID, and count objects of other kinds."""
    groups: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    ignored: dict[str, int] = defaultdict(int)
    others = []
    for path in paths:
        instance = _instance(path, chosen)
        if instance is None:
            others.append(path)
        elif kind := _other_kind(instance):
            ignored[kind] += 1
        else:
            header = instance.header
            groups[str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))].append(instance)
    shapes = {_shape(instance.path) for group in groups.values() for instance in group}
    for path in others:
        if _shape(path) in shapes:
            raise CorruptFileError(
                f"{path} is named like the images beside it and must be DICOM, got {path.stat().st_size} bytes of "
                "another format; export it again or remove it"
            )
    return groups, ignored


def _shape(path: Path) -> str:
    """Return a file name without digits, which images of a series have in common."""
    return re.sub(r"\d+", "#", path.name.lower())


def _other_kind(instance: Instance) -> str:
    """Return the class of a non-image object; "" for an image.

    Raises:
        CorruptFileError: no class, as in a truncated file.
    """
    header, path = instance.header, instance.path
    stated = header.get("SOPClassUID") or ""
    if not stated and header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        return "Media Storage Directory Storage"
    name = getattr(stated, "name", str(stated))
    is_known = name != stated
    if "Rows" not in header and (not stated or (not is_known and not header.get("SeriesInstanceUID"))):
        raise CorruptFileError(f"{path} must have a SOPClassUID, got none (truncated?); export the series again")
    if "Image Storage" not in name and (is_known or "Rows" not in header):  # a private class may be an image
        return name
    if "Rows" not in header:
        raise CorruptFileError(f"{path} is an image without its pixels (truncated?); export the series again")
    return ""


def _instance(path: Path, chosen: Source) -> Instance | None:
    """Read a DICOM file's header; None if the file is something else.

    A file that was already opened to find the source is opened a second time here and stays open.

    Raises:
        CorruptFileError: unreadable, or not DICOM although its name or first bytes suggest it.
    """
    with guarded(path):
        seen = seen_before(path)
        if seen is not None and seen.dicom and len(chosen.opened) < MANY_OPEN:
            chosen.opened.append(chosen.files.enter_context(path.open("rb")))
            return _headed(path, chosen.opened[-1], keep=True)
        if seen is None or seen.dicom:
            with path.open("rb") as file:
                seen = Look.into(file)
                if seen.dicom:
                    return _headed(path, file, keep=False)
        if seen.should_be_dicom(path):
            raise CorruptFileError(
                f"{path} must be DICOM, got {path.stat().st_size} bytes without DICOM's preamble; export it again"
            )
        if seen.sha256 is not None:
            chosen.sha256[path.resolve()] = seen.sha256
        return None


def _headed(path: Path, file: BufferedReader, *, keep: bool) -> Instance:
    """Read the header of an open file, and check that its frames fit into the file."""
    header = read_whole(path, file=file, tags=HEADER_TAGS)
    frames = int(header.get("NumberOfFrames") or 1)
    size = path.stat().st_size
    pixels = int(header.get("Rows") or 1) * int(header.get("Columns") or 1)
    syntax = header.file_meta.TransferSyntaxUID
    packed = syntax.is_private or syntax.is_compressed  # or deflated
    least = frames if packed else frames * pixels * int(header.get("BitsAllocated") or 8) // 8
    if frames < 1 or ("Rows" in header and least > size):
        raise CorruptFileError(
            f"{path} must contain {frames} frames of {pixels} pixels, got {size} bytes; export it again"
        )
    return Instance(path, header, frames, file if keep else None)


def _choose(groups: dict[tuple[str, str], list[Instance]], series: str | None, name: str) -> list[Instance]:
    wanted = list(groups.values()) if series is None else [group for group in groups.values() if _named(group, series)]
    if len(wanted) == 1:
        return wanted[0]
    listing = "; ".join(_describe(group) for group in wanted or groups.values())
    if not wanted:
        raise InputError(
            f"series must be a UID, number or description of {name}, got {series!r}; it contains: {listing}"
        )
    way_out = "name one by its UID, as nothing else tells all apart" if _alike(wanted) else "name one"
    what = "several image series" if series is None else f"several series called {series!r}"
    raise AmbiguityError(
        f"one series must be chosen, got {what} in {name}: {listing}; {way_out}, or give its folder", option="series"
    )


def _named(group: Sequence[Instance], series: str) -> bool:
    return series.strip().casefold() in _names(group, "SeriesInstanceUID", "SeriesNumber", "SeriesDescription")


def _names(group: Sequence[Instance], *keywords: str) -> set[str]:
    found = (group[0].header.get(keyword) for keyword in keywords)
    return {str(name).strip().casefold() for name in found if name is not None and str(name).strip()}


def _alike(groups: Sequence[Sequence[Instance]]) -> bool:
    """Whether a series has neither a number nor a description of its own."""
    names = [_names(group, "SeriesNumber", "SeriesDescription") for group in groups]
    return any(all(any(name in other for other in names if other is not own) for name in own) for own in names)


def _describe(group: Sequence[Instance]) -> str:
    uid, study, kind, number, said = (group[0].header.get(part) for part in DESCRIBED)
    numbered = "without number," if number is None else f"number {number}"
    what = f"{kind or '?'} {repr(said) if said else 'without description'}"
    return f"{uid or 'no UID'} ({numbered} of study {study or '?'}, {what}, {counted(len(group), 'image')})"


def _listed(ignored: dict[str, int]) -> str:
    return "; it contains " + ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) if ignored else ""
