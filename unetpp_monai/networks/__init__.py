"""The network; imports torch and MONAI only, so that it can be lifted out whole."""

from .node_names import evaluated_depth
from .subgraph import Subgraph
from .unetplusplus import UNetPlusPlus

__all__ = ["Subgraph", "UNetPlusPlus", "evaluated_depth"]
