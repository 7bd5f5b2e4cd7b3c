"""What a finished training says of itself: its Dice, and whether it was long enough."""

import logging
from pathlib import Path

import numpy as np

from ..task import RECORD
from ..words import counted
from .run_record import read_record
from .undertrained import few_steps, unlearned
from .validation import VALIDATION, read_validation

logger = logging.getLogger(__name__)


def say_end(folder: Path, *, before: bool) -> None:
    """Log warnings about a finished training; if it was finished before, also its Dice and how to begin anew.

    Args:
        folder: of the run.
        before: whether nothing was left to train.
    """
    record = read_record(folder / RECORD)
    dice, doubts = "no case was held out", [few_steps(record)]
    if record["fold"] < record["num_folds"]:
        depths = read_validation(folder / VALIDATION).depths
        rows = depths[max(depths)]
        cases = len({row.case for row in rows})
        dice = f"mean Dice {np.mean([row.dice for row in rows]):.3f} at full depth on {counted(cases, 'held-out case')}"
        doubts += unlearned(depths)
    if before:
        logger.info("%s is finished already: %s; start fresh to train it again", folder, dice)
    for said in filter(None, doubts):
        logger.warning("warning: %s; train longer", said)
