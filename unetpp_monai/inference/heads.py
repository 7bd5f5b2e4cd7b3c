"""Label maps of every depth in one pass, for validation during training."""

from typing import Any

import torch
from monai.inferers import Inferer

from ..networks import UNetPlusPlus
from .depth import DepthInferer
from .slab import Windows


class HeadsInferer(Inferer):
    """Compute the label maps of all heads in one pass.

    Only the logits of some rows are in memory at a time.

    Args:
        inferer: how to apply the network; its depth is not used.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> network = UNetPlusPlus(2, 1, 2, [4, 8, 16]).eval()
        >>> HeadsInferer(DepthInferer(SimpleInferer()))(torch.zeros(1, 1, 8, 8), network).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, inferer: DepthInferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: Any, *args: object) -> torch.Tensor:
        """Map images `(B, in_channels, *spatial)` to label maps `(B, heads, *spatial)`, int32, shallowest head first.

        Other networks give one label map.
        """
        alone = network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network
        heads = 1

        def predictor(windows: torch.Tensor) -> Windows:
            nonlocal heads
            logits = alone.heads(windows) if isinstance(alone, UNetPlusPlus) else [alone(windows)]
            heads = len(logits)
            return Windows(torch.cat(logits, 1))

        maps = []
        for image in inputs:
            slabs = [
                slab.logits.unflatten(0, (heads, -1)).argmax(1) for slab in self.inferer.slabs(image[None], predictor)
            ]
            maps.append(torch.cat(slabs, 1).int())
        return torch.stack(maps)
