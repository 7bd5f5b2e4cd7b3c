"""Test-time augmentation by mirroring."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations

import torch

Predictor = Callable[[torch.Tensor], torch.Tensor]  # windows to logits


class Mirrored:
    """Average the logits of a window and its mirror images: 2 ** len(axes) passes.

    Args:
        predictor: windows `(B, in_channels, *spatial)` to logits `(B, out_channels, *spatial)`.
        axes: spatial axes (0 = first) that may be mirrored, each alone and together; those of the training.
    """

    def __init__(self, predictor: Predictor, axes: Sequence[int]) -> None:
        self.predictor = predictor
        dims = [axis + 2 for axis in axes]
        self.flips = list(chain.from_iterable(combinations(dims, count) for count in range(len(dims) + 1)))

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the mean logits."""
        total = self.predictor(windows)
        for flip in self.flips[1:]:
            total = total + self.predictor(windows.flip(flip)).flip(flip)
        return total / len(self.flips)
