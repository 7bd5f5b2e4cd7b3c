"""Our writer as MONAI's `SaveImage` wants one, so that its runners write NIfTI as the command line does."""

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

    A label map of a NIfTI file keeps the unit, form codes and affines of that file, where MONAI's own writer states mm
    and two forms of code 1. Other formats than NIfTI are left to MONAI's writers.

    Args:
        output_dtype: of the file's voxels.
        scale: MONAI's factor for pictures.
    """

    def __init__(self, output_dtype: Any = np.float32, scale: int | None = None, **kwargs: Any) -> None:
        super().__init__(output_dtype=output_dtype, scale=scale, **kwargs)
        self.array: Any = None
        self.meta: Mapping[str, Any] = {}
        self.options: tuple[dict[str, Any], dict[str, Any]] = {}, {}

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Keep the voxels `(C, *spatial)`."""
        self.array, self.options = data_array, ({"channel_dim": channel_dim, **kwargs}, self.options[1])

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, resample: bool = True, **options: Any) -> None:
        """Keep what says where the voxels are.

        Raises:
            OutputError: they are to be resampled, which is `InvertLabelsd`'s part.
        """
        if resample:
            raise OutputError("a writer of volumes must not resample, got resample true; set it to false in SaveImaged")
        self.meta, self.options = meta_dict or {}, (self.options[0], {"resample": resample, **options})

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the file, complete or not at all.

        Raises:
            UnetppError: as `write_nifti`.
        """
        path = Path(filename)
        if not path.name.lower().endswith(WRITTEN):
            self._as_monai(filename, verbose=verbose, **kwargs)
            return
        dtype = get_equivalent_dtype(self.output_dtype, np.ndarray)
        array = self.array.as_tensor() if isinstance(self.array, MetaTensor) else self.array
        array = np.asarray(array.cpu() if hasattr(array, "cpu") else array).astype(dtype, copy=False)
        array = array.reshape(*array.shape, *[1] * (4 - array.ndim))  # (C, X, Y) of a 2-D network
        source = Path(str(self.meta.get("filename_or_obj", "")))
        like = source if is_nifti(source) and source.is_file() else None
        write_nifti(Volume(array, np.asarray(self.meta["affine"], dtype=np.float64)), path, like=like)

    def _as_monai(self, filename: Any, **kwargs: Any) -> None:
        writer = resolve_writer(Path(filename).suffix)[0](output_dtype=self.output_dtype, scale=self.scale)
        writer.set_data_array(self.array, **self.options[0])
        writer.set_metadata(self.meta, **self.options[1])
        writer.write(filename, **kwargs)
