"""Check that label maps match their images."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.config import KeysCollection
from monai.data import MetaTensor

from ..errors import GeometryError, InputError
from ..volume import Volume
from ..words import counted

GRID_TOLERANCE = 0.1  # most distance in voxels between corners of image and label, for rounded headers


class CheckLabelsd(transforms.MapTransform):
    """Check that a label map has its image's grid and the task's values; changes nothing.

    Args:
        keys: of the label map `(1, *spatial)`.
        image_key: of the image `(C, *spatial)`.
        in_channels: of the images.
        out_channels: number of labels, including the background.
        label_values: values of the labels 0, 1, 2, ... in the file; empty: the same.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str,
        *,
        in_channels: int,
        out_channels: int,
        label_values: Sequence[int] = (),
    ) -> None:
        super().__init__(keys)
        self.image_key, self.in_channels = image_key, in_channels
        self.values = tuple(label_values or range(out_channels))

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Check every label map.

        Raises:
            InputError: wrong channels or values; GeometryError: another grid. Both name the file.
        """
        image = data[self.image_key]
        name = _name(image)
        if len(image) != self.in_channels:
            raise InputError(
                f"images must have {counted(self.in_channels, 'channel')} (in_channels), got {len(image)} in {name}"
            )
        for key in self.key_iterator(data):
            self._check(image, data[key], f"{_name(data[key])}, the label of {name}")
        return data

    def _check(self, image: MetaTensor, label: MetaTensor, name: str) -> None:
        if len(label) != 1:
            raise InputError(f"a label map must have 1 channel, got {len(label)} in {name}")
        if label.shape[1:] != image.shape[1:]:
            raise GeometryError(
                f"a label map must be on the grid of its image, {tuple(image.shape[1:])} voxels, got "
                f"{tuple(label.shape[1:])} in {name}"
            )
        off = _volume(image).grid_distance(_volume(label))
        if off > GRID_TOLERANCE:
            raise GeometryError(
                f"a label map must be where its image is, got a corner {off:.3g} voxels away in {name}; one of "
                "them was shifted, mirrored or saved with another header"
            )
        found = torch.unique(label.as_tensor()).tolist()
        if unknown := [value for value in found if value not in self.values]:
            raise InputError(
                f"labels must be of {', '.join(f'{value:g}' for value in self.values[:20])}, got "
                f"{', '.join(f'{value:g}' for value in unknown[:5])} in {name}; correct it, or state label_values"
            )


def _volume(image: MetaTensor) -> Volume:
    """Return the grid of an image `(C, X, Y[, Z])`."""
    shape = (*image.shape[1:], *[1] * (4 - image.dim()))
    affine = np.eye(4)
    given = image.affine.cpu().numpy()
    affine[: len(given), : len(given)] = given
    return Volume(np.broadcast_to(np.uint8(0), (1, *shape)), affine)


def _name(image: Any) -> str:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    return Path(str(meta.get("filename_or_obj", "an image"))).name
