"""The length of one training: fixed once from a time or a number of steps, and kept in its record."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..durations import seconds_of
from ..words import counted, exact_time
from .training_run import Run, measure, processes, rank, usual_steps
from .undertrained import few_steps

if TYPE_CHECKING:
    from ..training import Measured

LENGTH = (
    "max_epochs",
    "steps_per_epoch",
    "val_interval",
    "val_cases",
    "patience",
)  # values that a time or number of steps fixes

logger = logging.getLogger(__name__)


def length_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a record that fix the length."""
    return {key: record[key] for key in LENGTH if key in record}


def wished_length(run: Run, time: float | None, steps: int | None, *, begun: bool) -> dict[str, float]:
    """Return the stated time or number of steps, or the task's time for a training that begins; empty: its epochs."""
    wished = {key: value for key, value in (("time", time), ("steps", steps)) if value is not None}
    if not wished and not begun and run.known["max_time"] and not any(key in run.values for key in LENGTH):
        return {"time": seconds_of(run.known["max_time"])}
    return wished


def length_in_words(wished: Mapping[str, float]) -> str:
    """Return a time or a number of steps with its unit; of neither, the task's epochs."""
    if "time" in wished:
        return exact_time(wished["time"])
    return counted(int(wished["steps"]), "step") if "steps" in wished else "the task's epochs"


def fix_length(run: Run, record: dict[str, Any], since: float) -> dict[str, Any]:
    """Add the length to a record that states a time or a number of steps; warn if it is too short to learn.

    Args:
        run: the training.
        record: with `time` or `steps`.
        since: when it began, of `time.perf_counter`.
    """
    from ..training import schedule_of_steps, schedule_of_time

    usual = usual_steps(run)
    measured = None
    if "time" in record:
        measured = measure(run, since)
        schedule = schedule_of_time(record["time"], usual, measured)
    else:
        schedule = schedule_of_steps(record["steps"], usual)
    if rank() == 0:
        epochs = counted(schedule.max_epochs, "epoch")
        logger.info("%s in %s of %d", counted(schedule.steps, "step"), epochs, schedule.steps_per_epoch)
        if said := few_steps({"trained_steps": schedule.steps, "epoch_steps": usual}):
            logger.warning("warning: %s; %s", said, _enough(run, usual, measured))
    fixed = {**asdict(schedule), "patience": schedule.max_epochs}  # the learning rate has to fall to its end
    if schedule.val_cases:
        fixed["val_cases"] = max(schedule.val_cases, processes())  # each of which needs one
    return {**record, **fixed, "epoch_steps": usual, "measured": measured and asdict(measured)}


def _enough(run: Run, usual: int, measured: "Measured | None") -> str:
    """Say what length would be sensible: at least one epoch of the task; at best all that it states."""
    from ..training import seconds_for

    epochs = int(run.known["max_epochs"])
    if measured is None:
        return f"begin anew with more steps, the task states {epochs * usual}"
    least, all_ = (math.ceil(seconds_for(steps, usual, measured) / 60) for steps in (usual, epochs * usual))
    return (
        f"begin anew with at least {least} min for this training, or with {all_} min for the "
        f"{counted(epochs, 'epoch')} that the task states"
    )
