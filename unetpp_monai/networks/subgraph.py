"""Anti-diagonals of UNet++ as a module of their own, for runtimes that compile a fixed graph of tensors."""

import torch
from torch import nn

from .node_names import depth_of
from .unetplusplus import UNetPlusPlus


class Subgraph(nn.Module):
    """Compute some anti-diagonals and the head of the last.

    Takes features of the shallower nodes, gives logits and new features.

    Args:
        network: whose parts to take, shared and not copied.
        start: depth that is there already; 0 = only the image.
        depth: of the last anti-diagonal.
        last: give the logits only.

    Example:
        >>> first = Subgraph(UNetPlusPlus(2, 1, 2, [4, 8]).eval(), 0, 1, last=True)
        >>> first(torch.zeros(1, 1, 8, 8))[0].shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, network: UNetPlusPlus, start: int, depth: int, *, last: bool) -> None:
        super().__init__()
        self.depth = depth
        depths = {name: depth_of(name) for name in network.nodes}
        self.nodes = nn.ModuleDict(
            {name: node for name, node in network.nodes.items() if start < depths[name] <= depth}
        )
        self.output = network.outputs[f"x_0_{depth}"]
        shallower = [name for name in network.nodes if depths[name] <= start]
        self.inputs = shallower or ["image"]  # names, in the order of the arguments
        self.features = [] if last else list(self.nodes)  # names, in the order of the results after the logits

    def forward(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits `(B, out_channels, *spatial)`, then the new nodes' features in the order of `features`.

        Args:
            features: `(B, C_i, *spatial_i)` of the nodes `inputs` names.
        """
        grid = dict(zip(self.inputs, features, strict=True))
        for name, node in self.nodes.items():
            grid[name] = node([grid[skip] for skip in node.skips], grid[node.neighbour])  # type: ignore
        return self.output(grid[f"x_0_{self.depth}"]), *(grid[name] for name in self.features)
