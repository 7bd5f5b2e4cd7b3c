"""Inference on one image with timing and progress."""

import time
from collections.abc import Callable, Iterator

import torch

from ..located import Located
from .depth import DepthInferer, Predictor
from .slab import Slab, Windows

Progress = Callable[[int, int], None]  # windows done, windows in all


class TimedInference:
    """Apply a predictor to one image, and measure time.

    Args:
        inferer: provides the windows.
        predictor: called with the windows.
        progress: called after each batch of windows.

    Attributes:
        seconds: spent in the predictor.
        done: windows so far, mirror images not counted.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> from unetpp_monai.networks import UNetPlusPlus
        >>> inferer = DepthInferer(SimpleInferer())
        >>> timed = TimedInference(inferer, inferer.predictor(UNetPlusPlus(2, 1, 2, [4, 8]).eval()))
        >>> [slab.start for slab in timed.slabs(torch.zeros(1, 1, 8, 8))], timed.done
        ([0], 1)
    """

    def __init__(self, inferer: DepthInferer, predictor: Predictor, progress: Progress | None = None) -> None:
        self.inferer, self.predictor, self.progress = inferer, predictor, progress
        self.seconds, self.done, self._total = 0.0, 0, 0

    def slabs(self, image: torch.Tensor, located: Located | None = None) -> Iterator[Slab]:
        """Yield the prediction for an image `(1, C, *spatial)`, or for boxes in it, slab by slab."""
        self._total, _ = self.inferer.windows_of(image.shape[2:], located)
        yield from self.inferer.slabs(image, self._timed, located)

    def _timed(self, windows: torch.Tensor) -> Windows:
        start = time.perf_counter()
        found = self.predictor(windows)
        if windows.is_cuda:
            torch.cuda.synchronize(windows.device)
        self.seconds += time.perf_counter() - start
        self.done += len(windows)
        if self.progress is not None:
            self.progress(self.done, self._total)
        return found

    def stops(self) -> dict[int, int]:
        """Count windows by depth, including mirrored ones; 0: constant, not computed."""
        early_exit, number = self.predictor.early_exit, self.predictor.depth.number
        if early_exit is not None:
            return {stop: count for stop, count in sorted(early_exit.counts.items()) if count}
        depth = self.predictor.network.depth if number is None else number
        return {depth: self.done * 2 ** len(self.predictor.mirror_axes)}


class Clock:
    """Measure the seconds of consecutive steps.

    Example:
        >>> clock = Clock()
        >>> clock.lap("read")
        >>> list(clock.seconds)
        ['read']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str, **apart: float) -> None:
        """End a step; `apart` has the seconds of other steps within it."""
        now = time.perf_counter()
        self.seconds |= {**apart, step: now - self._last - sum(apart.values())}
        self._last = now
