"""Parts of a training: checked cases, resumable progress, reproducible randomness, and reports."""

from .cases import CheckedDataset, EndOfPreparation, names_of, require_cases, some_of
from .checks import WarnOfCasesd, require_foreground
from .guard import FiniteLoss, Stop
from .history import History
from .initial_weights import InitialWeights, weights_digest
from .labels import CheckLabelsd
from .progress import ProgressSaver, RunIdentity, newest_progress
from .prompting import PromptedBatch
from .sampling import CaseSampler, Draw
from .schedule import Measured, Schedule, schedule_of_steps, schedule_of_time, seconds_for
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
    "InitialWeights",
    "Measured",
    "ProgressSaver",
    "PromptedBatch",
    "RunIdentity",
    "Schedule",
    "Stop",
    "WarnOfCasesd",
    "names_of",
    "newest_progress",
    "require_cases",
    "require_foreground",
    "schedule_of_steps",
    "schedule_of_time",
    "seconds_for",
    "some_of",
    "weights_digest",
]
