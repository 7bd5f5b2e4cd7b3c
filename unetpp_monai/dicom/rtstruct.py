"""Write label maps as DICOM RT structure sets, verified by reading back, and read structure sets as label maps.

Contours run along voxel edges in the planes of the source images, so the conversion is exact.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError, UnetppError
from ..files import complete_file
from ..labels import Label, label_colour
from ..provenance import Algorithm, ReadBack
from ..volume import SAME_GRID_MM, Volume, label_array
from .common import (
    add_modifiers,
    algorithm_identification,
    common_header,
    concept,
    long_string,
    new_uid,
    segment_numbers,
    series_number,
)
from .contours import Contour, trace_contours
from .deidentify import mark_pseudonymised
from .geometry import JITTER_MM, LPS_TO_RAS
from .planes import Planes, match_grid, plane_sources, source_planes
from .rtstruct_reader import parse_structures, rasterise, read_remarks

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)

SERIES_OFFSET = 3000  # SeriesNumber = that of the source series + this
DECIMALS = 4  # of a coordinate in mm; with sign and 6 digits, 12 of a DS's 16 characters
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # retired SOP class, still used to refer to a study
OTHER_GRID = (
    "contours must be in the planes of the source images, got a label map on another grid; "
    "choose dicomseg or segnrrd, which support any grid"
)


def write_dicom_rtstruct(
    labels: Volume,
    path: Path,
    *,
    structures: Sequence[Label],
    sources: Sequence["Dataset"],
    algorithm: Algorithm,
) -> ReadBack:
    """Write a label map as structure set, comparing every voxel before `path` appears.

    Args:
        labels: `(1, X, Y, Z)` uint8 on the sources' grid, axes in any order and direction.
        path: the file to write.
        structures: meanings of all values > 0; those without voxels get no contours.
        sources: headers of the segmented series, or the one header of a multi-frame image.
        algorithm: that made the label map.

    Raises:
        OutputError: another grid, several channels, values without a structure, unusable sources, missing highdicom,
            or a difference when read back.
    """
    known = segment_numbers(structures)
    if unknown := sorted(set(np.unique(label_array(labels, error=OutputError)).tolist()) - {0, *known}):
        raise OutputError(f"every value of a label map must have a structure, got {unknown[:10]} besides {list(known)}")
    planes = source_planes(sources)
    turned = match_grid(labels, sources)
    places = _places(turned, planes)
    dataset = _start(sources, algorithm)
    dataset.StructureSetROISequence = [_roi(label, dataset.FrameOfReferenceUID, algorithm) for label in structures]
    dataset.RTROIObservationsSequence = [_observation(label) for label in structures]
    dataset.ROIContourSequence = []
    for label in structures:
        contours = trace_contours(turned.array[0] == label.index)
        dataset.ROIContourSequence.append(_contours(label, contours, places, sources))
    mark_pseudonymised(dataset, sources[0])
    with complete_file(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        return _read_back(temporary, labels, structures)


@dataclass(frozen=True)
class _Place:
    """Position of the contours of one slice."""

    image: int  # index of the source image or frame in its plane
    origin: NDArray[np.float64]  # centre of its first voxel, mm, LPS, in that plane
    axes: NDArray[np.float64]  # 2x3: mm per column and per row index, LPS


def _places(turned: Volume, planes: Planes) -> list[_Place]:
    """Find the source image plane of each slice of a turned label map.

    On the sources' grid, contours follow each image's position including jitter. On another grid in the same planes,
    such as one corrected for gantry tilt, they keep their own position in the plane.
    """
    affine = LPS_TO_RAS @ turned.affine
    images = plane_sources(turned, planes)
    if len(set(images)) < len(images) or None in images:
        raise OutputError(OTHER_GRID)
    found = [image for image in images if image is not None]
    origins = affine[:3, 3] + np.arange(len(found))[:, None] * affine[:3, 2]
    shifts = planes.positions[found] - origins
    axes, own = affine[:3, :2].T, planes.orientation * planes.spacing[::-1, None]
    corners = (axes - own) * np.array(turned.shape[:2])[:, None]
    if np.linalg.norm(shifts, axis=1).max() + np.linalg.norm(corners, axis=1).sum() <= JITTER_MM + SAME_GRID_MM:
        origins, axes = planes.positions[found], own
    else:
        origins = origins + (shifts @ planes.normal)[:, None] * planes.normal
    return [_Place(image, origin, axes) for image, origin in zip(found, origins, strict=True)]


def _item(**values: Any) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _start(sources: Sequence["Dataset"], algorithm: Algorithm) -> "Dataset":
    """Start the data set, without the structures."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

    now = datetime.now()
    dataset = common_header(sources)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, new_uid(), "RTSTRUCT"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = new_uid(), series_number(sources, offset=SERIES_OFFSET)
    dataset.SeriesDescription = long_string(f"Structures {algorithm.title}")
    dataset.OperatorsName, dataset.InstanceNumber, dataset.ApprovalStatus = "", 1, "UNAPPROVED"
    dataset.StructureSetLabel = long_string(algorithm.name or algorithm.title)[:16].rstrip()
    dataset.StructureSetDate = dataset.InstanceCreationDate = dataset.SeriesDate = f"{now:%Y%m%d}"
    dataset.StructureSetTime = dataset.InstanceCreationTime = dataset.SeriesTime = f"{now:%H%M%S}"
    series = _item(
        SeriesInstanceUID=sources[0].SeriesInstanceUID, ContourImageSequence=[_reference(s) for s in sources]
    )
    study = _item(ReferencedSOPClassUID=DETACHED_STUDY, ReferencedSOPInstanceUID=sources[0].StudyInstanceUID)
    study.RTReferencedSeriesSequence = [series]
    frame = _item(FrameOfReferenceUID=dataset.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # others limit the points of a contour to 64 kB
    return dataset


def _reference(source: "Dataset") -> "Dataset":
    return _item(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)


def _roi(label: Label, frame_of_reference: str, algorithm: Algorithm) -> "Dataset":
    item = _item(
        ROINumber=label.index,
        ReferencedFrameOfReferenceUID=frame_of_reference,
        ROIName=long_string(label.name),
        ROIGenerationAlgorithm=algorithm.kind,
    )
    if identification := algorithm_identification(algorithm):
        item.ROIDerivationAlgorithmIdentificationSequence = identification
    return item


def _observation(label: Label) -> "Dataset":
    item = _item(ObservationNumber=label.index, ReferencedROINumber=label.index, RTROIInterpretedType="")
    item.ROIInterpreter = ""
    if label.category:
        item.SegmentedPropertyCategoryCodeSequence = [concept(label.category)]
    if label.type:
        item.RTROIIdentificationCodeSequence = [concept(label.type)]
        add_modifiers(item.RTROIIdentificationCodeSequence[0], label)
    return item


def _contours(
    label: Label, contours: Sequence[Contour], places: Sequence[_Place], sources: Sequence["Dataset"]
) -> "Dataset":
    from pydicom.dataelem import DataElement

    item = _item(ReferencedROINumber=label.index, ROIDisplayColor=list(label_colour(label)))
    if contours:
        item.ContourSequence = []
    for number, contour in enumerate(contours, start=1):
        place = places[contour.plane]
        if len(sources) == 1 and "NumberOfFrames" in sources[0]:
            reference = _reference(sources[0])
            reference.ReferencedFrameNumber = place.image + 1
        else:
            reference = _reference(sources[place.image])
        points = place.origin + contour.points @ place.axes
        part = _item(ContourNumber=number, ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(points))
        part.ContourImageSequence = [reference]
        text = "\\".join(f"{value:.10g}" for value in (np.round(points, DECIMALS) + 0.0).ravel().tolist())
        # as one text: an object per number is ten times slower
        part[0x30060050] = DataElement("ContourData", "DS", text, already_converted=True)
        item.ContourSequence.append(part)
    return item


def _read_back(path: Path, labels: Volume, structures: Sequence[Label]) -> ReadBack:
    import pydicom

    try:
        rois = parse_structures(path)
        raster = rasterise(rois, labels)
    except UnetppError as error:
        raise OutputError(f"{path.name} could not be read back: {error}; nothing was written, report this") from error
    different = int(np.count_nonzero(raster.array != labels.array[0]))
    if different or [_key(roi.label) for roi in rois] != [_key(label) for label in structures]:
        raise OutputError(
            f"{path.name} must equal its label map, got {different} different voxels when read back, "
            f"{len(rois)} structures for {len(structures)}; nothing was written, report this"
        )
    return ReadBack(f"pydicom {pydicom.__version__}", int(np.count_nonzero(labels.array)), different, raster.largest_mm)


def _key(label: Label) -> tuple[Any, ...]:
    codes = [label.category, label.type, *(label.modifiers if label.type else ())]
    return (
        *(label.index, long_string(label.name), label_colour(label)),
        *((code.scheme, code.value) if code else None for code in codes),
    )


def read_dicom_rtstruct(path: Path, grid: Volume, *, only: Sequence[str] = ()) -> tuple[Volume, tuple[Label, ...]]:
    """Read the closed contours of a structure set as a label map.

    A voxel belongs to a structure if its centre is inside one of the structure's contours, except in holes by
    CLOSEDPLANAR_XOR contours or keyholes. If contours of one structure overlap, a warning gives its volume, and its
    volume with inner contours as holes, as some systems mean them.

    Args:
        path: DICOM RTSTRUCT.
        grid: volume of the series on which the contours were drawn; its voxels are not used.
        only: names of the structures to read; empty: all.

    Returns:
        Labels `(1, X, Y, Z)` uint8 on the grid, and the structures. Their index is the ROI number, or 1, 2, 3, ... in
        file order if a number is not in 1 ... 255.

    Raises:
        InputError: not a structure set, more than 255 structures, unknown name, or no closed contour.
        GeometryError: a contour is not in a plane of the grid.
        AmbiguityError: overlapping structures, which do not fit into one label map.
    """
    rois = parse_structures(path, only)
    remarks = read_remarks(rois, path)
    raster = rasterise(rois, grid)
    if not raster.array.any():
        raise InputError(f"contours must contain voxels of their series, got none in {path}; name the right series")
    for remark in (*remarks, *raster.remarks):
        logger.warning("%s", remark)
    return Volume(raster.array[None], grid.affine), tuple(roi.label for roi in rois)
