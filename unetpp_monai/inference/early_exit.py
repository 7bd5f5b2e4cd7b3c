"""Evaluate head by head: easy windows stop early, and disagreement of heads gives uncertainty."""

from collections import Counter
from collections.abc import Sequence

import torch

from .anytime import AnytimeNetwork
from .slab import UNCERTAINTIES, Windows
from .sliding_window import stitching_weights

BACKGROUND_LOGIT = 10.0  # of a constant window, which is skipped; other logits are 0: p = 0.9999 for 2 labels


class EarlyExit:
    """Evaluate each window only as deep as it needs.

    A window's expected error is the mean of 1 - max softmax over its voxels, with the weights of stitching. A window
    stops as soon as its expected error is below the threshold of its depth.

    Args:
        network: with a head at every depth.
        thresholds: of the expected error, 0 to 1, depth 1 first; without one, or with 0, every window continues; with 1
            none does. Thresholds of missing depths are ignored.
        depth: largest depth; None: all.
        air: treat windows with constant channels (padding, air) as background without computing them.
        uncertainty: also return `UNCERTAINTIES` over the heads: the entropy of their mean probabilities, and their
            disagreement (Jensen-Shannon divergence), both divided by log(labels).

    Raises:
        ValueError: a threshold out of range, or a depth without head.

    Attributes:
        counts: depth -> number of windows that stopped there; depth 0: not computed.

    Example:
        >>> from unetpp_monai.networks import UNetPlusPlus
        >>> early = EarlyExit(UNetPlusPlus(2, 1, 2, [4, 8, 16]).eval(), [1.0])
        >>> early(torch.rand(3, 1, 8, 8)).logits.shape, early.counts[1]
        (torch.Size([3, 2, 8, 8]), 3)
    """

    def __init__(
        self,
        network: AnytimeNetwork,
        thresholds: Sequence[float] = (),
        *,
        depth: int | None = None,
        air: bool = True,
        uncertainty: bool = False,
    ) -> None:
        if network.first_head > 1:
            raise ValueError(f"a head must be at every depth, got a network whose first is at {network.first_head}")
        if not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError(f"exit thresholds must be from 0 to 1, got {list(thresholds)}")
        self.network, self.air, self.uncertainty = network, air, uncertainty
        self.thresholds = {stop: threshold for stop, threshold in enumerate(thresholds, 1) if threshold > 0}
        ends = [stop for stop, threshold in self.thresholds.items() if threshold == 1]  # of every window
        self.depth: int = min([network.depth if depth is None else depth, *ends])
        self.stops = [
            stop for stop in range(1, self.depth + 1) if uncertainty or stop in self.thresholds or stop == self.depth
        ]
        self.counts: Counter[int] = Counter()

    def __call__(self, windows: torch.Tensor) -> Windows:
        """Map windows `(B, in_channels, *spatial)` to logits, and maps if requested, each at its depth."""
        flat = windows.flatten(2)
        computed = (
            (flat.amax(2) != flat.amin(2)).any(1) if self.air else torch.ones_like(flat[:, 0, 0], dtype=torch.bool)
        )
        active = computed.nonzero().flatten()  # indices of windows that continue
        self.counts[0] += len(windows) - len(active)
        channels = [self.network.out_channels, *([len(UNCERTAINTIES)] if self.uncertainty else [])]
        layers = [windows.new_zeros(len(windows), n, *windows.shape[2:], dtype=torch.float32) for n in channels]
        layers[0][:, 0] = BACKGROUND_LOGIT
        grid, sums = {"image": windows[active]}, HeadSums()
        for depth in self.stops:
            if not len(active):
                break
            logits = self.network.step(grid, depth, last=depth == self.depth).float()
            grid.pop("image", None)
            found = [logits, *([sums.add(logits)] if self.uncertainty else [])]
            stop = self._decided(logits, depth)
            for layer, part in zip(layers, found, strict=True):
                layer[active[stop]] = part[stop]
            self.counts[depth] += int(stop.sum())
            if stop.any():
                active = active[~stop]
                grid = {name: features[~stop] for name, features in grid.items()}
                sums.keep(~stop)
        return Windows(*layers)

    def _decided(self, logits: torch.Tensor, depth: int) -> torch.Tensor:
        """Tell which windows `(B,)` stop at a depth."""
        if depth == self.depth or depth not in self.thresholds:
            return torch.full((len(logits),), depth == self.depth, device=logits.device)
        return expected_error(logits) < self.thresholds[depth]


def expected_error(logits: torch.Tensor) -> torch.Tensor:
    """Estimate the fraction of wrong voxels in each window.

    Args:
        logits: `(B, out_channels, *spatial)`.

    Returns:
        `(B,)`: mean of 1 - max softmax, by the head itself.

    Example:
        >>> expected_error(torch.zeros(1, 2, 8, 8))
        tensor([0.5000])
    """
    unsure = 1 - logits.float().softmax(1).amax(1)
    shape = tuple(logits.shape[2:])
    weights = stitching_weights(shape, "gaussian", (0.125,) * len(shape), logits.device)
    return (unsure * weights).flatten(1).sum(1) / weights.sum()


class HeadSums:
    """Sums over the heads so far: probabilities `(B, out_channels, *spatial)`, entropy `(B, 1, *spatial)`."""

    def __init__(self) -> None:
        self.probabilities: torch.Tensor | None = None
        self.entropy: torch.Tensor | None = None
        self.heads = 0

    def add(self, logits: torch.Tensor) -> torch.Tensor:
        """Add a head; return entropy of the mean, and disagreement, `(B, 2, *spatial)`, 0 ... 1."""
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        entropy = -(p * log_p).sum(1, keepdim=True)
        self.heads += 1
        self.probabilities = p if self.probabilities is None else self.probabilities + p
        self.entropy = entropy if self.entropy is None else self.entropy + entropy
        mean = self.probabilities / self.heads
        total = -torch.special.xlogy(mean, mean).sum(1, keepdim=True)
        maps = torch.cat([total, total - self.entropy / self.heads], 1)
        return maps.clamp_min(0) / torch.log(torch.tensor(max(logits.shape[1], 2)))

    def keep(self, windows: torch.Tensor) -> None:
        """Keep only the windows that continue, mask `(B,)`."""
        if self.probabilities is not None and self.entropy is not None:
            self.probabilities, self.entropy = self.probabilities[windows], self.entropy[windows]
