"""The NIfTI writer for MONAI's `SaveImage`: its runners write the same files as the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.data.image_writer import ImageWriter, resolve_writer
from monai.utils import get_equivalent_dtype

from ..errors import OutputError
from ..volume import Volume
from .nifti import is_nifti, write_nifti

WRITTEN = (".nii", ".nii.gz")


class VolumeWriter(ImageWriter):
    """`write_nifti` as a MONAI writer: `{"_target_": "SaveImaged", "writer": "...VolumeWriter", "resample": false}`.

    A label map keeps the unit, form codes and affines of its NIfTI source; MONAI's writer always states mm and code 1.
    Formats other than NIfTI are left to MONAI's writers.

    Args:
        output_dtype: type of the voxels in the file.
        scale: MONAI's intensity factor for pictures.
    """

    def __init__(self, output_dtype: Any = np.float32, scale: int | None = None, **kwargs: Any) -> None:
        super().__init__(output_dtype=output_dtype, scale=scale, **kwargs)
        self.array: Any = None
        self.meta: Mapping[str, Any] = {}
        self.options: tuple[dict[str, Any], dict[str, Any]] = {}, {}

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Store the voxels `(C, *spatial)`."""
        self.array, self.options = data_array, ({"channel_dim": channel_dim, **kwargs}, self.options[1])

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, resample: bool = True, **options: Any) -> None:
        """Store the geometry.

        Raises:
            OutputError: resampling is requested, which `InvertLabelsd` does.
        """
        if resample:
            raise OutputError("a writer of volumes must not resample, got resample true; set it to false in SaveImaged")
        self.meta, self.options = meta_dict or {}, (self.options[0], {"resample": resample, **options})

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the file atomically.

        Raises:
            UnetppError: as for `write_nifti`.
        """
        path = Path(filename)
        if not path.name.lower().endswith(WRITTEN):
            self._as_monai(filename, verbose=verbose, **kwargs)
            return
        dtype = get_equivalent_dtype(self.output_dtype, np.ndarray)
        array = self.array.as_tensor() if isinstance(self.array, MetaTensor) else self.array
        array = np.asarray(array.cpu() if hasattr(array, "cpu") else array).astype(dtype, copy=False)
        array = array.reshape(*array.shape, *[1] * (4 - array.ndim))  # (C, X, Y) from a 2-D network
        source = Path(str(self.meta.get("filename_or_obj", "")))
        like = source if is_nifti(source) and source.is_file() else None
        write_nifti(Volume(array, np.asarray(self.meta["affine"], dtype=np.float64)), path, like=like)

    def _as_monai(self, filename: Any, **kwargs: Any) -> None:
        writer = resolve_writer(Path(filename).suffix)[0](output_dtype=self.output_dtype, scale=self.scale)
        writer.set_data_array(self.array, **self.options[0])
        writer.set_metadata(self.meta, **self.options[1])
        writer.write(filename, **kwargs)
