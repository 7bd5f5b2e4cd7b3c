"""The network; imports torch and MONAI only, so that it can be lifted out whole."""

from .subgraph import Subgraph
from .unetplusplus import UNetPlusPlus, evaluated_depth

__all__ = ["Subgraph", "UNetPlusPlus", "evaluated_depth"]
