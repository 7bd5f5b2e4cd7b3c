"""A folder of labelled images to a task: which cases there are, what is wrong with them, and what fits them.

Nothing here trains, and nothing is written before every case was read.
"""

from .dataset import Case, Dataset, Fault
from .layouts import find_dataset
from .planner import Options, Planned, plan

__all__ = ["Case", "Dataset", "Fault", "Options", "Planned", "find_dataset", "plan"]
