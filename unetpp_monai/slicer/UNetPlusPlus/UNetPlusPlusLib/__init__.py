# ruff: noqa: N999 - Slicer's naming of a module's library
"""What the module does, without its window: run `unetpp` apart from Slicer, make nodes of what it wrote."""

from .logic import SegmentationLogic
from .nodes import Results
from .process import Options, Process, SegmentationError

__all__ = ["Options", "Process", "Results", "SegmentationError", "SegmentationLogic"]
