"""Plan a task from a folder of labelled images: list the cases, check them, and choose settings.

Nothing here trains, and nothing is written before every case was read.
"""

from .checking import Checked, check
from .dataset import Case, Dataset, Fault
from .layouts import find_dataset
from .planner import Options, plan

__all__ = ["Case", "Checked", "Dataset", "Fault", "Options", "check", "find_dataset", "plan"]
