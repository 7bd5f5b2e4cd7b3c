"""Convolution blocks, attention gate, up-sampling and the grid node that UNet++ is made of, in 2-D and 3-D.

Nothing here knows how nodes are wired; that is `unetplusplus.py`.
"""

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer
from torch import nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

LayerName = str | tuple[str, dict[str, object]]  # a MONAI factory name, or the name with its arguments


class InstanceNorm(nn.modules.instancenorm._InstanceNorm):
    """Instance normalisation that also takes one voxel per channel (torch refuses it), where the result is the bias.

    A legal image can shrink to a single voxel at the coarsest level, so the network must define what happens there.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Accept any number of spatial axes: one class serves 2-D and 3-D."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `(B, C, *spatial)` per sample and channel; same shape and dtype."""
        return torch.instance_norm(
            input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
            torch.backends.cudnn.enabled,
        )


def mend_instance_norm(module: nn.Module) -> None:
    """Replace torch's instance norms below `module` by `InstanceNorm`, same parameters and buffers."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.instancenorm._InstanceNorm) and not isinstance(child, InstanceNorm):
            norm = InstanceNorm(
                child.num_features, child.eps, child.momentum or 0.0, child.affine, child.track_running_stats
            )
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            mend_instance_norm(child)


class PlainBlock(nn.Sequential):
    """The VGG block of the paper: two times convolution, normalisation, (dropout,) activation.

    Args:
        unit: arguments of MONAI's `Convolution` that both share, `spatial_dims` and `kernel_size` included.
        in_channels: channels of the input.
        out_channels: channels of the output.

    `(B, in_channels, *spatial)` to `(B, out_channels, *spatial)`. Source: Zhou et al. 2018, section 3.
    """

    def __init__(self, unit: dict[str, object], in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_0 = Convolution(in_channels=in_channels, out_channels=out_channels, **unit)
        self.conv_1 = Convolution(in_channels=out_channels, out_channels=out_channels, **unit)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (1x1 where the channels change), activation after the sum.

    Arguments and shapes as `PlainBlock`. Source: He et al. 2016, "Deep residual learning", figure 2.
    """

    def __init__(self, unit: dict[str, object], in_channels: int, out_channels: int) -> None:
        super().__init__()
        shortcut = {**unit, "kernel_size": 1, "act": None, "dropout": None}
        self.conv_0 = Convolution(in_channels=in_channels, out_channels=out_channels, **unit)
        self.conv_1 = Convolution(in_channels=out_channels, out_channels=out_channels, **{**unit, "act": None})
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else Convolution(in_channels=in_channels, out_channels=out_channels, **shortcut)
        )
        self.act = get_act_layer(unit["act"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, *spatial)` to `(B, out_channels, *spatial)`."""
        x = self.act(self.conv_1(self.conv_0(x)) + self.shortcut(x))
        return x


class PixelShuffle(nn.Module):
    """Up-sampling by a convolution to `prod(stride)` times the channels, whose values become the new voxels.

    As `torch.nn.PixelShuffle`, for 2 or 3 axes and a stride per axis. Source: Shi et al. 2016, arXiv 1609.05158.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = list(stride)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels * math.prod(stride), 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, *spatial)` to `(B, out_channels, *(spatial * stride))`."""
        x = self.conv(x)
        shape = list(x.shape)
        channels = shape[1]
        for factor in self.stride:
            channels = channels // factor
        split = [shape[0], channels] + self.stride + shape[2:]  # noqa: RUF005 - TorchScript has no unpacking
        dims = len(self.stride)
        order = [0, 1]
        merged = [shape[0], channels]
        for axis in range(dims):
            order += [2 + dims + axis, 2 + axis]  # voxel, then the new voxels inside it
            merged.append(shape[2 + axis] * self.stride[axis])
        return x.reshape(split).permute(order).reshape(merged)


def up_sampling(name: str, spatial_dims: int, in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Module:
    """Build the layer that brings `(B, in_channels, *spatial)` to `(B, out_channels, *(spatial * stride))`.

    Args:
        name: "deconv" (transposed convolution, kernel = stride), "interp" (linear, corners aligned, after a 1x1
            convolution where the channels change) or "pixelshuffle".
        spatial_dims: 2 or 3.
        in_channels: channels of the coarser node.
        out_channels: channels to give.
        stride: factor per axis.
    """
    if name == "pixelshuffle":
        return PixelShuffle(spatial_dims, in_channels, out_channels, stride)
    mode = {"deconv": "deconv", "interp": "nontrainable"}[name]
    up: nn.Module = UpSample(
        spatial_dims, in_channels, out_channels, tuple(stride), mode=mode, interp_mode="linear", align_corners=True
    )
    return up


class AttentionGate(nn.Module):
    """Additive attention of the up-sampled features on the skips of a node: one weight in 0..1 per voxel.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of all skips together.
        up_channels: channels of the up-sampled features, the gating signal.

    Source: Oktay et al. 2018, arXiv 1804.03999, equation 1; on nested skips: Li et al. 2020, "ANU-Net".
    """

    def __init__(self, spatial_dims: int, skip_channels: int, up_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        inner = max(up_channels // 2, 1)
        self.of_skips = conv(skip_channels, inner, 1, bias=False)
        self.of_up = conv(up_channels, inner, 1)
        self.psi = conv(inner, 1, 1)

    def forward(self, skips: list[torch.Tensor], up: torch.Tensor) -> list[torch.Tensor]:
        """Weigh `skips`, each `(B, C, *spatial)`, by what `up` `(B, up_channels, *spatial)` finds relevant."""
        joined = torch.cat(skips, 1)
        return [joined * torch.sigmoid(self.psi(torch.relu(self.of_skips(joined) + self.of_up(up))))]


class NoGate(nn.Module):
    """The plain UNet++: the skips pass as they are."""

    def forward(self, skips: list[torch.Tensor], up: torch.Tensor) -> list[torch.Tensor]:
        """Return `skips`."""
        return skips


class FloorPool(nn.Module):
    """Max-pooling without an incomplete last window, as MONAI's nets do; an axis shorter than its stride is padded.

    Args:
        spatial_dims: 2 or 3.
        stride: window and step per axis, voxels.
    """

    def __init__(self, spatial_dims: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = list(stride)
        self.pool = Pool[Pool.MAX, spatial_dims](tuple(stride), tuple(stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, *spatial)` to `(B, C, *max(spatial // stride, 1))`."""
        shape = [max(x.size(2 + axis), factor) for axis, factor in enumerate(self.stride)]
        x = self.pool(fit(x, shape))
        return x


def down_sampling(spatial_dims: int, stride: Sequence[int], *, ceil_mode: bool) -> nn.Module:
    """Build the max-pooling between two levels; with `ceil_mode` an incomplete last window counts (size 1 stays 1)."""
    if not ceil_mode:
        return FloorPool(spatial_dims, stride)
    pool: nn.Module = Pool[Pool.MAX, spatial_dims](tuple(stride), tuple(stride), ceil_mode=True)
    return pool


def fit(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Cut or edge-pad the far end of every axis of `x` `(B, C, *spatial)` to the spatial `shape`."""
    missing: list[int] = []  # (0, voxels) per axis, last axis first, as `pad` wants it
    for axis in range(len(shape), 0, -1):
        x = x.narrow(axis + 1, 0, min(x.size(axis + 1), shape[axis - 1]))
        missing += [0, shape[axis - 1] - x.size(axis + 1)]
    return pad(x, missing, mode="replicate") if max(missing) > 0 else x


def crop(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Cut the far end of every axis of `x` `(B, C, *spatial)` to the spatial shape of `like`."""
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 0, like.size(axis))
    return x


class Node(nn.Module):
    """One node x_i_j of the grid: re-sample the neighbour's features, join the skips of the row, convolve.

    Args:
        position: (i, j) = (row, column) = (resolution, 0 = finest; dense step, 0 = encoder).
        neighbour: name of the node that is re-sampled: x_{i+1}_{j-1}; x_{i-1}_0 if j = 0; "image" for x_0_0.
        resample: identity (x_0_0), max-pooling (x_i_0) or up-sampling (j > 0).
        gate: weighs the joined skips by the up-sampled features.
        block: the convolutions.
        ceil_mode: the re-sampled features are never smaller than the skips, so cutting is enough.
        checkpointing: in training, recompute the node in the backward pass instead of keeping its activations.
    """

    skips: list[str]

    def __init__(
        self,
        position: tuple[int, int],
        neighbour: str,
        resample: nn.Module,
        gate: nn.Module,
        block: nn.Module,
        *,
        ceil_mode: bool,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        row, column = position
        self.name = f"x_{row}_{column}"
        self.skips = [f"x_{row}_{k}" for k in range(column)]
        self.neighbour = neighbour
        self.depth = max(row + column, 1)  # the smallest depth that needs this node; x_0_0 belongs to depth 1
        self.ceil_mode, self.checkpointing = ceil_mode, checkpointing
        self.resample, self.gate, self.block = resample, gate, block

    def forward(self, skips: list[torch.Tensor], neighbour: torch.Tensor) -> torch.Tensor:
        """Compute x_i_j.

        Args:
            skips: x_i_0 ... x_i_{j-1}, each `(B, C_i, *spatial_i)`; empty for an encoder node.
            neighbour: the features to re-sample, `(B, C, *spatial)` of the neighbour's level.

        Returns:
            `(B, C_i, *spatial_i)`.
        """
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that TorchScript leaves `checkpoint` out
            if self.checkpointing and self.training:
                x: torch.Tensor = checkpoint(self._compute, skips, neighbour, use_reentrant=False)
                return x
        return self._compute(skips, neighbour)

    def _compute(self, skips: list[torch.Tensor], neighbour: torch.Tensor) -> torch.Tensor:
        x = self.resample(neighbour)
        if len(skips) > 0:
            x = crop(x, skips[0]) if self.ceil_mode else fit(x, list(skips[0].shape[2:]))
            x = torch.cat(self.gate(skips, x) + [x], 1)  # noqa: RUF005 - TorchScript has no unpacking
        y: torch.Tensor = self.block(x)
        return y
