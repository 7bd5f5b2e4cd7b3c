"""Compute how many steps fit into a time, and divide them into epochs."""

import math
from dataclasses import dataclass, replace

from ..errors import InputError

FEWEST_EPOCHS = 20  # for a smooth learning rate and a useful curve
MARGIN = 0.95  # fraction of the time that is planned, as machines slow down
VALIDATION_SHARE = 0.15  # fraction of the time
FEWEST_VALIDATIONS = 8
LONGER = 1.05  # next time to try


@dataclass(frozen=True)
class Measured:
    """Times of a training on this machine, in seconds."""

    step: float  # including loading
    case: float = 0.0  # to validate one case
    cases: int = 0  # to validate
    used: float = 0.0  # before the first step


@dataclass(frozen=True)
class Schedule:
    """The length of a training."""

    max_epochs: int
    steps_per_epoch: int
    val_interval: int  # epochs; divides `max_epochs`, so the last epoch is validated
    val_cases: int = 0  # validation cases during training; 0: all

    @property
    def steps(self) -> int:
        """Return the total number of steps."""
        return self.max_epochs * self.steps_per_epoch


def schedule_of_steps(steps: int, usual: int) -> Schedule:
    """Divide a number of steps into epochs; deterministic.

    Args:
        steps: of the training; rounded to whole epochs.
        usual: steps per epoch, if there are enough.

    Raises:
        InputError: no steps.
    """
    if steps < 1:
        raise InputError(f"a training must have at least 1 step, got {steps}", option="steps")
    epochs = _epochs(steps, usual)
    return _divided(steps, epochs, max(epochs // FEWEST_EPOCHS, 1))


def schedule_of_time(seconds: float, usual: int, measured: Measured) -> Schedule:
    """Compute the steps that fit into a time, including validation.

    If validating all cases takes too long, only some are used.

    Args:
        seconds: of the whole training.
        usual: steps per epoch, if there are enough.
        measured: their times.

    Raises:
        InputError: too short for one step and one validation case.
    """
    left = seconds * MARGIN - measured.used
    if left < measured.step + measured.case:
        raise InputError(
            f"time must suffice for a step ({measured.step:.2g} s), a validation case ({measured.case:.2g} s) and the "
            f"start ({measured.used:.2g} s), got {seconds:g} s; allow more",
            option="time",
        )
    epochs = _epochs(int(left / measured.step), usual)
    if not measured.cases:
        return _divided(int(left / measured.step), epochs, 1)
    share = VALIDATION_SHARE * left
    cases = min(max(int(share / (FEWEST_VALIDATIONS * measured.case)), 1), measured.cases)
    validation = cases * measured.case
    half = int(left / 2 / validation)
    most = min(max(int(share / validation), min(FEWEST_VALIDATIONS, half), 1), epochs)
    steps = max(int((left - most * validation) / measured.step), 1)
    epochs = min(epochs, steps)
    found = _divided(steps, epochs, math.ceil(epochs / most))
    return replace(found, val_cases=cases if cases < measured.cases else 0)


def seconds_for(steps: int, usual: int, measured: Measured) -> float:
    """Find a time into which so many steps fit, including validation; at most a twentieth too long.

    Args:
        steps: of the training.
        usual: steps per epoch, if there are enough.
        measured: their times.
    """
    seconds = (measured.used + steps * measured.step + measured.case) / MARGIN + 1e-6
    while schedule_of_time(seconds, usual, measured).steps < steps:
        seconds *= LONGER
    return seconds


def _epochs(steps: int, usual: int) -> int:
    return min(max(-(-steps // usual), FEWEST_EPOCHS), steps)


def _divided(steps: int, epochs: int, interval: int) -> Schedule:
    """Divide at most `steps` steps into about `epochs` epochs of equal length."""
    interval = min(interval, epochs)
    most = epochs // interval
    candidates = (count * interval for count in range(max(most * 3 // 4, 1), most + 1))
    epochs = max(candidates, key=lambda count: (count * (steps // count), count))
    return Schedule(epochs, max(steps // epochs, 1), interval)
