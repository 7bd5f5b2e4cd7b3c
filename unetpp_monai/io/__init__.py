"""Files to volumes and back; the only room that knows formats."""

from .cases import case_name, find_cases
from .nifti import write_nifti
from .reader import read_volume

__all__ = ["case_name", "find_cases", "read_volume", "write_nifti"]
