"""The volume reader for MONAI's transforms: configs, MONAI Label and the Python API read the same voxels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from numpy.typing import NDArray

from ..dicom.series import read_dicom_series
from ..errors import InputError, UnetppError
from ..intensities import check_intensities
from ..volume import Volume
from .channels import SeriesChoice, read_case, read_channels, series_names
from .reader import is_image_file
from .series_channels import read_series_channels


class VolumeReader(ImageReader):
    """`read_volume` as a MONAI reader: `{"_target_": "LoadImaged", "reader": "$VolumeReader(spatial_dims=3)"}`.

    Args:
        spatial_dims: 3, or 2 for single-slice images, whose Z axis is removed.
        series: UID, number or description of the DICOM series, or a list with one per channel; None or "": the only
            one.
        channels: file name endings of the channels of one case, see `channel_files`.

    If `read` fails, `LoadImage` falls back to its other readers, which silently accept mixed series and missing slices.
    So `read` returns the error and `get_data` raises it.
    """

    def __init__(self, spatial_dims: int = 3, series: SeriesChoice = None, channels: Sequence[str] = ()) -> None:
        super().__init__()
        self.spatial_dims, self.series, self.channels = spatial_dims, series_names(series), tuple(channels)

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Accept every file, so that an unreadable one gives our error and no other reader is tried."""
        return True

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> Volume | UnetppError:
        """Read a path, one file per channel, or the files of a DICOM series; return errors instead of raising them."""
        paths = [Path(path) for path in ([data] if isinstance(data, str | Path) else data)]
        try:
            if len(paths) == 1:
                return read_case(paths[0], series=self.series, channels=self.channels).volume
            if all(is_image_file(path) for path in paths):
                return read_channels(paths).volume
            if max(len(self.series), len(self.channels)) > 1:
                return read_series_channels(paths, self.series, in_channels=len(self.channels) or None).volume
            return read_dicom_series(paths, series=next(iter(self.series), None)).volume
        except UnetppError as error:
            return error

    def get_data(self, img: Volume | UnetppError) -> tuple[np.ndarray, dict[str, Any]]:
        """Return `(C, X, Y, Z)` or `(C, X, Y)`, and MONAI's metadata.

        Raises:
            InputError: the path could not be read, or its intensities do not fit float32.
        """
        if isinstance(img, UnetppError):
            raise img
        check_intensities(img.array, "the image")
        return spatial_array(img, self.spatial_dims), metadata(img, self.spatial_dims)


def spatial_array(volume: Volume, spatial_dims: int) -> NDArray[np.generic]:
    """Return the voxels for a 3-D or 2-D network, `(C, X, Y, Z)` or `(C, X, Y)`.

    Raises:
        InputError: several slices for a 2-D network, or one that is not axial.
    """
    if spatial_dims == 3:
        return volume.array
    if volume.shape[2] != 1:
        raise InputError(f"a 2-D network takes images of 1 slice, got {volume.shape[2]}; give the slices one by one")
    across = np.abs(np.cross(*volume.affine[:3, :2].T))  # MONAI takes of a slice's axes what is in R and A
    if across.argmax() != 2:
        plane = ("sagittal", "coronal")[across.argmax()]
        raise InputError(f"a 2-D network takes axial slices, got a {plane} one; save it with axes R and A, or as PNG")
    return volume.array[..., 0]


def float_array(volume: Volume, spatial_dims: int) -> NDArray[np.float32]:
    """Copy as `spatial_array` in C order: MONAI normalises in place, and its resampling needs that order."""
    array = spatial_array(volume, spatial_dims)
    copy = np.empty(array.shape, np.float32)
    rows = array.shape[-1] if array.flags.c_contiguous else 16  # blocks that fit the cache if the order changes
    for start in range(0, array.shape[-1], rows):
        copy[..., start : start + rows] = array[..., start : start + rows]
    return copy


def metadata(volume: Volume, spatial_dims: int) -> dict[str, Any]:
    """Return MONAI's metadata of a channel-first volume: affine in mm, RAS."""
    return {
        "affine": volume.affine,
        "original_affine": volume.affine,
        "spatial_shape": np.array(volume.shape[:spatial_dims]),
        "original_channel_dim": 0,
        "space": "RAS",
    }
