"""Training patches, some of them centred on a structure, however small."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai import transforms
from monai.config import KeysCollection
from monai.data import MetaTensor


class RandForegroundCropd(transforms.RandomizableTransform, transforms.MapTransform):
    """Crop a patch at a random position; with some probability, around a voxel of a structure.

    The structure is drawn first, each that the label map shows alike, then one of its voxels, so that a rare and small
    one is seen as often as the others (as nnU-Net samples, Isensee et al. 2021, arXiv 1809.10486).

    Args:
        keys: images and label map `(C, *spatial)`, one grid, no axis shorter than the patch; cut, same dtypes.
        label_key: of the label map `(1, *spatial)`, 0 = background.
        roi_size: voxels of a patch per axis.
        foreground_share: fraction of patches around a structure, 0 to 1.
    """

    def __init__(self, keys: KeysCollection, label_key: str, roi_size: Sequence[int], foreground_share: float) -> None:
        transforms.MapTransform.__init__(self, keys)
        transforms.RandomizableTransform.__init__(self, foreground_share)
        self.label_key, self.roi_size = label_key, tuple(roi_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key at the same position."""
        label = data[self.label_key]
        label = label.as_tensor() if isinstance(label, MetaTensor) else label
        shape = tuple(label.shape[1:])
        self.randomize(None)
        centre = self._voxel_of_a_structure(label[0]) if self._do_transform else None
        starts = []
        for axis, (size, wanted) in enumerate(zip(shape, self.roi_size, strict=True)):
            room = max(size - wanted, 0)
            start = self.R.randint(room + 1) if centre is None else min(max(centre[axis] - wanted // 2, 0), room)
            starts.append(int(start))
        cut = transforms.SpatialCrop(
            roi_start=starts, roi_end=[a + b for a, b in zip(starts, self.roi_size, strict=True)]
        )
        return {**data, **{key: cut(data[key]) for key in self.key_iterator(data)}}

    def _voxel_of_a_structure(self, label: torch.Tensor) -> tuple[int, ...] | None:
        """Draw a voxel of a structure; None if there is only background."""
        places = label.flatten().nonzero()[:, 0]
        if not len(places):
            return None
        values = label.flatten()[places]
        shown = values.unique()
        places = places[values == shown[self.R.randint(len(shown))]]
        place = places[self.R.randint(len(places))]
        return tuple(int(index) for index in torch.unravel_index(place, label.shape))
