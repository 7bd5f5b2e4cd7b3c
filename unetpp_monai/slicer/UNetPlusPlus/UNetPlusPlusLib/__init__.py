# ruff: noqa: N999 - Slicer's naming of a module's library
"""The module without its panel: run `unetpp` outside of Slicer, and create nodes from its results."""

from .about import About
from .download import BundleDownload
from .environment import Environment
from .here import RegionLogic
from .install import PACKAGE, Installation
from .logic import SegmentationLogic
from .nodes import Results, show_3d
from .parameters import read_settings, write_settings
from .process import Options, Process, SegmentationError
from .region import roi_region, view_region
from .sample import register_samples
from .tasks import SHIPPED, Question, Task

__all__ = [
    "PACKAGE",
    "SHIPPED",
    "About",
    "BundleDownload",
    "Environment",
    "Installation",
    "Options",
    "Process",
    "Question",
    "RegionLogic",
    "Results",
    "SegmentationError",
    "SegmentationLogic",
    "Task",
    "read_settings",
    "register_samples",
    "roi_region",
    "show_3d",
    "view_region",
    "write_settings",
]
