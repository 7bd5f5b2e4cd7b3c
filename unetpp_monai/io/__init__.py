"""Files to volumes and back; the only room that knows formats."""

from .cases import case_name, find_cases
from .nifti import write_nifti
from .reader import VolumeReader, read_volume

__all__ = ["VolumeReader", "case_name", "find_cases", "read_volume", "write_nifti"]
