"""Apply the network to a volume or a training batch, with MONAI's inferers."""

from .anytime import AnytimeNetwork
from .autocast import AutocastInferer, has_fast_bfloat16
from .depth import DepthInferer, Predictor
from .early_exit import BACKGROUND_LOGIT, EarlyExit, expected_error
from .heads import HeadsInferer
from .locator import LocatedNetwork, Locator, located
from .mirror import Mirrored
from .slab import UNCERTAINTIES, Slab, Windows, as_tensor
from .sliding_window import slide_windows, window_count
from .timed import Clock, Progress, TimedInference

__all__ = [
    "BACKGROUND_LOGIT",
    "UNCERTAINTIES",
    "AnytimeNetwork",
    "AutocastInferer",
    "Clock",
    "DepthInferer",
    "EarlyExit",
    "HeadsInferer",
    "LocatedNetwork",
    "Locator",
    "Mirrored",
    "Predictor",
    "Progress",
    "Slab",
    "TimedInference",
    "Windows",
    "as_tensor",
    "expected_error",
    "has_fast_bfloat16",
    "located",
    "slide_windows",
    "window_count",
]
