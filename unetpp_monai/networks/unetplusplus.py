"""The nested grid of UNet++: which nodes exist, how they are wired, and how far the grid is evaluated.

Source: Zhou et al. 2018, arXiv 1807.10165, and 2020, arXiv 1912.05074.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer
from torch import nn

from .blocks import (
    AttentionGate,
    LayerName,
    Node,
    NoGate,
    PlainBlock,
    ResidualBlock,
    down_sampling,
    mend_instance_norm,
    up_sampling,
)
from .node_names import depth_of, evaluated_depth
from .options import PerLevel, choice, depth_within, odd, per_level, positive, widths
from .prompts import take_leading_channels

BLOCKS = {"plain": PlainBlock, "residual": ResidualBlock}
UPSAMPLE = ("deconv", "interp", "pixelshuffle")


class UNetPlusPlus(nn.Module):
    """UNet++ in 2-D or 3-D, built and evaluated by anti-diagonals.

    Row i is a resolution, column j a dense step, L = `len(features) - 1`. Depth d needs the nodes with i + j <= d::

        x_0_0   x_0_1   x_0_2   x_0_3      depth 1 = x_0_0, x_1_0, x_0_1
        x_1_0   x_1_1   x_1_2              depth 2 adds x_2_0, x_1_1, x_0_2
        x_2_0   x_2_1                      depth 3 adds x_3_0, x_2_1, x_1_2, x_0_3
        x_3_0

        x_i_0 = block(pool(x_{i-1}_0))     x_i_j = block(concat(x_i_0 ... x_i_{j-1}, up(x_{i+1}_{j-1})))

    A 1x1 head on each x_0_d, d >= 1, gives that depth's logits. So depth d is a strict prefix of depth d + 1.

    Any spatial shape is legal: pooling keeps an incomplete last window and up-sampled features are cut to the row's
    shape, so results do not depend on how deep the grid is evaluated.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits, background included.
        features: channels per level, finest first; at least two levels.
        depth: how many anti-diagonals to build, 1 ... L; None = L.
        kernel_size: odd size of the convolutions in voxels, one number or one entry (number or per axis) per level.
        strides: factor between level i and i + 1, one number or one entry (number or per axis) per step.
        block: "plain" (VGG, as in the paper) or "residual".
        norm: MONAI normalisation name, or (name, arguments).
        act: MONAI activation name, or (name, arguments).
        dropout: probability 0 <= p < 1 in each convolution unit, or MONAI (name, arguments).
        bias: whether convolutions have a bias.
        upsample: "deconv", "interp" or "pixelshuffle".
        up_features: channels after up-sampling into row i, finest first, L entries; None = `features[:-1]`.
        last_features: channels of x_0_L; None = `features[0]`.
        attention: attention gates on the skips.
        ceil_mode: see above; False drops incomplete windows and edge-pads instead, as MONAI's nets do.
        deep_supervision: in training, return the logits of all heads.
        final_head_only: build no head but the last; then no smaller depth can be chosen.
        checkpointing: in training, trade time for memory (with batch norm, running statistics move twice a step).
        prompt_channels: maps of prompts that images may have behind their channels; without them: all 0.
        seed: of the initial weights: He normal (He et al. 2015) for convolutions, zero biases, own generator.

    Raises:
        ValueError: an argument is out of its range, or arguments do not fit each other.

    Example:
        >>> UNetPlusPlus(2, 1, 3, features=(8, 16, 32)).depth
        2
    """

    def __init__(  # noqa: PLR0913 - a network is its list of choices
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        *,
        depth: int | None = None,
        kernel_size: PerLevel = 3,
        strides: PerLevel = 2,
        block: str = "plain",
        norm: LayerName = ("instance", {"affine": True}),
        act: LayerName = ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
        dropout: float | LayerName = 0.0,
        bias: bool = True,
        upsample: str = "deconv",
        up_features: Sequence[int] | None = None,
        last_features: int | None = None,
        attention: bool = False,
        ceil_mode: bool = True,
        deep_supervision: bool = True,
        final_head_only: bool = False,
        checkpointing: bool = False,
        prompt_channels: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        choice("spatial_dims", spatial_dims, (2, 3))
        choice("block", block, tuple(BLOCKS))
        choice("upsample", upsample, UPSAMPLE)
        self.features = widths("features", features)
        steps = len(self.features) - 1
        self.up_features = widths("up_features", self.features[:-1] if up_features is None else up_features, steps)
        self.last_features = positive("last_features", self.features[0] if last_features is None else last_features)
        self.kernels = odd("kernel_size", kernel_size, spatial_dims, len(self.features))
        self.strides = per_level("strides", strides, spatial_dims, steps)
        self.depth = depth_within(depth, 1, steps)
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        self.prompt_channels = 0 if prompt_channels == 0 else positive("prompt_channels", prompt_channels)
        if isinstance(dropout, float | int) and not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a probability with 0 <= p < 1, got {dropout}")
        if final_head_only and deep_supervision:
            raise ValueError("deep_supervision needs every head, got final_head_only=True; set one of them to False")
        self.spatial_dims, self.deep_supervision = spatial_dims, deep_supervision
        self.block, self.upsample, self.attention = block, upsample, attention
        self.ceil_mode, self.checkpointing = ceil_mode, checkpointing
        self.first_head = self.depth if final_head_only else 1  # the smallest depth that has a head

        unit: dict[str, object] = {"norm": norm, "act": act, "dropout": dropout, "bias": bias}
        unit["spatial_dims"] = spatial_dims
        with torch.random.fork_rng(devices=[]):  # building leaves the caller's random numbers alone
            self.nodes = nn.ModuleDict({"x_0_0": self._node(0, 0, unit)})
            for d in range(1, self.depth + 1):
                self.nodes.update({f"x_{d - j}_{j}": self._node(d - j, j, unit) for j in range(d + 1)})
            self.outputs = nn.ModuleDict()
            for d in range(self.first_head, self.depth + 1):
                self.outputs[f"x_0_{d}"] = Conv[Conv.CONV, spatial_dims](self.width(0, d), out_channels, 1)
        mend_instance_norm(self)
        self.initialise(seed, getattr(get_act_layer(act), "negative_slope", 0.0))

    def _node(self, i: int, j: int, unit: dict[str, object]) -> Node:
        """Build x_i_j; `unit` holds what all its convolutions share."""
        gate: nn.Module = NoGate()
        if j > 0:
            neighbour, skips, up = f"x_{i + 1}_{j - 1}", self.features[i] * j, self.up_features[i]
            channels = skips + up
            resample = up_sampling(self.upsample, self.spatial_dims, self.features[i + 1], up, self.strides[i])
            gate = AttentionGate(self.spatial_dims, skips, up) if self.attention else gate
        elif i > 0:
            neighbour, channels = f"x_{i - 1}_0", self.features[i - 1]
            resample = down_sampling(self.spatial_dims, self.strides[i - 1], ceil_mode=self.ceil_mode)
        else:
            neighbour, channels, resample = "image", self.in_channels + self.prompt_channels, nn.Identity()
        block = BLOCKS[self.block]({**unit, "kernel_size": self.kernels[i]}, channels, self.width(i, j))
        if neighbour == "image" and self.prompt_channels > 0:
            take_leading_channels(block)
        modes = {"ceil_mode": self.ceil_mode, "checkpointing": self.checkpointing}
        return Node((i, j), neighbour, resample, gate, block, **modes)

    def width(self, row: int, column: int) -> int:
        """Channels of node x_row_column."""
        return self.last_features if (row, column) == (0, len(self.features) - 1) else self.features[row]

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Segment a batch.

        Args:
            x: images `(B, in_channels [+ prompt_channels], *spatial)`, any spatial shape >= 1 voxel per axis, float.
            depth: how many anti-diagonals to evaluate, 1 ... the depth built; None = all. Deeper ones are not computed.

        Returns:
            Logits `(B, out_channels, *spatial)`, of the head of that depth. In training with deep supervision, a list
            of the logits of all heads up to that depth, final head first (not in TorchScript: always one Tensor).

        Raises:
            ValueError: wrong number of axes or channels, or a depth that was not built.
        """
        last = self.check(x, depth)
        grid = {"image": x}
        for d in range(1, last + 1):
            self.grow(grid, d)
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that TorchScript leaves the list out of its types
            if self.training and self.deep_supervision:
                return [self.head(grid, d) for d in range(last, 0, -1)]  # type: ignore[return-value]
        return self.head(grid, last)

    def grow(self, grid: dict[str, torch.Tensor], depth: int) -> None:
        """Add the nodes of anti-diagonal `depth` to `grid`, which holds the image and all shallower nodes."""
        for node in self.nodes.values():
            if node.depth == depth:
                skips = [grid[skip] for skip in node.skips]  # type: ignore
                grid[node.name] = node(skips, grid[node.neighbour])  # type: ignore

    def head(self, grid: dict[str, torch.Tensor], depth: int) -> torch.Tensor:
        """Logits `(B, out_channels, *spatial)` of the head on x_0_depth."""
        x = grid[f"x_0_{depth}"]
        for d, output in enumerate(self.outputs.values(), self.first_head):
            if d == depth:
                x = output(x)
        return x

    def step(self, grid: dict[str, torch.Tensor], depth: int, *, last: bool = False) -> torch.Tensor:
        """Add the anti-diagonals up to `depth` to `grid`; return the logits `(B, out_channels, *spatial)` of its head.

        Args:
            grid: the image under "image" before the first step; features by node name. Between two steps every entry
                may be cut to some of the batch, which then go on alone.
            depth: deeper than that of the step before.
            last: no further step follows; runtimes then keep the features to themselves.
        """
        for d in range(evaluated_depth(grid) + 1, depth + 1):
            self.grow(grid, d)
        return self.head(grid, depth)

    def anytime(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the logits of depth 1, 2, ... as they come; each step computes only its own anti-diagonal.

        Args:
            x: images `(B, in_channels, *spatial)`.

        Yields:
            Logits `(B, out_channels, *spatial)`; stop asking and nothing deeper is computed.
        """
        last = self.check(x, None)
        grid = {"image": x}
        for d in range(1, last + 1):
            self.grow(grid, d)
            if d >= self.first_head:
                yield self.head(grid, d)

    def heads(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits `(B, out_channels, *spatial)` of every head in one pass, shallowest first: entry d - 1 is depth d."""
        return list(self.anytime(x))

    def prune(self, depth: int) -> "UNetPlusPlus":
        """Copy the network without the nodes deeper than `depth`: same logits, fewer nodes (Zhou et al. 2018, 3.3).

        Raises:
            ValueError: no head at that depth.
        """
        pruned = copy.copy(self)
        pruned.depth = depth_within(depth, self.first_head, self.depth)
        pruned._modules = {}
        for part, modules in (("nodes", self.nodes), ("outputs", self.outputs)):
            kept = {name: module for name, module in modules.items() if depth_of(name) <= depth}
            pruned.add_module(part, nn.ModuleDict(kept))
        return copy.deepcopy(pruned)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights as torch does, but refuse missing ones even where not `strict`: MONAI Label would only warn.

        Raises:
            RuntimeError: weights of another network.
        """
        if not strict and (missing := sorted(self.state_dict().keys() - state_dict.keys())):
            raise RuntimeError(f"weights must hold every parameter, got none for {len(missing)}, such as {missing[0]}")
        return super().load_state_dict(state_dict, strict, assign)

    def check(self, x: torch.Tensor, depth: int | None) -> int:
        """Return the depth to evaluate; raise ValueError for a batch or depth that does not fit the network."""
        last = self.depth if depth is None else depth
        if last < self.first_head or last > self.depth:
            raise ValueError(f"depth must be from {self.first_head} to {self.depth}, got {last}")
        known = [self.in_channels, self.in_channels + self.prompt_channels]
        if not torch.jit.is_tracing() and (x.dim() != self.spatial_dims + 2 or x.size(1) not in known):
            raise ValueError(
                f"images must be (B, {self.in_channels}, + {self.spatial_dims} spatial axes), got {list(x.shape)}"
            )
        return last

    @torch.no_grad()
    def initialise(self, seed: int, slope: float) -> None:
        """Draw He-normal weights (He et al. 2015, equation 14) and zero the biases of every convolution.

        Args:
            seed: of the generator; the global random state is neither read nor changed.
            slope: negative slope of the activation (0 = ReLU).
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            # on the meta device there is nothing to draw, but torch would import its compiler to see that
            if isinstance(module, nn.modules.conv._ConvNd) and not module.weight.is_meta:
                # the kernel of a transposed convolution is its stride: an output voxel sees each input channel once
                fan_in = module.weight.shape[0] if module.transposed else module.weight[0].numel()
                module.weight.normal_(0.0, math.sqrt(2.0 / ((1.0 + slope**2) * fan_in)), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
