"""Channels of prompts behind those of the image: a network takes images with them and without."""

import torch
from torch import nn


class LeadingConv(nn.modules.conv._ConvNd):
    """A convolution that also takes fewer channels than it has kernels for: those that are left out would be zero.

    So an image without prompts gives, bit for bit, what a network without prompt channels gives.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, *spatial)`, C at most `in_channels`, to `(B, out_channels, *spatial)`."""
        weight = self.weight[:, : x.size(1)].contiguous()
        y: torch.Tensor = self._conv_forward(x, weight, self.bias)
        return y


class LeadingConv2d(LeadingConv, nn.Conv2d):
    """In two dimensions."""


class LeadingConv3d(LeadingConv, nn.Conv3d):
    """In three dimensions."""


def take_leading_channels(module: nn.Module) -> None:
    """Let the convolutions below `module` take fewer channels than they have kernels for; parameters stay theirs.

    Raises:
        ValueError: a block that adds its input to its result, which leaves no channel out.
    """
    if isinstance(getattr(module, "shortcut", None), nn.Identity):
        raise ValueError("a residual block must not take as many image and prompt channels together as it gives")
    for child in module.modules():
        if type(child) in (nn.Conv2d, nn.Conv3d):
            child.__class__ = LeadingConv2d if isinstance(child, nn.Conv2d) else LeadingConv3d
