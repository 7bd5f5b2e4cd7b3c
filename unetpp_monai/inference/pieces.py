"""Connected pieces of a mask."""

import numpy as np
import torch
from numpy.typing import NDArray


def largest_component(mask: NDArray[np.bool_]) -> torch.Tensor:
    """The largest connected piece of a mask `(*spatial)`; the first of equal ones, nothing of nothing."""
    import SimpleITK

    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    numbers = SimpleITK.GetArrayViewFromImage(pieces)
    sizes = np.bincount(numbers.ravel())
    return torch.from_numpy(numbers == sizes[1:].argmax() + 1 if len(sizes) > 1 else np.zeros_like(mask))


def components(mask: NDArray[np.bool_], count: int) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """The largest connected pieces of a mask `(*spatial)`, at most so many, and how many voxels each piece has."""
    import SimpleITK

    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    numbers = SimpleITK.GetArrayFromImage(SimpleITK.RelabelComponent(pieces))  # the largest is 1
    sizes = np.bincount(numbers.ravel())[1:].tolist()
    return [numbers == number for number in range(1, min(count, len(sizes)) + 1)], sizes
