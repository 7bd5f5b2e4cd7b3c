"""How the network is swept over a volume or a training batch, around MONAI's inferers."""

from .anytime import AnytimeNetwork
from .autocast import AutocastInferer, has_fast_bfloat16
from .depth import DepthInferer, Predictor
from .early_exit import BACKGROUND_LOGIT, EarlyExit, window_doubt
from .heads import HeadsInferer
from .locator import LocatedNetwork, Locator, located
from .mirror import Mirrored
from .slab import MAPS, Slab, Windows, plain
from .sliding_window import sweep, window_count
from .timed_sweep import Clock, Progress, TimedSweep

__all__ = [
    "BACKGROUND_LOGIT",
    "MAPS",
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
    "TimedSweep",
    "Windows",
    "has_fast_bfloat16",
    "located",
    "plain",
    "sweep",
    "window_count",
    "window_doubt",
]
