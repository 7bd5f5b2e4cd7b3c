"""UNet++ for MONAI: nested U-Nets as a bundle, a command line and this Python API.

Names are loaded when first used, so that importing the package, or only its network, does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .bundle import Bundle, read_bundle
    from .errors import UnetppError
    from .io import find_cases, read_volume, write_nifti
    from .labels import Label
    from .networks import UNetPlusPlus
    from .provenance import Algorithm
    from .segmentation import Segmentation
    from .segmenter import Segmenter
    from .task import check_task
    from .volume import Volume
    from .workflows.convert import convert
    from .workflows.evaluate import evaluate
    from .workflows.pack import pack
    from .workflows.train import train


_HOMES = {
    "Algorithm": "provenance",
    "Bundle": "bundle",
    "Label": "labels",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
    "UNetPlusPlus": "networks",
    "UnetppError": "errors",
    "Volume": "volume",
    "check_task": "task",
    "convert": "workflows.convert",
    "evaluate": "workflows.evaluate",
    "find_cases": "io",
    "pack": "workflows.pack",
    "read_bundle": "bundle",
    "read_volume": "io",
    "train": "workflows.train",
    "write_nifti": "io",
}

__all__ = [
    "Algorithm",
    "Bundle",
    "Label",
    "Segmentation",
    "Segmenter",
    "UNetPlusPlus",
    "UnetppError",
    "Volume",
    "check_task",
    "convert",
    "evaluate",
    "find_cases",
    "pack",
    "read_bundle",
    "read_volume",
    "train",
    "write_nifti",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
