"""Read one DICOM series as a volume: check its geometry, decode its pixels, correct gantry tilt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError
from ..files import sha256_of
from ..memory import check_memory
from ..volume import Volume, check_finite
from .acquisition import check_together
from .discovery import Instance, chosen_series
from .geometry import LPS_TO_RAS, Grid, check_grid, read_slices
from .header_rules import clean_header
from .reading import guarded, parse, plain_warnings, read_values

if TYPE_CHECKING:
    import pydicom

JPEG_END = b"\xff\xd9"  # marker at the end of a JPEG, JPEG-LS or JPEG 2000 stream, before padding and delimiter
STORED_BYTES = 8  # most bytes of a decoded value: all frames of an object are decoded at once
SHORT_PADDING = 14  # bytes of arbitrary value; longer padding repeats one byte

__all__ = ["LPS_TO_RAS", "DicomSeries", "read_dicom_series"]


@dataclass(frozen=True)
class DicomSeries:
    """A series as a volume, with its source instances."""

    volume: Volume  # (1, X, Y, Z) float32, mm, RAS
    sources: tuple["pydicom.Dataset", ...]  # headers without pixels; sources[k] is slice k of Z, or one multi-frame
    remarks: tuple[str, ...]  # such as ignored objects or a resampled tilt
    warnings: tuple[str, ...] = ()  # of pydicom; may quote values that identify the patient
    sha256: Mapping[Path, str] = field(default_factory=dict)  # of files that were read whole, by resolved path


def read_dicom_series(source: Path | Sequence[Path], *, series: str | None = None) -> DicomSeries:
    """Read one image series.

    Args:
        source: folder (walked), zip, DICOMDIR, or files.
        series: UID, number or description; None: the only image series.

    Returns:
        `(1, columns, rows, slices)` float32 after the modality rescale (CT: HU), mm, RAS. MONOCHROME1 is not inverted.
        The slices of a tilted gantry are shifted within their planes onto an upright grid, linearly interpolated.

    Raises:
        InputError: no image series, or colour; `CorruptFileError`: undecodable.
        AmbiguityError: several image series; the message lists them.
        GeometryError: unusable geometry; see its subclasses.
    """
    with chosen_series(source, series) as chosen:
        remarks, sha256 = chosen.remarks, chosen.sha256
        grid = check_grid(read_slices(chosen.instances))
        check_together(grid.slices)
        array, sources, warnings = _pixels(grid, sha256)
    if changed := clean_header(sources[0])[1]:
        remarks.append(f"values that DICOM does not allow, corrected or omitted in the results: {', '.join(changed)}")
    affine = grid.affine
    if sources[0].get("PhotometricInterpretation") == "MONOCHROME1":
        remarks.append("MONOCHROME1: values are kept as stored (high values are dark)")
    if grid.tilt_deg:
        low = float(array.min())
        array, affine = _upright(array, affine, low)
        remarks.append(
            f"gantry tilted by {grid.tilt_deg:.2f} degrees: slices shifted in their planes onto an upright grid, "
            f"linearly interpolated, {low:g} outside"
        )
    volume = Volume(array[None], LPS_TO_RAS @ affine)
    check_finite(volume, grid.slices[0].instance.path.parent)
    return DicomSeries(volume, sources, tuple(remarks), tuple(warnings), sha256)


def _pixels(
    grid: Grid, sha256: dict[Path, str]
) -> tuple[NDArray[np.float32], tuple["pydicom.Dataset", ...], list[str]]:
    """Decode the voxels, and add the hashes of the files to `sha256`.

    Returns:
        Voxels `(columns, rows, slices)` after rescale, headers of the instances, and pydicom's warnings.
    """
    first = grid.slices[0].instance
    voxels = first.header.Columns * first.header.Rows * len(grid.slices)
    check_memory(
        voxels * (np.dtype(np.float32).itemsize + (STORED_BYTES if first.frames > 1 else 0)),
        f"the voxels of {first.path}{' and its series' if first.frames == 1 else ''}",
        way_out="take a part of them, or a machine with more",
    )
    array = np.empty((first.header.Columns, first.header.Rows, len(grid.slices)), dtype=np.float32)
    sources, said = [], []
    stored = None
    for index, one in enumerate(grid.slices):
        if stored is None or first.frames == 1:
            stored, header, warnings = _decode(one.instance, sha256)
            sources.append(header)
            said += [text for text in warnings if text not in said]
        plane = stored[one.frame : one.frame + 1] if first.frames > 1 else stored[None]
        if plane.shape != (1, *array.shape[1::-1]):
            raise CorruptFileError(f"{one.name} must have {array.shape[1::-1]} pixels, got {plane.shape[1:]}")
        slope, intercept = one.rescale
        with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused later
            exact = plane.dtype.itemsize <= 2  # else integers would lose digits before the intercept is added
            values = plane[0].T * (np.float32(slope) if exact else np.float64(slope))
            array[:, :, index] = values + (np.float32(intercept) if exact else np.float64(intercept))
    return array, tuple(sources), said


def _decode(instance: Instance, sha256: dict[Path, str]) -> tuple[NDArray[np.generic], "pydicom.Dataset", list[str]]:
    """Decode `(rows, columns)` or `(frames, rows, columns)` before the rescale, with header and warnings."""
    with (
        guarded(instance.path, "has no readable pixels, or no decoder that takes them is installed"),
        plain_warnings() as said,
        instance.file() as file,
    ):
        sha256[instance.path.resolve()] = sha256_of(file)
        dataset = parse(file)
        stored = _significant(dataset.pixel_array, dataset)
        if "ModalityLUTSequence" in dataset:
            from pydicom.pixels.processing import apply_modality_lut

            stored = apply_modality_lut(stored, dataset)
        for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if tag in dataset:
                del dataset[tag]
        read_values(dataset)
    return stored, dataset, said


def _significant(stored: NDArray[np.generic], dataset: "pydicom.Dataset") -> NDArray[np.generic]:
    """Remove other data that old scanners stored in the unused high bits.

    Raises:
        ValueError: values not in the lowest bits (retired), or a JPEG stream without end marker.
    """
    bits = int(dataset.get("BitsStored", 0))
    if (high := int(dataset.get("HighBit", bits - 1))) != bits - 1:
        raise ValueError(f"HighBit must be {bits - 1} for {bits} bits, got {high}")
    if dataset.file_meta.TransferSyntaxUID.name.startswith("JPEG"):
        _check_streams(dataset)
    spare = stored.dtype.itemsize * 8 - bits
    if stored.dtype.kind not in "iu" or bits <= 0 or spare <= 0:
        return stored
    return (stored << stored.dtype.type(spare)) >> stored.dtype.type(spare)  # type: ignore[no-any-return,operator]


def _check_streams(dataset: "pydicom.Dataset") -> None:
    """Refuse truncated JPEG streams, which some decoders silently fill up."""
    from pydicom import encaps

    frames = int(dataset.get("NumberOfFrames") or 1)
    if hasattr(encaps, "generate_frames"):
        streams = list(encaps.generate_frames(dataset.PixelData, number_of_frames=frames))
    else:  # pydicom 2
        streams = list(encaps.generate_pixel_data_frame(dataset.PixelData, frames))
    for number, stream in enumerate(streams, start=1):
        end = stream.rfind(JPEG_END)
        padding = stream[end + len(JPEG_END) :]
        if end < 0 or (len(padding) > SHORT_PADDING and len({*padding} - {0}) > 1):
            raise ValueError(f"the JPEG stream of frame {number} has no end")


def _upright(
    array: NDArray[np.float32], affine: NDArray[np.float64], fill: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Shift slices in their planes so that the third axis becomes the normal; enlarge the grid to fit them."""
    axes = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    drift = axes.T @ affine[:3, 2] / np.linalg.norm(affine[:3, :2], axis=0)  # pixels per slice, columns and rows
    shifts = np.arange(array.shape[2])[:, None] * drift
    low = np.floor(shifts.min(axis=0) + 1e-6).astype(int)
    grown = np.ceil(shifts.max(axis=0) - 1e-6).astype(int) - low
    result = np.full((array.shape[0] + grown[0], array.shape[1] + grown[1], array.shape[2]), fill, dtype=np.float32)
    for index, shift in enumerate(shifts - low):
        plane = result[:, :, index]
        padded = np.pad(array[:, :, index], [(0, size) for size in grown], constant_values=fill)
        for axis in (0, 1):
            padded = _shifted(padded, float(shift[axis]), axis, fill)
        plane[...] = padded
    straight = affine.copy()
    straight[:3, 2] -= axes @ (axes.T @ affine[:3, 2])
    straight[:3, 3] += affine[:3, :2] @ low
    return result, straight


def _shifted(plane: NDArray[np.float32], shift: float, axis: int, fill: float) -> NDArray[np.float32]:
    """Move a plane towards higher indices by `shift` >= 0 pixels, linearly interpolated."""
    whole = int(np.floor(shift + 1e-6))
    share = np.float32(max(0.0, shift - whole))
    size = plane.shape[axis]
    near, far = (
        np.take(
            np.pad(plane, [(whole + more, 0) if a == axis else (0, 0) for a in (0, 1)], constant_values=fill),
            range(size),
            axis=axis,
        )
        for more in (0, 1)
    )
    result: NDArray[np.float32] = near if share < 1e-5 else near * (1 - share) + far * share
    return result
