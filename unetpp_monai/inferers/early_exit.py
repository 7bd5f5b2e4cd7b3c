"""Windows that are easy stop early; the others go on with everything that is already computed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from monai.data.utils import compute_importance_map

AIR = 10.0  # background logit of a window that is not computed, the other logits being 0: p = 0.9999 for 2 labels


class EarlyExit:
    """Evaluate each window of a batch only as deep as it needs; called as the network is.

    After every depth, a window's doubt is the mean over its voxels of 1 - max probability: the share of voxels that the
    head itself expects to have wrong, weighted as stitching weighs them. A window stops as soon as its doubt is below
    the threshold. A window in which every channel is constant (padding, air) is background and never computed.

    Args:
        network: with `step`, `depth` and `first_head` as `UNetPlusPlus` has them, and a head at each depth.
        threshold: of the doubt, 0 ... 1; with 0 every window goes all the way.

    Attributes:
        counts: depth -> how many windows stopped there; depth 0 = not computed.
    """

    def __init__(self, network: Any, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"an exit threshold must be from 0 to 1, got {threshold}")
        self.network, self.threshold = network, threshold
        self.counts: Counter[int] = Counter()
        self._maps: dict[tuple[tuple[int, ...], torch.device], torch.Tensor] = {}

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Map windows `(B, in_channels, *spatial)` to logits `(B, out_channels, *spatial)` of their own depths."""
        flat = windows.flatten(2)
        active = (flat.amax(2) != flat.amin(2)).any(1).nonzero().flatten()  # windows still computed, indices
        self.counts[0] += len(windows) - len(active)
        logits = windows.new_zeros(len(windows), self.network.out_channels, *windows.shape[2:], dtype=torch.float32)
        logits[:, 0] = AIR
        grid = {"image": windows[active]}
        for depth in range(1, self.network.depth + 1):
            if not len(active):
                break
            found = self.network.step(grid, depth)
            grid.pop("image", None)
            last = depth == self.network.depth
            stop = torch.ones(len(active), dtype=torch.bool) if last else self.doubt(found).cpu() < self.threshold
            logits[active[stop]] = found[stop].float()
            self.counts[depth] += int(stop.sum())
            if stop.any():
                active = active[~stop]
                grid = {name: features[~stop] for name, features in grid.items()}
        return logits

    def doubt(self, logits: torch.Tensor) -> torch.Tensor:
        """Expected share of wrong voxels `(B,)` of logits `(B, out_channels, *spatial)`, by the head itself."""
        unsure = 1 - logits.float().softmax(1).amax(1)
        weights = self._weights(logits.shape[2:], logits.device)
        return (unsure * weights).flatten(1).sum(1) / weights.sum()

    def _weights(self, shape: Sequence[int], device: torch.device) -> torch.Tensor:
        key = (tuple(shape), device)
        if key not in self._maps:
            self._maps[key] = compute_importance_map(tuple(shape), mode="gaussian", device=device)
        return self._maps[key]
