"""Test-time augmentation by mirroring."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations

import torch

from ..errors import InputError
from .slab import Windows


class Mirrored:
    """Average predictions of a window and its mirror images.

    This takes 2 ** len(axes) passes.

    Args:
        predictor: called with windows `(B, in_channels, *spatial)`.
        axes: spatial axes (0 = first) to mirror, in all combinations; as in training.

    Example:
        >>> Mirrored(Windows, [0, 1])(torch.ones(1, 1, 2, 2)).logits.sum()
        tensor(4.)
    """

    def __init__(self, predictor: Callable[[torch.Tensor], Windows], axes: Sequence[int]) -> None:
        self.predictor = predictor
        dims = [axis + 2 for axis in axes]
        self.flips = list(chain.from_iterable(combinations(dims, count) for count in range(len(dims) + 1)))

    def __call__(self, windows: torch.Tensor) -> Windows:
        """Return the mean logits, and the mean maps if there are any."""
        sums = self.predictor(windows).layers
        for flip in self.flips[1:]:
            layers = self.predictor(windows.flip(flip)).layers
            sums = tuple(total + layer.flip(flip) for total, layer in zip(sums, layers, strict=True))
        return Windows(*(total / len(self.flips) for total in sums))


def checked_axes(axes: Sequence[int], dims: int) -> tuple[int, ...]:
    """Return axes to mirror in ascending order, each once.

    Raises:
        InputError: one is not of the `dims` axes.

    Example:
        >>> checked_axes([2, 0, 2], 3)
        (0, 2)
    """
    if not set(axes) <= set(range(dims)):
        allowed = ", ".join(map(str, range(dims)))
        raise InputError(f"axes to mirror must be of {allowed}, got {', '.join(map(str, axes))}")
    return tuple(sorted(set(axes)))
