"""One value of a task with its reason, and the user's options."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .budget import Budget


@dataclass(frozen=True)
class Decision:
    """One value of a task, with its reason."""

    key: str
    value: Any
    rule: str  # for people
    inputs: str  # what it was computed from
    override: str  # how to change it
    usual: bool = False  # the base has this value, so task.json leaves it out


@dataclass(frozen=True)
class Choices:
    """The user's choices; empty or 0: chosen by the plan."""

    budget: Budget
    modality: str = ""
    spacing: tuple[float, ...] = ()
    folds: int = 0
    time: str = ""  # of one training
    interactive: bool = False  # a network with prompts


def times(numbers: Sequence[float]) -> str:
    """Format sizes as text."""
    return " x ".join(f"{number:g}" for number in numbers)
