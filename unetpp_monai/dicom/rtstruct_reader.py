"""Parse the polygons of a DICOM RT structure set, and rasterise them on a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import AmbiguityError, CorruptFileError, GeometryError, InputError
from ..labels import Label
from ..volume import Volume
from .common import chosen_names, read_code, read_modifiers
from .contours import Contour, fill_structure
from .geometry import JITTER_SHARE, LPS_TO_RAS
from .planes import BESIDE
from .reading import guarded, read_whole

if TYPE_CHECKING:
    from pydicom import Dataset

Points = NDArray[np.float64]
EXCLUSIVE = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", EXCLUSIVE)


@dataclass(frozen=True)
class Roi:
    """One structure of a structure set."""

    label: Label
    polygons: tuple[Points, ...]  # closed contours: points `(N, 3)`, mm, LPS
    exclusive: tuple[bool, ...]  # for each polygon, whether it inverts its inside (CLOSEDPLANAR_XOR)
    unused: tuple[str, ...] = ()  # types of its contours without area, such as POINT
    wrong_colour: bool = False  # its colour is not sRGB


@dataclass(frozen=True)
class Raster:
    """Structures rasterised on a grid."""

    array: NDArray[np.uint8]  # (X, Y, Z)
    largest_mm: float  # largest distance of a point from a voxel corner of the grid
    remarks: tuple[str, ...]  # on overlapping contours


def parse_structures(path: Path, only: Sequence[str] = ()) -> tuple[Roi, ...]:
    """Read the structures of a structure set and their closed contours.

    Args:
        path: DICOM RTSTRUCT.
        only: names of the structures to read; empty: all.

    Raises:
        InputError: not a structure set, unknown name, or more than 255; `CorruptFileError`: damaged.
    """
    import pydicom

    dataset = read_whole(path, decode=False)  # contour numbers are converted here
    with guarded(path, "is not a readable structure set"):
        if dataset.get("Modality") != "RTSTRUCT":
            raise InputError(
                f"a structure set must have the modality RTSTRUCT, got {dataset.get('Modality')} in {path}"
            )
        items = list(dataset.StructureSetROISequence)
        chosen = chosen_names(only, [str(item.get("ROIName") or "") for item in items], path)
        items = [items[index] for index in chosen]
        values = [int(item.ROINumber) for item in items]
        shown = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
        observed = {int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or ()}
        if len(items) > 255:
            raise InputError(
                f"a label map takes at most 255 structures, got {len(items)} in {path}; choose some", option="rois"
            )
        kept = all(1 <= value <= 255 for value in values) and len(set(values)) == len(values)
        numbers = values if kept else range(1, len(values) + 1)
        nothing = pydicom.Dataset()
        return tuple(
            _roi(number, item, shown.get(value, nothing), observed.get(value, nothing))
            for number, value, item in zip(numbers, values, items, strict=True)
        )


def _roi(number: int, item: "Dataset", shown: "Dataset", observed: "Dataset") -> Roi:
    kinds = observed.get("RTROIIdentificationCodeSequence")
    label = Label(
        index=number,
        name=" ".join(str(item.get("ROIName") or "").split()) or f"ROI {number}",
        category=read_code(observed.get("SegmentedPropertyCategoryCodeSequence")),
        type=read_code(kinds),
        modifiers=read_modifiers(kinds),
        colour=_colour(shown),
    )
    polygons, exclusive, unused = [], [], []
    for contour in shown.get("ContourSequence") or ():
        kind = str(contour.get("ContourGeometricType"))
        if kind not in CLOSED:
            unused.append(kind)
            continue
        raw = contour.get_item("ContourData").value  # bytes: pydicom's numbers are ten times slower
        points = np.array([float(text) for text in raw.split(b"\\")]).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a coordinate of a contour is not a number")
        polygons.append(points)
        exclusive.append(kind == EXCLUSIVE)
    wrong_colour = label.colour is None and bool(shown.get("ROIDisplayColor"))
    return Roi(label, tuple(polygons), tuple(exclusive), tuple(unused), wrong_colour)


def _colour(shown: "Dataset") -> tuple[int, int, int] | None:
    """Return the colour of a structure; None if missing or invalid."""
    try:
        with guarded(Path("ROIDisplayColor")):
            red, green, blue = (int(part) for part in shown.get("ROIDisplayColor") or ())
    except CorruptFileError:
        return None
    return (red, green, blue) if all(0 <= part <= 255 for part in (red, green, blue)) else None


def read_remarks(rois: Sequence[Roi], path: Path) -> list[str]:
    """List structures without closed contours or with invalid colours.

    Raises:
        InputError: no structure has a closed contour.
    """
    empty = [roi for roi in rois if not roi.polygons]
    if len(empty) == len(rois):
        kinds = sorted({kind for roi in rois for kind in roi.unused})
        raise InputError(
            f"structures must have closed contours, got none in {path} "
            f"(of {len(rois)} structures, contours of type {', '.join(kinds) or 'none'}); choose other structures"
        )
    remarks = [
        f"{roi.label.name}: no closed contour (contours of type {', '.join(sorted(set(roi.unused))) or 'none'})"
        for roi in empty
    ]
    return remarks + [
        f"{roi.label.name}: its colour is not in sRGB and was replaced" for roi in rois if roi.wrong_colour
    ]


def rasterise(rois: Sequence[Roi], grid: Volume) -> Raster:
    """Fill the contours: a voxel belongs to a structure if its centre is inside a contour.

    A CLOSEDPLANAR_XOR contour inverts its inside instead.

    Raises:
        AmbiguityError: overlapping structures, which do not fit into one label map.
        GeometryError: a contour is not in a plane of the grid.
    """
    to_index = np.linalg.inv(LPS_TO_RAS @ grid.affine)
    placed = [[points @ to_index[:3, :3].T + to_index[:3, 3] for points in roi.polygons] for roi in rois]
    array = np.zeros(grid.shape, dtype=np.uint8)
    spreads = [np.ptp(points, axis=0) for parts in placed for points in parts]
    if not spreads:
        return Raster(array, 0.0, ())
    axis = int(np.max(spreads, axis=0).argmin())  # across the contours' planes
    order = [*(other for other in range(3) if other != axis), axis]
    view = array.transpose(order)
    largest, remarks = 0.0, []
    for roi, parts in zip(rois, placed, strict=True):
        contours = [_contour(points[:, order], view.shape[2], roi.label) for points in parts]
        mask, odd = fill_structure(contours, roi.exclusive, view.shape)
        ends = np.array([end for each in contours for end in (each.points.min(0), each.points.max(0))])
        if len(ends) and ((ends < -BESIDE) | (ends > np.array(view.shape[:2]) - 1 + BESIDE)).any():
            remarks.append(f"{roi.label.name}: contours extend beyond the images and were clipped")
        if odd is not None:
            remarks.append(
                f"{roi.label.name}: contours overlap; their union has "
                f"{np.count_nonzero(mask) * grid.voxel_ml:.4g} mL, with inner contours as holes "
                f"{odd * grid.voxel_ml:.4g} mL"
            )
        if view[mask].any():
            others = ", ".join(repr(other.label.name) for other in rois)
            raise AmbiguityError(
                f"structures of a label map must not overlap, got {roi.label.name!r} over others; choose of {others}",
                option="rois",
            )
        view[mask] = roi.label.index
        for points in parts:
            places = points + 0.5 * (np.arange(3) != axis)
            off = np.linalg.norm((places - np.rint(places)) * grid.spacing, axis=1)
            largest = max(largest, float(off.max()))
    return Raster(array, largest, tuple(remarks))


def _contour(points: Points, planes: int, label: Label) -> Contour:
    """Make a polygon of points in voxel indices, whose last axis is across the plane."""
    plane = round(float(points[:, 2].mean()))
    off = float(np.abs(points[:, 2] - plane).max())
    if off > JITTER_SHARE or not 0 <= plane < planes:
        raise GeometryError(
            f"contours must be in one of the {planes} planes of the grid, got {label.name!r} at plane "
            f"{float(points[:, 2].mean()):.2f}, {off:.2f} from {plane}; name the series on which they were drawn"
        )
    return Contour(plane, points[:, :2])
