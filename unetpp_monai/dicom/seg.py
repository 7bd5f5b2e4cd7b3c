"""Write label maps as DICOM SEG, verified by reading back, and read DICOM SEG as label maps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..files import complete_file
from ..labels import Code, Label, label_colour
from ..provenance import Algorithm, ReadBack
from ..volume import Volume, label_array
from ..words import counted
from .common import (
    EQUIPMENT,
    add_modifiers,
    algorithm_identification,
    chosen_names,
    concept,
    import_highdicom,
    long_string,
    new_uid,
    quiet_names,
    segment_numbers,
    series_number,
    sources_in_planes,
)
from .deidentify import mark_pseudonymised
from .geometry import JITTER_MM, LPS_TO_RAS
from .planes import Planes, match_grid, plane_sources, source_planes
from .reading import guarded
from .seg_reader import SegFrames, parse_seg, seg_volume
from .seg_verify import read_back

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

ENCODINGS = ("binary", "labelmap")  # labelmap: smaller, RLE; many viewers and archives do not support it yet
SERIES_OFFSET = 1000  # SeriesNumber of a SEG = that of its source + this
TISSUE = Code("85756007", "SCT", "Tissue")  # code of a label without codes, as DICOM requires one
REFUSALS = (ValueError, TypeError, LookupError, AttributeError)  # raised by highdicom for unusable headers


def write_dicom_seg(
    labels: Volume,
    path: Path,
    *,
    structures: Sequence[Label],
    sources: Sequence["pydicom.Dataset"],
    algorithm: Algorithm,
    encoding: str = "binary",
) -> tuple[ReadBack, SegFrames]:
    """Write a label map as DICOM SEG, comparing every voxel before `path` appears.

    Segments are numbered 1, 2, 3, ... in the order of the label values. Frames are in the sources' planes if the label
    map is on their grid (axes in any order and direction), else in its own planes.

    Args:
        labels: `(1, X, Y, Z)` integers, in the sources' frame of reference, on any grid.
        path: the file to write.
        structures: meanings of all values > 0; those without voxels are described too.
        sources: headers of the segmented series, or the one header of a multi-frame image.
        algorithm: that made the label map.
        encoding: one of `ENCODINGS`.

    Returns:
        What was compared, and the parsed file, as needed by `write_dicom_sr`.

    Raises:
        OutputError: not a label map of these structures, unusable sources, missing highdicom, or a difference when
            read back.
    """
    if encoding not in ENCODINGS:
        raise OutputError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    numbers = segment_numbers(structures)
    turned = match_grid(labels, sources)
    segments = _segments(turned, numbers)
    descriptions = _descriptions(structures, numbers, algorithm)
    with complete_file(path) as temporary:
        _encode(segments, turned, sources, descriptions, algorithm, encoding).save_as(temporary)
        return read_back(temporary, labels, structures)


def read_dicom_seg(
    path: Path, *, only: Sequence[str] = (), thickness: float | None = None
) -> tuple[Volume, tuple[Label, ...]]:
    """Read a DICOM SEG of type BINARY or LABELMAP.

    Args:
        path: the file.
        only: names of the segments to read; empty: all.
        thickness: slice thickness in mm for a single-plane file that states none.

    Returns:
        `(1, columns, rows, slices)` segment numbers, mm, RAS, on the grid of the stored frames (empty frames are
        usually not stored); and the segments, whose index is the number.

    Raises:
        InputError: not such a file, or unknown name; `AmbiguityError`: segments overlap; `CorruptFileError`:
            truncated or undecodable.
        GeometryError: frames without position, with different orientations or uneven distances, or a single plane
            without thickness.
    """
    frames = parse_seg(path)
    for remark in frames.remarks:
        logger.warning("%s", remark)
    labels = tuple(frames.labels[i] for i in chosen_names(only, [label.name for label in frames.labels], path))
    with guarded(path, "has no readable frames"):
        return seg_volume(frames, only={label.index for label in labels} if only else None, thickness=thickness), labels


def _segments(labels: Volume, numbers: Mapping[int, int]) -> NDArray[np.unsignedinteger]:
    """Return segment numbers `(slices, rows, columns)`."""
    planes = np.ascontiguousarray(label_array(labels, error=OutputError).T)
    low, high = planes.min(), planes.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > np.iinfo(np.uint16).max:
        raise OutputError(f"values of a label map must be in 0 ... 65535, got {low} ... {high}")
    size = int(high) + 1
    dtype = np.uint8 if len(numbers) < 255 else np.uint16
    table = np.full(size, len(numbers) + 1, dtype=dtype)  # not used by any structure
    table[0] = 0
    for value, number in numbers.items():
        if value < size:
            table[value] = number
    segments = np.empty(planes.shape, dtype=dtype)
    for plane, segment in zip(planes, segments, strict=True):
        indices = plane.astype(np.intp)
        if plane.dtype.kind == "f" and not np.array_equal(indices, plane):
            raise OutputError("values of a label map must be whole numbers, got fractions; threshold or argmax first")
        np.take(table, indices, out=segment)
    if int(segments.max()) > len(numbers):
        unknown = np.unique(planes[segments > len(numbers)])
        raise OutputError(f"every value of a label map must have a structure, got {unknown.tolist()[:10]} without")
    return segments


def _descriptions(structures: Sequence[Label], numbers: Mapping[int, int], algorithm: Algorithm) -> list[Any]:
    hd = import_highdicom()
    if bare := [structure.name for structure in structures if structure.type is None]:
        labels = counted(len(bare), "label")
        logger.warning("%s without codes, called %s: %s", labels, TISSUE.meaning, ", ".join(bare[:10]))
    descriptions = []
    for structure in sorted(structures, key=lambda structure: structure.index):
        name = long_string(structure.name)
        description = hd.seg.SegmentDescription(
            segment_number=numbers[structure.index],
            segment_label=name,
            segmented_property_category=concept(structure.category or TISSUE),
            segmented_property_type=concept(structure.type or TISSUE),
            algorithm_type=algorithm.kind,
            algorithm_identification=algorithm_identification(algorithm),
            tracking_uid=new_uid(),
            tracking_id=name,
            display_color=hd.color.CIELabColor.from_rgb(*label_colour(structure)),
        )
        add_modifiers(description.SegmentedPropertyTypeCodeSequence[0], structure)
        descriptions.append(description)
    return descriptions


def _encode(
    segments: NDArray[np.unsignedinteger],
    grid: Volume,
    sources: Sequence["pydicom.Dataset"],
    descriptions: Sequence[Any],
    algorithm: Algorithm,
    encoding: str,
) -> "pydicom.Dataset":
    """Build the SEG object; `segments` are `(slices, rows, columns)` on `grid`, turned to the sources' axes."""
    hd: Any = import_highdicom()
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    empty = not segments.any()
    positions, orientation, measures = _geometry(hd, grid)
    stored = slice(1) if empty else slice(None)  # an empty object needs one frame
    binary = encoding == "binary"
    try:
        with quiet_names():
            seg = hd.seg.Segmentation(
                source_images=sources_in_planes(sources, _snapped(source_planes(sources), grid)),
                pixel_array=segments[stored],
                segmentation_type=encoding.upper(),
                segment_descriptions=descriptions,
                series_instance_uid=new_uid(),
                series_number=series_number(sources, offset=SERIES_OFFSET),
                sop_instance_uid=new_uid(),
                instance_number=1,
                **EQUIPMENT,
                transfer_syntax_uid=ExplicitVRLittleEndian if binary else RLELossless,
                plane_positions=positions[stored],
                plane_orientation=orientation,
                pixel_measures=measures,
                omit_empty_frames=not empty,
                content_label="SEGMENTATION",
                content_description=long_string(f"Segmentation {algorithm.title}"),
                series_description=long_string(f"Segmentation {algorithm.title}"),
            )
    except REFUSALS as error:
        raise OutputError(f"source images must be usable for a DICOM SEG, highdicom says: {error}") from error
    if empty and binary:
        _keep_one_frame(seg)
    shared = seg.SharedFunctionalGroupsSequence[0]  # highdicom copies the sources' geometry if it is almost ours
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = orientation, measures
    mark_pseudonymised(seg, sources[0])
    return seg


def _keep_one_frame(seg: "pydicom.Dataset") -> None:
    """Remove the empty frames of all segments except the first."""
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:1]
    seg.NumberOfFrames = 1
    seg.PixelData = bytes((seg.Rows * seg.Columns + 15) // 16 * 2)


def _geometry(hd: ModuleType, grid: Volume) -> tuple[list[Any], Any, Any]:
    """Return plane positions, orientation and pixel measures."""
    affine = LPS_TO_RAS @ grid.affine
    patient = hd.CoordinateSystemNames.PATIENT
    along, down, _ = grid.spacing
    between = abs(float(np.cross(affine[:3, 0], affine[:3, 1]) @ affine[:3, 2])) / (along * down)
    origins = affine[:3, 3] + np.arange(grid.shape[2])[:, None] * affine[:3, 2]
    orientation = np.concatenate([affine[:3, 0] / along, affine[:3, 1] / down])
    return (
        [hd.PlanePositionSequence(patient, origin) for origin in origins],
        hd.PlaneOrientationSequence(patient, orientation),
        hd.PixelMeasuresSequence(pixel_spacing=(down, along), slice_thickness=between, spacing_between_slices=between),
    )


def _snapped(planes: Planes, grid: Volume) -> Planes:
    """Move source planes onto the grid by less than the scanner's jitter, so that highdicom can match them.

    Otherwise it refers to no source image at all if one is off by 0.01 mm.
    """
    affine = LPS_TO_RAS @ grid.affine
    positions = planes.positions.copy()
    for index, image in enumerate(plane_sources(grid, planes)):
        if image is not None:
            shift = affine[:3] @ (0, 0, index, 1) - positions[image]
            near = np.linalg.norm(shift) <= JITTER_MM
            positions[image] += shift if near else (shift @ planes.normal) * planes.normal
    return replace(planes, positions=positions)
