"""The network; imports torch and MONAI only, so that it can be lifted out whole."""

from .unetplusplus import UNetPlusPlus

__all__ = ["UNetPlusPlus"]
