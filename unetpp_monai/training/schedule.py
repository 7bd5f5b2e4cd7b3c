"""How many steps fit into a time, and how they are divided into epochs. Decided once; numbers only."""

import math
from dataclasses import dataclass

from ..errors import InputError

FEWEST_EPOCHS = 20  # so that the learning rate falls smoothly, and a curve is one
MARGIN = 0.95  # of the time, as machines slow down
VALIDATION_SHARE = 0.15  # of the time, at most
FEWEST_VALIDATIONS = 4


@dataclass(frozen=True)
class Measured:
    """What a training takes on this machine, seconds."""

    step: float  # with its cases loaded
    validation: float  # of all cases of the fold; 0: none validates
    used: float = 0.0  # before the first step


@dataclass(frozen=True)
class Schedule:
    """The length of a training."""

    max_epochs: int
    steps_per_epoch: int
    val_interval: int  # epochs; divides `max_epochs`, so that the last one is validated

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

    Args:
        seconds: of the whole training.
        usual: steps of an epoch, if there are enough of them.
        measured: what they take.

    Raises:
        InputError: not one step and one validation fit.
    """
    left = seconds * MARGIN - measured.used
    needed = measured.step + measured.validation
    if left < needed:
        raise InputError(
            f"a time must suffice for a step ({measured.step:.2g} s), a validation ({measured.validation:.2g} s) and "
            f"what comes before ({measured.used:.2g} s), got {seconds:g} s; give more",
            option="time",
        )
    epochs = _epochs(int(left / measured.step), usual)
    interval, most = 1, epochs
    if measured.validation:
        fitting = int((left - measured.step) / measured.validation)
        most = max(int(left * VALIDATION_SHARE / measured.validation), min(FEWEST_VALIDATIONS, fitting))
        interval = math.ceil(epochs / min(most, epochs))
    steps = max(int((left - math.ceil(epochs / interval) * measured.validation) / measured.step), 1)
    epochs = min(epochs, steps)
    return _divided(steps, epochs, interval if epochs >= FEWEST_VALIDATIONS * interval else max(epochs // most, 1))


def _epochs(steps: int, usual: int) -> int:
    return min(max(-(-steps // usual), FEWEST_EPOCHS), steps)


def _divided(steps: int, epochs: int, interval: int) -> Schedule:
    """At most `steps`, in epochs of one length."""
    interval = min(interval, epochs)
    epochs -= epochs % interval
    return Schedule(epochs, max(steps // epochs, 1), interval)
