"""Read the planes of source images, and turn label maps to their axes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..volume import Volume
from .geometry import DIRECTION_TOLERANCE, JITTER_MM, LPS_TO_RAS, frame_value

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

BESIDE = 1.0  # pixels beyond the outermost pixel centre from which a voxel is outside an image
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class Planes:
    """Geometry of source images, one per instance, or per frame of the only multi-frame instance."""

    orientation: NDArray[np.float64]  # 2x3: direction cosines of growing column and row index, LPS
    spacing: NDArray[np.float64]  # mm between rows, mm between columns
    positions: NDArray[np.float64]  # (n, 3): centre of each plane's first voxel, mm, LPS

    @property
    def normal(self) -> NDArray[np.float64]:
        """Return the unit normal of the planes, LPS."""
        normal = np.cross(*self.orientation)
        unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
        return unit


def source_planes(sources: Sequence["pydicom.Dataset"]) -> Planes:
    """Read the planes of source images; all share the first one's orientation and spacing.

    Raises:
        OutputError: not one series, no frame of reference, or no geometry.
    """
    _check_series(sources)
    first = sources[0]
    frames = int(first.get("NumberOfFrames") or 1)
    places = [(first, frame) for frame in range(frames)] if len(sources) == 1 else [(one, 0) for one in sources]
    try:
        orientation = np.array(frame_value(first, "ImageOrientationPatient"), float)
        spacing = np.array(frame_value(first, "PixelSpacing"), float)
        positions = [frame_value(one, "ImagePositionPatient", frame) for one, frame in places]
        planes = Planes(orientation.reshape(2, 3), spacing.reshape(2), np.array(positions, float).reshape(-1, 3))
    except (TypeError, ValueError) as error:
        raise OutputError(f"source images must have position, orientation and spacing, got none ({error})") from error
    if not all(np.isfinite(values).all() for values in (planes.orientation, planes.spacing, planes.positions)):
        raise OutputError(
            "source images must have position, orientation and spacing as finite numbers, got other values"
        )
    return planes


def match_grid(labels: Volume, sources: Sequence["pydicom.Dataset"]) -> Volume:
    """Turn a label map so that its axes run along the sources' columns, rows and slices.

    Axes are permuted and flipped without interpolation: a label map on the sources' grid keeps their planes, one on
    another grid has its own planes. A warning is logged if some labels are outside the images.

    Raises:
        OutputError: no two axes of the grid are orthogonal, or all labels are outside the images.
    """
    planes = source_planes(sources)
    _check_inside(labels, planes, sources[0])
    axes = np.stack([*planes.orientation, _forwards(planes)], axis=1)
    directions = (LPS_TO_RAS @ labels.affine)[:3, :3] / labels.spacing
    cosines = axes.T @ directions
    skews = np.abs(directions.T @ directions)
    orders = [order for order in permutations(range(3)) if skews[order[:2]] < 2 * DIRECTION_TOLERANCE]
    if not orders:
        raise OutputError("two axes of a label map's grid must be orthogonal, got a sheared grid; resample it first")
    order = max(orders, key=lambda order: sum(abs(cosines[axis, order[axis]]) for axis in range(3)))
    turn = np.zeros((4, 4))  # index on the turned grid -> index on the given one
    turn[3, 3] = 1
    array = np.transpose(labels.array, (0, *(axis + 1 for axis in order)))
    for axis, given in enumerate(order):
        if cosines[axis, given] < 0:
            array = np.flip(array, axis + 1)
            turn[given, 3] = labels.shape[given] - 1
        turn[given, axis] = -1 if cosines[axis, given] < 0 else 1
    return Volume(array, labels.affine @ turn)


def plane_sources(volume: Volume, planes: Planes) -> list[int | None]:
    """Find the source image or frame in the plane of each slice of a volume turned by `match_grid`.

    Returns:
        Per slice an index into `planes.positions`; None without image within `JITTER_MM`, or if planes are oblique.
    """
    affine = LPS_TO_RAS @ volume.affine
    if np.abs(planes.normal @ affine[:3, :2]).max() > JITTER_MM / max(volume.shape):
        return [None] * volume.shape[2]
    offsets = (affine[:3, 3] + np.arange(volume.shape[2])[:, None] * affine[:3, 2]) @ planes.normal
    distances = np.abs(offsets[:, None] - planes.positions @ planes.normal)
    nearest = distances.argmin(axis=1)
    return [int(image) if distances[index, image] <= JITTER_MM else None for index, image in enumerate(nearest)]


def _check_inside(labels: Volume, planes: Planes, first: "pydicom.Dataset") -> None:
    """Refuse labels that are all outside the images, and warn if some are."""
    indices = np.argwhere(labels.array[0])
    if not len(indices):
        return
    axes = np.stack([*(planes.orientation * planes.spacing[::-1, None]), planes.normal], axis=1)  # mm per index, or mm
    place = np.linalg.inv(axes) @ LPS_TO_RAS[:3] @ labels.affine
    place[:, 3] -= np.linalg.inv(axes) @ planes.positions[0]
    along = np.sort((planes.positions - planes.positions[0]) @ planes.normal)
    steps = np.diff(along)
    reach = max(float(np.median(steps)) if len(steps) else 0.0, *labels.spacing)  # of a plane, and of a label's voxel
    low = np.array([-BESIDE, -BESIDE, along[0] - reach])
    high = np.array([first.Columns - 1 + BESIDE, first.Rows - 1 + BESIDE, along[-1] + reach])
    ends = np.array([indices.min(0), indices.max(0)])
    corners = np.array([[ends[x, 0], ends[y, 1], ends[z, 2]] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    if _inside(corners, place, low, high).all():
        return
    beside = int((~_inside(indices, place, low, high)).sum())
    if beside == len(indices):
        raise OutputError(
            f"labels must be inside the source images, got all {beside} labelled voxels outside; name the series that "
            "the labels belong to, or correct the geometry of their file"
        )
    if beside:
        logger.warning("%d of %d labelled voxels are outside the source images", beside, len(indices))


def _inside(
    indices: NDArray[np.int64], place: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.bool_]:
    found = indices @ place[:, :3].T + place[:, 3]
    return np.asarray(((found >= low) & (found <= high)).all(axis=1))


def _check_series(sources: Sequence["pydicom.Dataset"]) -> None:
    if not sources:
        raise OutputError("writing DICOM needs the source images' headers, got none; give a DICOM input")
    for keyword in (*REQUIRED, "Rows", "Columns"):
        if any(not source.get(keyword) for source in sources):
            raise OutputError(f"source images must have {keyword}, got one without; export the series again")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
        values = sorted({str(source[keyword].value) for source in sources})
        if len(values) > 1:
            raise OutputError(f"source images must be of one series with one {keyword}, got {', '.join(values)}")


def _forwards(planes: Planes) -> NDArray[np.float64]:
    """Return the direction from each source image to the next: their normal or its opposite."""
    return planes.normal * (-1 if (planes.positions[-1] - planes.positions[0]) @ planes.normal < 0 else 1)
