"""Connected components of a mask."""

import numpy as np
import torch
from numpy.typing import NDArray


def largest_component(mask: NDArray[np.bool_]) -> torch.Tensor:
    """Return the largest component of a mask `(*spatial)`; the first of equals; empty if empty."""
    pieces, _ = components(mask, 1)
    return torch.from_numpy(pieces[0] if pieces else np.zeros_like(mask))


def components(mask: NDArray[np.bool_], count: int) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """Return up to `count` largest components of a mask `(*spatial)`, and their voxel counts.

    Equal ones keep their order.
    """
    import SimpleITK

    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    numbers = SimpleITK.GetArrayViewFromImage(pieces)
    sizes = np.bincount(numbers.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    return [numbers == number + 1 for number in order[:count]], sizes[order].tolist()
