"""The network; imports torch and MONAI only, so that it can be lifted out whole."""

from .stage import Stage
from .unetplusplus import UNetPlusPlus, reached

__all__ = ["Stage", "UNetPlusPlus", "reached"]
