"""Our reader as MONAI's transforms want one, so that configs, MONAI Label and the Python API read the same voxels."""

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
        spatial_dims: 3, or 2 for images of one slice, which then lose their Z axis.
        series: which DICOM series, by UID, number or description, or a list with one for each channel; None or "": the
            only one.
        channels: endings of names of files that are channels of one case, see `channel_files`.

    `LoadImage` hands a file whose `read` fails to its other readers, which take two mixed series or a missing slice
    silently. So `read` keeps the error and `get_data` raises it.
    """

    def __init__(self, spatial_dims: int = 3, series: SeriesChoice = None, channels: Sequence[str] = ()) -> None:
        super().__init__()
        self.spatial_dims, self.series, self.channels = spatial_dims, series_names(series), tuple(channels)

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Accept everything: what cannot be read is to fail with our message, not to fall to another reader."""
        return True

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> Volume | UnetppError:
        """Read a path, the files of channels, or those of a DICOM series; return the error instead of raising it."""
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
        """Return `(C, X, Y, Z)` or `(C, X, Y)` and the metadata that MONAI's transforms use.

        Raises:
            InputError: why the path could not be read, or intensities that a network would get as others.
        """
        if isinstance(img, UnetppError):
            raise img
        check_intensities(img.array, "the image")
        return spatial_array(img, self.spatial_dims), metadata(img, self.spatial_dims)


def spatial_array(volume: Volume, spatial_dims: int) -> NDArray[np.generic]:
    """The voxels as a network of 3 or 2 spatial dimensions takes them, `(C, X, Y, Z)` or `(C, X, Y)`.

    Raises:
        InputError: several slices for a 2-D network.
    """
    if spatial_dims == 3:
        return volume.array
    if volume.shape[2] != 1:
        raise InputError(f"a 2-D network takes images of 1 slice, got {volume.shape[2]}; give the slices one by one")
    return volume.array[..., 0]


def float_array(volume: Volume, spatial_dims: int) -> NDArray[np.float32]:
    """As `spatial_array`, but a copy (MONAI normalises in place) in C order, which its resampling would make anyway."""
    array = spatial_array(volume, spatial_dims)
    copy = np.empty(array.shape, np.float32)
    rows = array.shape[-1] if array.flags.c_contiguous else 16  # pieces that the cache holds, where order changes
    for start in range(0, array.shape[-1], rows):
        copy[..., start : start + rows] = array[..., start : start + rows]
    return copy


def metadata(volume: Volume, spatial_dims: int) -> dict[str, Any]:
    """MONAI's metadata of a channel-first volume: affine RAS, mm."""
    return {
        "affine": volume.affine,
        "original_affine": volume.affine,
        "spatial_shape": np.array(volume.shape[:spatial_dims]),
        "original_channel_dim": 0,
        "space": "RAS",
    }
