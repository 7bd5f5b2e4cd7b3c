"""Read DICOM series of one study as channels on the grid of the first; aligned by headers only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..dicom.discovery import described_series
from ..dicom.series import DicomSeries, read_dicom_series
from ..errors import GeometryError, InputError
from ..memory import check_memory
from ..volume import Volume
from ..words import counted

if TYPE_CHECKING:
    from ..dicom import Header

GRID_TOLERANCE = 0.1  # most distance in voxels between the corners of two channels, for rounded headers
FLOAT_BYTES = 4
SHARED = ("StudyInstanceUID", "FrameOfReferenceUID")  # must be equal in all channels


@dataclass(frozen=True)
class SeriesChannels:
    """Series stacked on the grid of the first one."""

    volume: Volume  # (C, X, Y, Z) float32, mm, RAS
    series: tuple[DicomSeries, ...]  # as read, in the order of the channels
    remarks: tuple[str, ...]  # of each series and about resampling, without identities


def read_series_channels(
    source: Path | Sequence[Path],
    series: Sequence[str],
    *,
    in_channels: int | None = None,
    channel_names: Sequence[str] = (),
) -> SeriesChannels:
    """Read series as the channels of one image.

    Series on another grid are resampled linearly to that of the first.

    Args:
        source: folder (walked), zip, DICOMDIR, or files.
        series: UID, number or description of each, in the order of the channels.
        in_channels: required number of channels; None: as many as `series`.
        channel_names: names for error messages; may be empty.

    Raises:
        InputError: as for `read_dicom_series`, wrong number of series, or a series named twice.
        GeometryError: series of different studies or frames of reference, or without overlap.
    """
    if in_channels is not None and len(series) != in_channels:
        found = "; ".join(described_series(source))
        called = f" ({', '.join(channel_names)})" if channel_names else ""
        raise InputError(
            f"a series must be named for each of {counted(in_channels, 'channel')}{called}, in their order, got "
            f"{counted(len(series), 'name')}; name them, in the folder that has them all. Found: {found}",
            option="series",
        )
    read = tuple(read_dicom_series(source, series=name) for name in series)
    _check_together(read)
    first = read[0].volume
    remarks = [f"channel {number}: {text}" for number, one in enumerate(read, 1) for text in one.remarks]
    size = FLOAT_BYTES * len(read) * first.array.size
    check_memory(size, f"the voxels of {len(read)} channels", way_out="take a part of them, or a machine with more")
    array = np.empty((len(read), *first.shape), np.float32)
    for index, one in enumerate(read):
        if first.grid_distance(one.volume) <= GRID_TOLERANCE:
            array[index] = one.volume.array[0]
            continue
        outside = resample_onto(first, one.volume, array[index])
        if outside == 1:
            raise GeometryError(
                f"channels must overlap, got no voxel of channel 1 within "
                f"{_named(one)}, channel {index + 1}; choose other series"
            )
        remarks.append(
            f"channel {index + 1}: resampled linearly from {_grid(one.volume)} onto the grid of channel 1, "
            f"{_grid(first)}; {outside:.1%} of its voxels are outside and get the lowest value"
        )
    return SeriesChannels(Volume(array, first.affine), read, tuple(remarks))


def resample_onto(grid: Volume, image: Volume, out: NDArray[np.float32]) -> float:
    """Interpolate an image linearly at the voxels of a grid.

    Args:
        grid: target; its voxels are not used.
        image: `(1, X, Y, Z)`, float32.
        out: array of the grid's shape to fill; voxels outside the image get its lowest value.

    Returns:
        Fraction of the grid outside the image, 0 to 1.
    """
    import torch

    array = torch.from_numpy(np.ascontiguousarray(image.array))[None]  # (1, 1, X, Y, Z)
    low, sizes = float(image.array.min()), np.array(image.shape)
    move = np.linalg.inv(image.affine) @ grid.affine  # voxel index of the grid -> of the image
    _, columns, slices = grid.shape
    y, z = np.meshgrid(np.arange(columns), np.arange(slices), indexing="ij")
    lost = 0
    for x in range(grid.shape[0]):
        index = np.stack([np.full(y.shape, x), y, z], axis=-1) @ move[:3, :3].T + move[:3, 3]  # (Y, Z, 3)
        far = ((index < -0.5) | (index > sizes - 0.5)).any(axis=-1)
        scaled = torch.from_numpy(((2 * index + 1) / sizes - 1)[None, None, ..., ::-1].astype(np.float32))
        plane = torch.nn.functional.grid_sample(
            array, scaled, mode="bilinear", padding_mode="border", align_corners=False
        )
        out[x] = np.where(far, np.float32(low), plane[0, 0, 0].numpy())
        lost += int(far.sum())
    return lost / out.size


def headers_of(series: Sequence[DicomSeries]) -> tuple["Header", ...]:
    """Return the header of the first image of each series."""
    return tuple(one.sources[0] for one in series)


def _check_together(read: Sequence[DicomSeries]) -> None:
    first = read[0]
    uids = [str(header.get("SeriesInstanceUID")) for header in headers_of(read)]
    if len(set(uids)) < len(uids):
        raise InputError(f"channels must be different series, got one of {', '.join(uids)} twice", option="series")
    for other in read[1:]:
        for keyword in SHARED:
            here, there = (str(one.sources[0].get(keyword) or "") for one in (first, other))
            if here and here == there:
                continue
            way_out = (
                "register them first, and give the registered images as files, one per channel"
                if keyword == "FrameOfReferenceUID"
                else "choose series of one study"
            )
            raise GeometryError(
                f"channels must have the same {keyword}, got {here or 'none'} in {_named(first)} and "
                f"{there or 'none'} in {_named(other)}; {way_out}"
            )


def _named(series: DicomSeries) -> str:
    header = series.sources[0]
    return f"series {header.get('SeriesNumber', '?')} {str(header.get('SeriesDescription', ''))!r}"


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{length:.4g}" for length in volume.spacing)
    return f"{' x '.join(map(str, volume.shape))} voxels of {spacing} mm"
