"""How many steps fit into a time, and how they are divided into epochs. Decided once; numbers only."""

import math
from dataclasses import dataclass, replace

from ..errors import InputError

FEWEST_EPOCHS = 20  # so that the learning rate falls smoothly, and a curve is one
MARGIN = 0.95  # of the time, as machines slow down
VALIDATION_SHARE = 0.15  # of the time
FEWEST_VALIDATIONS = 8


@dataclass(frozen=True)
class Measured:
    """What a training takes on this machine, seconds."""

    step: float  # with its cases loaded
    case: float = 0.0  # to validate one
    cases: int = 0  # that validate
    used: float = 0.0  # before the first step


@dataclass(frozen=True)
class Schedule:
    """The length of a training."""

    max_epochs: int
    steps_per_epoch: int
    val_interval: int  # epochs; divides `max_epochs`, so that the last one is validated
    val_cases: int = 0  # that validate while the training lasts; 0: all

    @property
    def steps(self) -> int:
        """All of them."""
        return self.max_epochs * self.steps_per_epoch


def schedule_of_steps(steps: int, usual: int) -> Schedule:
    """Divide a number of steps into epochs; the same for the same numbers.

    Args:
        steps: of the training, rounded to whole epochs.
        usual: steps of an epoch, if there are enough of them.

    Raises:
        InputError: no step.
    """
    if steps < 1:
        raise InputError(f"a training must have at least 1 step, got {steps}", option="steps")
    epochs = _epochs(steps, usual)
    return _divided(steps, epochs, max(epochs // FEWEST_EPOCHS, 1))


def schedule_of_time(seconds: float, usual: int, measured: Measured) -> Schedule:
    """Count the steps that fit into a time, validations included.

    Where all cases take too long, some of them validate.

    Args:
        seconds: of the whole training.
        usual: steps of an epoch, if there are enough of them.
        measured: what they take.

    Raises:
        InputError: not one step and one case to validate fit.
    """
    left = seconds * MARGIN - measured.used
    if left < measured.step + measured.case:
        raise InputError(
            f"a time must suffice for a step ({measured.step:.2g} s), a case to validate ({measured.case:.2g} s) and "
            f"what comes before ({measured.used:.2g} s), got {seconds:g} s; give more",
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


def _epochs(steps: int, usual: int) -> int:
    return min(max(-(-steps // usual), FEWEST_EPOCHS), steps)


def _divided(steps: int, epochs: int, interval: int) -> Schedule:
    """At most `steps`, as many as can be, in about as many epochs, or somewhat fewer, of one length."""
    interval = min(interval, epochs)
    most = epochs // interval
    candidates = (count * interval for count in range(max(most * 3 // 4, 1), most + 1))
    epochs = max(candidates, key=lambda count: (count * (steps // count), count))
    return Schedule(epochs, max(steps // epochs, 1), interval)
