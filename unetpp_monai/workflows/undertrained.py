"""Tell a network that was hardly trained, or that learned nothing, by its record and its validation."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..words import counted

if TYPE_CHECKING:
    from .evaluate import CaseMetrics

LEAST_DICE = 0.1  # mean over held-out cases; below it a label was not learned


def few_steps(record: Mapping[str, Any]) -> str:
    """Say that a training has fewer steps than one epoch of its task; empty: it has more, or its record is older.

    Args:
        record: of a run, with `trained_steps` and `epoch_steps`.
    """
    trained, epoch = record.get("trained_steps"), record.get("epoch_steps")
    if trained is None or epoch is None or trained >= epoch:
        return ""
    return (
        f"{counted(trained, 'step')} of training {'is' if trained == 1 else 'are'} less than one epoch of the task, "
        + (counted(epoch, "step"))
    )


def unlearned(depths: Mapping[int, Sequence["CaseMetrics"]]) -> list[str]:
    """List the labels whose mean Dice is below `LEAST_DICE` at every depth.

    Args:
        depths: depth -> rows of the held-out cases.
    """
    best: dict[str, float] = {}
    for rows in depths.values():
        for label in dict.fromkeys(row.label for row in rows):
            mean = fmean(row.dice for row in rows if row.label == label)
            best[label] = max(best.get(label, 0.0), mean)
    return [
        f"{label} has a mean Dice of {dice:.3f} on held-out cases, below {LEAST_DICE:g}: it was not learned"
        for label, dice in best.items()
        if dice < LEAST_DICE
    ]
