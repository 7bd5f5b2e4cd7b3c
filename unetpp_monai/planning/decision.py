"""One value of a task and its reason, and what the user decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .budget import Budget


@dataclass(frozen=True)
class Decision:
    """One value of a task, and why."""

    key: str
    value: Any
    rule: str  # the formula, in words
    inputs: str  # what it was computed from
    override: str  # how to have another


@dataclass(frozen=True)
class Wishes:
    """What the user decides; empty or 0: decided here."""

    budget: Budget
    modality: str = ""
    spacing: tuple[float, ...] = ()
    folds: int = 0
    interactive: bool = False  # a network that takes prompts, too


def times(numbers: Sequence[float]) -> str:
    """Sizes in words."""
    return " x ".join(f"{number:g}" for number in numbers)
