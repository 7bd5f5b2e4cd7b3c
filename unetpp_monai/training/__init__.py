"""What keeps a training honest: cases that fit, progress of no other run, chance that repeats, and what it says."""

from .cases import CheckedDataset, EndOfPreparation, names_of, require_cases, some_of
from .guard import FiniteLoss, Stop
from .history import History
from .labels import CheckLabelsd
from .progress import ProgressSaver, RunIdentity, newest_progress
from .sampling import CaseSampler, Draw
from .schedule import Measured, Schedule, schedule_of_steps, schedule_of_time
from .scores import HeadsDice

__all__ = [
    "CaseSampler",
    "CheckLabelsd",
    "CheckedDataset",
    "Draw",
    "EndOfPreparation",
    "FiniteLoss",
    "HeadsDice",
    "History",
    "Measured",
    "ProgressSaver",
    "RunIdentity",
    "Schedule",
    "Stop",
    "names_of",
    "newest_progress",
    "require_cases",
    "schedule_of_steps",
    "schedule_of_time",
    "some_of",
]
