"""Connected components of a mask."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def largest_component(mask: NDArray[np.bool_], marked: NDArray[np.int64] | None = None) -> torch.Tensor:
    """Return the largest component of a mask `(*spatial)`, and those with a marked voxel.

    Args:
        mask: of an empty one, an empty one is returned; of equal components, the first counts.
        marked: voxels `(N, axes)`; None: no voxel.
    """
    image, sizes = _numbered(mask)
    numbers = _view(image)
    kept = {int(sizes.argmax()) + 1} if len(sizes) else set()
    if marked is not None:
        kept |= set(numbers[tuple(marked.T)].tolist()) - {0}
    found = np.zeros(mask.shape, bool)
    for number in kept:
        found |= numbers == number
    return torch.from_numpy(found)


def components(mask: NDArray[np.bool_], count: int) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """Return up to `count` largest components of a mask `(*spatial)`, and their voxel counts.

    Equal ones keep their order.
    """
    image, sizes = _numbered(mask)
    numbers = _view(image)
    order = np.argsort(-sizes, kind="stable")
    return [numbers == number + 1 for number in order[:count]], sizes[order].tolist()


def _numbered(mask: NDArray[np.bool_]) -> tuple[Any, NDArray[np.int64]]:
    """Number the components of a mask from 1 in an image of SimpleITK, and count their voxels."""
    import SimpleITK

    image = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    return image, np.bincount(_view(image).ravel())[1:]


def _view(image: Any) -> NDArray[np.uint32]:
    """Return the voxels of an image of SimpleITK without a copy, as long as the image exists."""
    import SimpleITK

    view: NDArray[np.uint32] = SimpleITK.GetArrayViewFromImage(image)
    return view
