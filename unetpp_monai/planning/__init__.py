"""A folder of labelled images to a task: which cases there are, what is wrong with them, and what fits them.

Nothing here trains, and nothing is written before every case was read.
"""

from .checking import Checked, check
from .dataset import Case, Dataset, Fault
from .layouts import find_dataset
from .planner import Options, plan

__all__ = ["Case", "Checked", "Dataset", "Fault", "Options", "check", "find_dataset", "plan"]
