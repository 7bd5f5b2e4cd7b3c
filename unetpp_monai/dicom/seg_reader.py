"""Read the frames of a DICOM SEG by their own tags with pydicom alone, independent of the writer."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    AmbiguityError,
    CorruptFileError,
    GeometryError,
    InputError,
    IrregularSpacingError,
    MissingGeometryError,
)
from ..labels import Label
from ..memory import check_memory
from ..volume import Volume
from .common import read_code, read_modifiers
from .geometry import DIRECTION_TOLERANCE, JITTER_MM, LPS_TO_RAS, SPACING_TOLERANCE_MM, frame_value
from .reading import guarded, read_and_hash

if TYPE_CHECKING:
    import pydicom

SEGMENTATIONS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}


@dataclass(frozen=True)
class SegFrames:
    """A parsed SEG file: frame k has segment `numbers[k]`, or all segments if 0 (LABELMAP)."""

    dataset: "pydicom.Dataset"
    labels: tuple[Label, ...]  # their index is the segment number
    numbers: tuple[int, ...]  # segment of each frame
    positions: NDArray[np.float64]  # (n, 3): centre of each frame's first voxel, mm, LPS
    steps: NDArray[np.float64]  # 2x3: mm from one column to the next, from one row to the next, LPS
    shape: tuple[int, int]  # rows, columns
    path: Path  # of the file
    sha256: str  # of the file
    remarks: tuple[str, ...]  # about what was omitted

    def planes(self) -> Iterator[NDArray[np.unsignedinteger]]:
        """Yield each decoded frame: `(rows, columns)` of segment numbers, 0 is background."""
        count = self.shape[0] * self.shape[1]
        if self.dataset.BitsAllocated != 1 or self.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            pixels = self.dataset.pixel_array.reshape(len(self.numbers), *self.shape)
            for number, pixel in zip(self.numbers, pixels, strict=True):
                yield pixel * pixel.dtype.type(number) if number else pixel
            return
        packed = np.frombuffer(self.dataset.PixelData, dtype=np.uint8)
        for frame, number in enumerate(self.numbers):
            first, skipped = divmod(frame * count, 8)
            bits = np.unpackbits(packed[first : first + (skipped + count + 7) // 8], bitorder="little")
            mask = bits[skipped : skipped + count].reshape(self.shape)
            yield mask * np.min_scalar_type(number).type(number)


def parse_seg(path: Path) -> SegFrames:
    """Read the positions and meanings of frames; voxels are decoded later.

    Raises:
        InputError: not a SEG file, or fractional or tiled; `CorruptFileError`: truncated.
        GeometryError: frames without position, or with different orientations or spacings.
    """
    dataset, sha256 = read_and_hash(path)
    with guarded(path):
        kind, coding = dataset.get("SOPClassUID"), dataset.get("SegmentationType")
    if kind not in SEGMENTATIONS or coding not in ("BINARY", "LABELMAP"):
        raise InputError(
            f"a segmentation must be DICOM SEG of type BINARY or LABELMAP, got {getattr(kind, 'name', kind)} "
            f"of type {coding} in {path}; choose another file"
        )
    with guarded(path, "lacks required attributes of a SEG"):
        return _frames(dataset, path, sha256)


def seg_volume(frames: SegFrames, *, only: Collection[int] | None = None, thickness: float | None = None) -> Volume:
    """Combine the frames into one label map; 0 where none is stored.

    Args:
        frames: a parsed file.
        only: numbers of the segments to read; None: all.
        thickness: slice thickness in mm for a single-plane file that states none.

    Raises:
        AmbiguityError: segments overlap.
        InputError: voxels of an undescribed segment.
        GeometryError: uneven distances between frames; `MissingGeometryError`: single plane without thickness.
    """
    indices, affine = _lattice(frames, thickness)
    highest = max((label.index for label in frames.labels), default=0)
    shape = (int(indices.max()) + 1, *frames.shape)
    check_memory(math.prod(shape) * 2, f"the voxels of {frames.path}", way_out="export it again, or a part of it")
    array = np.zeros(shape, dtype=np.uint8 if highest < 256 else np.uint16)
    for index, plane in zip(indices, frames.planes(), strict=True):
        if plane.max() > highest:
            raise InputError(f"every voxel must belong to a described segment, got one of {plane.max()}")
        inside = plane > 0 if only is None else np.isin(plane, list(only))
        if np.any(array[index][inside]):
            names = ", ".join(label.name for label in frames.labels if only is None or label.index in only)
            raise AmbiguityError(
                f"a label map has one segment per voxel, got segments that overlap; choose of: {names}", option="rois"
            )
        array[index][inside] = plane[inside]
    return Volume(array.transpose(2, 1, 0)[None], LPS_TO_RAS @ affine)


def _frames(dataset: "pydicom.Dataset", path: Path, sha256: str) -> SegFrames:
    count = int(dataset.NumberOfFrames)
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != count:
        raise ValueError(f"{count} frames, {len(groups)} descriptions of frames")
    frames = range(count)
    positions = [frame_value(dataset, "ImagePositionPatient", frame) for frame in frames]
    if None in positions:
        raise GeometryError("every frame must have ImagePositionPatient, got one without (a microscopy image?)")
    cosines = _one(dataset, "ImageOrientationPatient", DIRECTION_TOLERANCE).reshape(2, 3)
    down, along = _one(dataset, "PixelSpacing", SPACING_TOLERANCE_MM)
    numbers = [0] * count
    if dataset.SegmentationType == "BINARY":
        numbers = [int(frame_value(dataset, "ReferencedSegmentNumber", frame)) for frame in frames]
    items = [item for item in dataset.SegmentSequence if int(item.SegmentNumber) > 0]
    labels = tuple(_label(item) for item in items)
    return SegFrames(
        dataset,
        labels,
        tuple(numbers),
        np.array(positions, dtype=np.float64),
        cosines * np.array([[along], [down]]),
        (int(dataset.Rows), int(dataset.Columns)),
        path,
        sha256,
        tuple(_remarks(items, labels)),
    )


def _one(dataset: "pydicom.Dataset", keyword: str, tolerance: float) -> NDArray[np.float64]:
    """Return the value shared by all frames."""
    frames = range(int(dataset.NumberOfFrames))
    values = np.array([frame_value(dataset, keyword, frame) for frame in frames], dtype=np.float64)
    if np.abs(values - values[0]).max() > tolerance:
        raise GeometryError(f"all frames must have the same {keyword}, got several; split the file")
    first: NDArray[np.float64] = values[0]
    return first


def _lattice(frames: SegFrames, thickness: float | None) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the slice index of each frame, and the affine (column, row, slice) -> mm, LPS."""
    normal = np.cross(*frames.steps)
    normal /= np.linalg.norm(normal)
    along = frames.positions @ normal
    first, last = int(along.argmin()), int(along.argmax())
    step = _distance(frames, np.unique(along), thickness)
    indices = np.rint((along - along[first]) / step).astype(np.intp)
    line = step * normal
    if indices[last]:
        line = (frames.positions[last] - frames.positions[first]) / indices[last]
    affine = np.eye(4)
    affine[:3] = np.column_stack([*frames.steps, line, frames.positions[first]])
    off = np.linalg.norm(frames.positions - frames.positions[first] - indices[:, None] * line, axis=1).max()
    if off > JITTER_MM:
        raise IrregularSpacingError(f"frames must be {step:.3f} mm apart, got one {off:.2f} mm off; resample the file")
    return indices, affine


def _distance(frames: SegFrames, along: NDArray[np.float64], given: float | None) -> float:
    """Return mm between slices: as stated if the positions fit (frames may be omitted), else the smallest step."""
    gaps = np.diff(along)
    gaps = gaps[gaps > JITTER_MM / 2]
    with guarded(frames.path, "has a non-numeric distance between slices"):
        between, thickness = (
            abs(float(frame_value(frames.dataset, tag) or 0)) for tag in ("SpacingBetweenSlices", "SliceThickness")
        )
    between, thickness = (value if np.isfinite(value) else 0.0 for value in (between, thickness))
    if not gaps.size:
        if not (between or thickness or given):
            raise MissingGeometryError(
                f"a single plane must state its thickness in mm, got none in {frames.path}; give it",
                option="thickness",
            )
        return between or thickness or float(given or 0)
    counts = np.rint(gaps / between) if between else np.zeros(1)
    fits = counts.min() >= 1 and np.abs(gaps - counts * between).max() < JITTER_MM
    return between if fits else float(gaps.min())


def _label(item: "pydicom.Dataset") -> Label:
    kinds = item.get("SegmentedPropertyTypeCodeSequence")
    number = int(item.SegmentNumber)
    return Label(
        number,
        str(item.get("SegmentLabel") or f"segment {number}"),
        read_code(item.get("SegmentedPropertyCategoryCodeSequence")),
        read_code(kinds),
        read_modifiers(kinds),
        _colour(item),
    )


def _remarks(items: Sequence["pydicom.Dataset"], labels: Sequence[Label]) -> Iterator[str]:
    for item, label in zip(items, labels, strict=True):
        if label.colour is None and "RecommendedDisplayCIELabValue" in item:
            yield f"{label.name}: its colour is not in sRGB and was replaced"
        if label.category is None or label.type is None:
            yield f"{label.name}: its codes lack a value or a scheme and were omitted"


def _colour(item: "pydicom.Dataset") -> tuple[int, int, int] | None:
    """Return the sRGB colour of a segment; None if missing or invalid."""
    try:
        from highdicom.color import CIELabColor
    except ImportError as error:
        raise InputError("colours in DICOM SEG need highdicom; pip install 'unetpp_monai[dicom]'") from error
    tag = "RecommendedDisplayCIELabValue"
    try:
        with guarded(Path(tag)):
            value = item.get(tag)
            if not value:
                return None
            red, green, blue = (int(part) for part in CIELabColor.from_dicom_value(list(value)).to_rgb())
    except CorruptFileError:
        return None
    return (red, green, blue) if all(0 <= part <= 255 for part in (red, green, blue)) else None
