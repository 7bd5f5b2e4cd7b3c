"""The depth dial: one network, swept at a fixed depth, or each window as deep as it needs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer

from .early_exit import EarlyExit
from .mirror import Mirrored
from .sliding_window import Slab, sweep

Depth = int | str | None  # 1 ... L, "auto", or "full" = None


class DepthInferer(Inferer):
    """Wrap an inferer so that the network is evaluated to a chosen depth.

    Args:
        inferer: what calls the network, such as MONAI's `SlidingWindowInferer`.
        depth: 1 ... the depth the network was built with; "full" or None = all of it; "auto" = each window as deep as
            it needs (`EarlyExit`).
        exit_thresholds: of "auto", see `EarlyExit`; none = every window goes all the way.
        mirror_axes: spatial axes (0 = first) over which to average mirrored passes; none = one pass.
        uncertainty: add the two channels of `EarlyExit` to the logits.
    """

    def __init__(
        self,
        inferer: Inferer,
        *,
        depth: Depth = None,
        exit_thresholds: Sequence[float] = (),
        mirror_axes: Sequence[int] = (),
        uncertainty: bool = False,
    ) -> None:
        super().__init__()
        self.inferer, self.depth = inferer, depth
        self.exit_thresholds, self.mirror_axes = tuple(exit_thresholds), tuple(mirror_axes)
        self.uncertainty = uncertainty

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: object, depth: Depth = None
    ) -> torch.Tensor:
        """Map images `(B, C, *spatial)` to logits `(B, out_channels, *spatial)`; a `depth` given here comes first."""
        logits: torch.Tensor = self.inferer(inputs, self.predictor(network, depth), *args)
        return logits

    def slabs(self, image: torch.Tensor, predictor: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Slab]:
        """Sweep a predictor over one image `(1, C, *spatial)`, and give the logits in slabs along the first axis."""
        if isinstance(self.inferer, SlidingWindowInferer):
            yield from sweep(image, predictor, self.inferer)
        else:
            yield Slab(0, self.inferer(image, predictor)[0])

    def predictor(self, network: Any, depth: Depth = None, *, uncertainty: bool | None = None) -> "Predictor":
        """What to call with a batch of windows; what is given here comes before the inferer's own."""
        depth = self.depth if depth is None else depth
        uncertainty = self.uncertainty if uncertainty is None else uncertainty
        thresholds = self.exit_thresholds if depth == "auto" else ()
        last = None if depth in (None, "full", "auto") else int(depth)
        early_exit = None
        if depth == "auto" or uncertainty:
            early_exit = EarlyExit(network, thresholds, depth=last, air=depth == "auto", uncertainty=uncertainty)
        return Predictor(network, last, self.mirror_axes, early_exit)


class Predictor:
    """Windows to logits, at a depth, mirrored or not.

    Args:
        network: called with windows, and with `depth` if one is given.
        depth: of every window; None = all of it.
        mirror_axes: see `DepthInferer`.
        early_exit: to be called instead of the network.
    """

    def __init__(
        self, network: Any, depth: int | None, mirror_axes: Sequence[int], early_exit: EarlyExit | None
    ) -> None:
        self.network, self.early_exit = network, early_exit
        self.options = {} if depth is None else {"depth": depth}
        self._call = Mirrored(self._once, mirror_axes) if mirror_axes else self._once

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Map windows `(B, C, *spatial)` to logits `(B, out_channels, *spatial)`."""
        return self._call(windows)

    def _once(self, windows: torch.Tensor) -> torch.Tensor:
        if self.early_exit is not None:
            return self.early_exit(windows)
        logits: torch.Tensor = self.network(windows, **self.options)
        return logits
