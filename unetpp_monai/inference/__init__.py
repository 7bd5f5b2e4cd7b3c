"""How the network is swept over a volume or a training batch, around MONAI's inferers."""

from .autocast import AutocastInferer, has_fast_bfloat16
from .depth import DepthInferer, Predictor
from .early_exit import AIR, MAPS, EarlyExit
from .mirror import Mirrored
from .sliding_window import Slab, sweep, window_count

__all__ = [
    "AIR",
    "MAPS",
    "AutocastInferer",
    "DepthInferer",
    "EarlyExit",
    "Mirrored",
    "Predictor",
    "Slab",
    "has_fast_bfloat16",
    "sweep",
    "window_count",
]
