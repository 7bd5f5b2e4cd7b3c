"""Connected pieces of a mask."""

import numpy as np
import torch
from numpy.typing import NDArray


def largest_component(mask: NDArray[np.bool_]) -> torch.Tensor:
    """The largest connected piece of a mask `(*spatial)`; the first of equal ones, nothing of nothing."""
    pieces, _ = components(mask, 1)
    return torch.from_numpy(pieces[0] if pieces else np.zeros_like(mask))


def components(mask: NDArray[np.bool_], count: int) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """The largest connected pieces of a mask `(*spatial)`, at most so many, and how many voxels each piece has.

    Of equal ones the first comes first.
    """
    import SimpleITK

    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    numbers = SimpleITK.GetArrayViewFromImage(pieces)
    sizes = np.bincount(numbers.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    return [numbers == number + 1 for number in order[:count]], sizes[order].tolist()
