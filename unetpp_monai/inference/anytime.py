"""What inferers ask of a network that can be evaluated to any depth."""

from typing import Protocol

import torch


class AnytimeNetwork(Protocol):
    """A network of anti-diagonals: `networks.UNetPlusPlus`, and `runtimes.Backend` around one."""

    @property
    def depth(self) -> int:
        """The deepest that can be evaluated."""

    @property
    def first_head(self) -> int:
        """The smallest depth that has a head; 1 = every depth has one."""

    @property
    def out_channels(self) -> int:
        """Channels of the logits, background included."""

    def __call__(self, images: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Map images `(B, in_channels, *spatial)` to logits `(B, out_channels, *spatial)`; None = the deepest."""

    def step(self, grid: dict[str, torch.Tensor], depth: int, *, last: bool = False) -> torch.Tensor:
        """Go on to a depth, from the image or the features in `grid`; see `UNetPlusPlus.step`."""
