"""DICOM RT structure set to structures and their polygons, and polygons to voxels of a grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import AmbiguityError, GeometryError, InputError
from ..labels import Label
from ..volume import Volume
from .common import read_code
from .contours import Contour, fill_contours
from .geometry import JITTER_SHARE, LPS_TO_RAS
from .reading import BROKEN, one_line, read_whole

if TYPE_CHECKING:
    from pydicom import Dataset

Points = NDArray[np.float64]
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def parse_structures(path: Path) -> tuple[tuple[Label, ...], list[list[Points]]]:
    """Structures, and the closed contours of each: points `(N, 3)`, mm, LPS."""
    import pydicom

    dataset = read_whole(path, decode=False)  # numbers of contours are not pydicom's to convert
    try:
        if dataset.get("Modality") != "RTSTRUCT":
            raise InputError(
                f"a structure set must have the modality RTSTRUCT, got {dataset.get('Modality')} in {path}"
            )
        rois = list(dataset.StructureSetROISequence)
        values = [int(roi.ROINumber) for roi in rois]
        shown = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
        observed = {int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or ()}
        if len(rois) > 255:
            raise InputError(f"a label map holds at most 255 structures, got {len(rois)} in {path}")
        numbers = values if all(1 <= value <= 255 for value in values) else range(1, len(values) + 1)
        structures = tuple(
            _structure(number, roi, shown.get(value, pydicom.Dataset()), observed.get(value, pydicom.Dataset()))
            for number, value, roi in zip(numbers, values, rois, strict=True)
        )
        return structures, [_polygons(shown.get(value, pydicom.Dataset())) for value in values]
    except BROKEN as error:
        raise InputError(f"{path} is not a readable structure set ({one_line(error)}); export it again") from error


def _structure(number: int, roi: "Dataset", shown: "Dataset", observed: "Dataset") -> Label:
    colour = shown.get("ROIDisplayColor")
    kinds = observed.get("RTROIIdentificationCodeSequence")
    return Label(
        index=number,
        name=str(roi.get("ROIName") or ""),
        category=read_code(observed.get("SegmentedPropertyCategoryCodeSequence")),
        type=read_code(kinds),
        modifier=read_code(kinds[0].get("SegmentedPropertyTypeModifierCodeSequence")) if kinds else None,
        colour=(int(colour[0]), int(colour[1]), int(colour[2])) if colour else None,
    )


def _polygons(shown: "Dataset") -> list[Points]:
    polygons = []
    for contour in shown.get("ContourSequence") or ():
        if contour.ContourGeometricType in CLOSED:
            raw = contour.get_item("ContourData").value  # bytes: pydicom's numbers take ten times as long
            polygons.append(np.array([float(text) for text in raw.split(b"\\")]).reshape(-1, 3))
    return polygons


def rasterise(
    structures: Sequence[Label], polygons: Sequence[Sequence[Points]], grid: Volume
) -> tuple[NDArray[np.uint8], float]:
    """Label map `(X, Y, Z)`, and how far in mm a point is at most from a corner of the grid's voxels."""
    to_index = np.linalg.inv(LPS_TO_RAS @ grid.affine)
    placed = [[points @ to_index[:3, :3].T + to_index[:3, 3] for points in parts] for parts in polygons]
    array = np.zeros(grid.shape, dtype=np.uint8)
    spreads = [np.ptp(points, axis=0) for parts in placed for points in parts]
    if not spreads:
        return array, 0.0
    axis = int(np.max(spreads, axis=0).argmin())  # across the contours' planes
    order = [*(other for other in range(3) if other != axis), axis]
    view = array.transpose(order)
    largest = 0.0
    for label, parts in zip(structures, placed, strict=True):
        contours = [_contour(points[:, order], view.shape[2], label) for points in parts]
        mask = fill_contours(contours, view.shape)
        if view[mask].any():
            raise AmbiguityError(f"structures must not overlap to be a label map, got {label.name!r} over others")
        view[mask] = label.index
        for points in parts:
            places = points + 0.5 * (np.arange(3) != axis)
            off = np.linalg.norm((places - np.rint(places)) * grid.spacing, axis=1)
            largest = max(largest, float(off.max()))
    return array, largest


def _contour(points: Points, planes: int, label: Label) -> Contour:
    """Polygon of points in voxel indices, the last of which is across the plane."""
    plane = round(float(points[:, 2].mean()))
    off = float(np.abs(points[:, 2] - plane).max())
    if off > JITTER_SHARE or not 0 <= plane < planes:
        raise GeometryError(
            f"contours must lie in one of the {planes} planes of the grid, got {label.name!r} at plane "
            f"{float(points[:, 2].mean()):.2f}, {off:.2f} from {plane}; give the series on which they were drawn"
        )
    return Contour(plane, points[:, :2])
