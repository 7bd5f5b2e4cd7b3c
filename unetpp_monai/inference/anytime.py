"""Interface of networks that can be evaluated at any depth."""

from typing import Protocol

import torch


class AnytimeNetwork(Protocol):
    """A network of anti-diagonals: `networks.UNetPlusPlus`, and `runtimes.Backend` around one.

    Example:
        >>> from unetpp_monai import UNetPlusPlus
        >>> network: AnytimeNetwork = UNetPlusPlus(2, 1, 3, features=(4, 8, 16)).eval()
        >>> network(torch.zeros(1, 1, 16, 16), depth=1).shape  # (B, out_channels, X, Y)
        torch.Size([1, 3, 16, 16])
    """

    @property
    def depth(self) -> int:
        """Largest depth."""

    @property
    def first_head(self) -> int:
        """Smallest depth with a head; 1: every depth has one."""

    @property
    def out_channels(self) -> int:
        """Channels of the logits, including the background."""

    def __call__(self, images: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Map images `(B, in_channels, *spatial)` to logits `(B, out_channels, *spatial)`; None = the deepest."""

    def step(self, grid: dict[str, torch.Tensor], depth: int, *, last: bool = False) -> torch.Tensor:
        """Evaluate up to a depth, from the image or features in `grid`; see `UNetPlusPlus.step`."""
