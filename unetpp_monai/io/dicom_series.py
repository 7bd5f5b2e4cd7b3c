"""DICOM: a folder to the one image series in it, its geometry checked, as a volume.

Headers are read and checked before any pixel is decoded. Not read here: enhanced multi-frame objects, tilted gantries.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import AmbiguityError, GeometryError, InputError
from ..volume import Volume

if TYPE_CHECKING:
    import pydicom

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's patient axes point left and posterior, ours right and anterior
JITTER_MM = 0.1  # scanners write positions off by this much; more is a missing or moved slice
DIRECTION_TOLERANCE = 1e-3  # largest difference of direction cosines within one series
GEOMETRY_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
HEADER_TAGS = [
    *GEOMETRY_TAGS,
    *("SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "Modality"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
]


@dataclass(frozen=True)
class Instance:
    """One image object of a series: where it is and its header without pixels."""

    path: Path
    header: "pydicom.Dataset"

    @property
    def position(self) -> NDArray[np.float64]:
        """Centre of the first voxel, mm, LPS."""
        return np.array(self.header.ImagePositionPatient, dtype=np.float64)

    @property
    def orientation(self) -> NDArray[np.float64]:
        """Direction cosines of rows and columns, 2x3, LPS."""
        return np.array(self.header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Whether at least one file directly in `folder` is DICOM."""
    return any(is_dicom(path) for path in sorted(folder.iterdir()) if path.is_file())


def read_dicom_series(folder: Path) -> Volume:
    """Read the only image series in a folder.

    Args:
        folder: whose files (not sub-folders) belong to one series.

    Returns:
        `(1, columns, rows, slices)` float32 after the modality rescale (CT: HU), mm, RAS.

    Raises:
        InputError: no image series, objects we cannot decode, or colour.
        AmbiguityError: several image series; the message lists them.
        GeometryError: missing slice, duplicate position, mixed or missing geometry, tilted gantry.
    """
    instances = _one_series(folder)
    slices, affine = _geometry(instances, folder)
    array = np.stack([_pixels(instance) for instance in slices], axis=-1)
    return Volume(array[None], affine)


def _one_series(folder: Path) -> list[Instance]:
    import pydicom

    series: dict[str, list[Instance]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not is_dicom(path):
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=HEADER_TAGS)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise InputError(f"{path} is not a readable DICOM file ({error}); export the series again") from error
        if "Rows" in header:
            series[str(header.get("SeriesInstanceUID", ""))].append(Instance(path, header))
        elif _should_be_image(header):
            raise InputError(f"{path} is an image without its pixels (truncated?); export the series again")
    if not series:
        raise InputError(f"a DICOM folder must hold an image series, found no image in {folder}")
    if len(series) > 1:
        listing = "; ".join(
            f"{uid} ({first.get('Modality', '?')} {first.get('SeriesDescription', '')!r}, {len(members)} images)"
            for uid, members in series.items()
            for first in [members[0].header]
        )
        raise AmbiguityError(
            f"{folder} must hold one image series, got {len(series)}: {listing}; move all but one away"
        )
    return next(iter(series.values()))


def _should_be_image(header: "pydicom.Dataset") -> bool:
    """Whether an object without rows claims to be an image; reports, a DICOMDIR and their like do not."""
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")
    return "Image Storage" in getattr(kind, "name", "Image Storage")


def _geometry(instances: Sequence[Instance], folder: Path) -> tuple[list[Instance], NDArray[np.float64]]:
    """Sort the slices along their normal; return them with the affine (voxel index -> mm, RAS)."""
    first = instances[0].header
    for instance in instances:
        _check_object(instance)
        _check_same(instance, instances[0])
    row, column = instances[0].orientation
    normal = np.cross(row, column)
    if abs(np.linalg.norm(normal) - 1) > DIRECTION_TOLERANCE:
        raise GeometryError(f"direction cosines must be two orthogonal unit vectors, got {row}, {column} in {folder}")
    slices = sorted(instances, key=lambda instance: float(instance.position @ normal))
    origin = slices[0].position
    if len(slices) == 1:
        step = normal * _thickness(slices[0])
    else:
        _check_steps(slices, normal, folder)
        step = (slices[-1].position - origin) / (len(slices) - 1)
        length = (step @ normal) * (len(slices) - 1)
        lateral = np.linalg.norm(slices[-1].position - origin - length * normal)
        if lateral > JITTER_MM + DIRECTION_TOLERANCE * length:
            raise GeometryError(
                f"slices must lie behind one another along their normal, got {lateral:.1f} mm of sideways drift "
                f"(tilted gantry) in {folder}; resample the series to an upright grid first"
            )
    down, along = (float(value) for value in first.PixelSpacing)  # mm between rows, mm between columns
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = row * along, column * down, step, origin
    return slices, LPS_TO_RAS @ affine


def _check_object(instance: Instance) -> None:
    header = instance.header
    missing = [tag for tag in (*GEOMETRY_TAGS, "Columns") if not header.get(tag)]
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(f"multi-frame objects are not supported, got {instance.path}; convert to single-frame images")
    if missing:
        raise GeometryError(f"every image must have {', '.join(missing)}, got none in {instance.path}")
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
        raise InputError(
            f"images must be MONOCHROME2 with 1 sample per pixel, got {header.get('PhotometricInterpretation')} "
            f"with {header.get('SamplesPerPixel')} in {instance.path}"
        )


def _check_same(instance: Instance, first: Instance) -> None:
    for tag in ("Rows", "Columns"):
        if instance.header[tag].value != first.header[tag].value:
            raise GeometryError(
                f"all images of a series must have the same {tag}, got {first.header[tag].value} in {first.path.name} "
                f"and {instance.header[tag].value} in {instance.path.name}; a localizer among them?"
            )
    spacing = np.subtract(instance.header.PixelSpacing, first.header.PixelSpacing)
    if np.abs(spacing).max() > 1e-3 or np.abs(instance.orientation - first.orientation).max() > DIRECTION_TOLERANCE:
        raise GeometryError(
            f"all images of a series must have the same spacing and orientation, "
            f"{instance.path.name} differs from {first.path.name}"
        )


def _check_steps(slices: Sequence[Instance], normal: NDArray[np.float64], folder: Path) -> None:
    along = np.array([instance.position @ normal for instance in slices])
    steps = np.diff(along)
    closest = int(steps.argmin())
    if steps[closest] < JITTER_MM:
        raise GeometryError(
            f"every slice must have its own position, got {slices[closest].path.name} and "
            f"{slices[closest + 1].path.name} at {along[closest]:.2f} mm in {folder}; several time points or a copy?"
        )
    usual = float(np.median(steps))
    odd = int(np.abs(steps - usual).argmax())
    line = along[0] + np.linspace(0, along[-1] - along[0], len(along))
    if abs(steps[odd] - usual) > 2 * JITTER_MM or np.abs(along - line).max() > JITTER_MM:
        raise GeometryError(
            f"slices must be evenly spaced, got {steps[odd]:.2f} mm between {slices[odd].path.name} and "
            f"{slices[odd + 1].path.name}, elsewhere {usual:.2f} mm in {folder}; a slice is missing"
        )


def _thickness(instance: Instance) -> float:
    """Mm of a single slice, the only case in which positions do not tell."""
    import pydicom

    header = pydicom.dcmread(instance.path, stop_before_pixels=True, specific_tags=["SliceThickness"])
    value = header.get("SliceThickness")
    if not value or float(value) <= 0:
        raise GeometryError(f"a single slice must state its SliceThickness in mm, got {value!r} in {instance.path}")
    return float(value)


def _pixels(instance: Instance) -> NDArray[np.float32]:
    """Voxels of one slice, `(columns, rows)`, after its own rescale slope and intercept."""
    import pydicom

    try:
        dataset = pydicom.dcmread(instance.path)
        stored = dataset.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{instance.path} holds compressed pixels that need a decoder ({error}); "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle"
        ) from error
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise InputError(f"{instance.path} has no readable pixels ({error}); export the series again") from error
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    voxels: NDArray[np.float32] = np.asarray(stored.T, dtype=np.float32) * np.float32(slope) + np.float32(intercept)
    return voxels
