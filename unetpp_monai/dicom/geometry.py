"""Sort the slices of one DICOM series and compute their affine, or raise a specific error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    AmbiguityError,
    CorruptFileError,
    DuplicatePositionError,
    GeometryError,
    InputError,
    IrregularSpacingError,
    MissingGeometryError,
    MissingSliceError,
    MixedGeometryError,
)
from .discovery import DISTINCTIONS, Instance
from .reading import guarded
from .tiles import tiling

if TYPE_CHECKING:
    import pydicom

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from left, posterior to right, anterior
JITTER_MM = 0.1  # rounding of positions by scanners; more means a missing or moved slice
JITTER_SHARE = 0.1  # of the distance between slices, if that is small
DIRECTION_TOLERANCE = 1e-3  # largest difference of direction cosines within one series
SPACING_TOLERANCE_MM = 1e-3  # largest difference of pixel spacings within one series
# functional group of each tag in multi-frame objects
FRAME_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "InversionTime": "MRModifierSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}


@dataclass(frozen=True)
class Slice:
    """One image plane: position, geometry and rescale."""

    instance: Instance
    frame: int  # of its instance, from 0
    position: NDArray[np.float64]  # centre of the first voxel, mm, LPS
    orientation: NDArray[np.float64]  # 2x3: direction cosines of growing column and row index, LPS
    spacing: tuple[float, float]  # mm between rows, mm between columns
    rescale: tuple[float, float]  # slope, intercept

    @property
    def name(self) -> str:
        """Return its name for messages."""
        name = self.instance.path.name
        return name if self.instance.frames == 1 else f"frame {self.frame + 1} of {name}"


@dataclass(frozen=True)
class Grid:
    """Slices sorted along their normal, with their affine."""

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]  # (column, row, slice) -> mm, LPS; sheared if the gantry was tilted
    tilt_deg: float  # between the slices' normal and the line of positions; 0 if negligible


def read_slices(instances: Sequence[Instance]) -> list[Slice]:
    """List the planes of a series, or the frames of a multi-frame object.

    Raises:
        InputError: colour, tiles, or an unusable rescale.
        AmbiguityError: several multi-frame objects.
        MissingGeometryError: a plane without position, orientation or pixel spacing.
    """
    if len(instances) > 1 and any(instance.frames > 1 for instance in instances):
        raise AmbiguityError(
            f"a series must be single images or one multi-frame object, got {len(instances)} objects of up to "
            f"{max(instance.frames for instance in instances)} frames; select one file"
        )
    for instance in instances:
        groups = instance.header.get("PerFrameFunctionalGroupsSequence")
        if groups is not None and len(groups) != instance.frames:
            raise CorruptFileError(
                f"{instance.path} must describe its {instance.frames} frames, got {len(groups)} descriptions"
            )
    slices = []
    for instance in instances:
        with guarded(instance.path, "has an unusable header"):
            slices += [_slice(instance, frame) for frame in range(instance.frames)]
    return slices


def check_grid(slices: Sequence[Slice]) -> Grid:
    """Sort the slices along their normal and fit a line through their positions.

    Raises:
        MixedGeometryError: size, spacing, orientation or frame of reference differ.
        DuplicatePositionError, MissingSliceError, IrregularSpacingError: see `errors`.
        GeometryError: invalid direction cosines, or a single slice without thickness.
    """
    first = slices[0]
    for one in slices:
        _check_same(one, first)
    row, column = first.orientation
    normal = np.cross(row, column)
    lengths = np.linalg.norm([row, column, normal], axis=1)
    if np.abs(lengths - 1).max() > DIRECTION_TOLERANCE or min(first.spacing) <= 0:
        raise GeometryError(
            f"images must have orthogonal unit direction cosines and spacings > 0 mm, got {first.orientation.tolist()} "
            f"and {first.spacing} in {first.name}"
        )
    ordered = tuple(sorted(slices, key=lambda one: float(one.position @ normal)))
    tilt = 0.0
    if len(ordered) == 1:
        with guarded(first.instance.path, "has a non-numeric SliceThickness"):
            origin, step = first.position, normal * _thickness(first)
    else:
        _check_steps(ordered, normal)
        origin, step = _line(ordered)
        tilt = _tilt(step, normal, len(ordered))
    affine = np.eye(4)
    affine[:3] = np.stack([row * first.spacing[1], column * first.spacing[0], step, origin], axis=1)
    return Grid(ordered, affine, tilt)


def _slice(instance: Instance, frame: int) -> Slice:
    header = instance.header
    if header.get("SamplesPerPixel", 1) != 1 or not str(header.get("PhotometricInterpretation")).startswith("MONO"):
        raise InputError(
            f"images must be MONOCHROME with 1 sample per pixel, got {header.get('PhotometricInterpretation')} "
            f"with {header.get('SamplesPerPixel')} in {instance.path} (colour); choose another series"
        )
    if tiles := tiling(header):
        raise InputError(
            f"images must be one plane each, got the tiles of a {tiles} in {instance.path}; convert the series with "
            "dcm2niix and give its NIfTI file"
        )
    try:
        position, orientation, spacing = (
            np.array(frame_value(header, tag, frame), dtype=np.float64)
            for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        columns, rows = int(header.get("Columns") or 0), int(header.get("Rows") or 0)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"positions and spacings must be numbers ({error}) in {instance.path}") from error
    sizes = [array.size if np.isfinite(array).all() else 0 for array in (position, orientation, spacing)]
    if sizes != [3, 6, 2] or not columns or not rows:
        raise MissingGeometryError(
            "every image must have ImagePositionPatient (3 numbers), ImageOrientationPatient (6), PixelSpacing (2), "
            f"Rows and Columns, got {sizes[0]}, {sizes[1]}, {sizes[2]}, {rows} and {columns} in {instance.path}; "
            "such images cannot be placed in the patient"
        )
    down, along = (float(value) for value in spacing)
    return Slice(instance, frame, position, orientation.reshape(2, 3), (down, along), _rescale(instance, frame))


def _rescale(instance: Instance, frame: int) -> tuple[float, float]:
    """Return slope and intercept; 1 and 0 if not stated."""
    stated = [frame_value(instance.header, tag, frame) for tag in ("RescaleSlope", "RescaleIntercept")]
    try:
        slope, intercept = (
            default if value is None or value == "" else float(value)
            for value, default in zip(stated, (1.0, 0.0), strict=True)
        )
    except (TypeError, ValueError):
        slope = intercept = np.nan
    if not np.isfinite((slope, intercept)).all() or np.float32(slope) == 0:
        raise InputError(
            f"rescale slope and intercept must be one number each, the slope not 0, got {stated[0]!s} and "
            f"{stated[1]!s} in {instance.path} (RescaleSlope, RescaleIntercept); export the series again"
        )
    return slope, intercept


def frame_value(header: "pydicom.Dataset", tag: str, frame: int = 0) -> Any:
    """Return a frame's value (frames from 0) from its own groups, the shared ones, or the header; else None."""
    for where in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        groups = header.get(where) or []
        index = frame if where.startswith("Per") else 0
        items = groups[index].get(FRAME_GROUPS[tag]) if index < len(groups) and tag in FRAME_GROUPS else None
        if items and items[0].get(tag) is not None:
            return items[0].get(tag)
    return header.get(tag)


def _check_same(one: Slice, first: Slice) -> None:
    for tag in ("Rows", "Columns", "FrameOfReferenceUID", "PhotometricInterpretation"):
        here, there = one.instance.header.get(tag), first.instance.header.get(tag)
        if here != there:
            raise MixedGeometryError(
                f"all images of a series must have the same {tag}, got {there} in {first.name} and {here} in "
                f"{one.name}; remove localizers"
            )
    turn = np.abs(one.orientation - first.orientation).max()
    if turn > DIRECTION_TOLERANCE or np.abs(np.subtract(one.spacing, first.spacing)).max() > SPACING_TOLERANCE_MM:
        raise MixedGeometryError(
            f"all images of a series must have the same spacing and orientation, got {first.spacing} mm, "
            f"{first.orientation.ravel().tolist()} in {first.name} and {one.spacing} mm, "
            f"{one.orientation.ravel().tolist()} in {one.name}; remove localizers"
        )


def _check_steps(slices: Sequence[Slice], normal: NDArray[np.float64]) -> None:
    along = np.array([one.position @ normal for one in slices])
    steps = np.diff(along)
    closest = int(steps.argmin())
    if steps[closest] <= min(JITTER_MM, JITTER_SHARE * steps.mean()):
        copies = int((np.abs(along - along[closest]) <= JITTER_SHARE * max(steps.mean(), 1e-6)).sum())
        raise DuplicatePositionError(
            f"every slice must have its own position, got {copies} at {along[closest]:.2f} mm along the normal "
            f"({slices[closest].name}, {slices[closest + 1].name}), {_distinction(slices)}; select one of them"
        )
    usual = float(np.median(steps))
    tolerance = min(JITTER_MM, JITTER_SHARE * usual)
    odd = int(np.abs(steps - usual).argmax())
    where = f"{steps[odd]:.2f} mm between {slices[odd].name} and {slices[odd + 1].name}, otherwise {usual:.2f} mm"
    lost = round(float(steps[odd] / usual)) - 1
    if lost >= 1 and abs(steps[odd] - (lost + 1) * usual) <= 2 * tolerance:
        raise MissingSliceError(
            f"slices must be evenly spaced, got {where}: {lost} missing there, {_lost(steps, usual)} in all; "
            "fetch the whole series again"
        )
    origin, step = _line(slices)
    index = np.arange(len(slices))[:, None]
    off = np.linalg.norm(np.array([one.position for one in slices]) - origin - index * step, axis=1)
    if off.max() > tolerance:
        raise IrregularSpacingError(
            f"slices must be evenly spaced on a straight line to {tolerance:.2f} mm, got "
            f"{slices[int(off.argmax())].name} {off.max():.2f} mm off it ({where}); resample the series first"
        )


def _lost(steps: NDArray[np.float64], usual: float) -> int:
    return int(sum(max(0, round(float(step / usual)) - 1) for step in steps))


def _distinction(slices: Sequence[Slice]) -> str:
    """Say which tag differs between images at the same position."""
    for tag in DISTINCTIONS:
        values = {str(one.instance.header.get(tag)) for one in slices}
        if 1 < len(values) <= len(slices) // 2:
            return f"with {len(values)} values of {tag} (several time points, echoes or b-values)"
    return "such as copies or several time points"


def _line(slices: Sequence[Slice]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a line through the positions; return origin and step, mm, LPS."""
    positions = np.array([one.position for one in slices])
    index = np.arange(len(slices)) - (len(slices) - 1) / 2
    step = index @ positions / (index @ index)
    return positions.mean(axis=0) + index[0] * step, step


def _tilt(step: NDArray[np.float64], normal: NDArray[np.float64], count: int) -> float:
    forward = float(step @ normal)
    sideways = float(np.linalg.norm(step - forward * normal))
    if sideways * (count - 1) <= JITTER_MM + DIRECTION_TOLERANCE * forward * (count - 1):
        return 0.0
    return float(np.degrees(np.arctan2(sideways, forward)))


def _thickness(one: Slice) -> float:
    """Return the thickness of a single slice in mm."""
    value = frame_value(one.instance.header, "SliceThickness", one.frame)
    if not value or not 0 < float(value) < np.inf:
        raise MissingGeometryError(f"a single slice must state its SliceThickness in mm, got {value!r} in {one.name}")
    return float(value)
