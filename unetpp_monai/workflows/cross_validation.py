"""What the folds of a task say together: figures per depth, which depth is enough, which pieces are to be kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from ..files import sha256
from ..json_files import clipped
from ..task import ALL, RECORD, RUNS, TRAINED, Task
from ..words import counted
from .evaluate import CaseMetrics, interval
from .run_record import read_record
from .validation import VALIDATION, Validation, fold_bundle, read_validation

LABEL_LOSS = 0.005  # of a label's mean Dice that a shallower depth may cost
SAID = 200  # characters of differences in a message
BOUND = 0.005  # what it costs at most, as far as the cases can say: 95 % bootstrap interval over cases


@dataclass(frozen=True)
class Run:
    """A finished training."""

    name: str  # of its folder: fold0, ..., or all
    weights: Path
    record: Mapping[str, Any]  # of run.json

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.weights.parent


@dataclass(frozen=True)
class Figures:
    """One depth over all held-out cases."""

    mean: float  # Dice over cases and labels
    low: float | None  # 95 % bootstrap interval over cases
    high: float | None
    labels: Mapping[str, float]  # label -> mean Dice
    hd95: Mapping[str, float | None]  # label -> mean where it is defined
    seconds: float  # mean of a case


@dataclass(frozen=True)
class CrossValidation:
    """Validations of the finished folds; every case is judged by a network that has not seen it."""

    folds: Mapping[str, Validation]  # by the run's name
    missing: tuple[str, ...]  # folds that lack
    unit: str
    labels: Mapping[int, str]
    rows: Mapping[int, tuple[CaseMetrics, ...]]  # depth -> rows of all folds
    largest: Mapping[int, tuple[CaseMetrics, ...]]  # the same with the largest piece of each label alone; or {}

    @property
    def cases(self) -> list[str]:
        """Names, fold by fold."""
        return list(dict.fromkeys(row.case for row in next(iter(self.rows.values()))))

    @property
    def extent(self) -> str:
        """Say how much of a cross-validation this is."""
        count = len(self.folds)
        said = "one fold" if count == 1 else f"{count} folds"
        return f"{said} of {count + len(self.missing)}, {counted(len(self.cases), 'case')}"

    def dice(self, depth: int) -> NDArray[np.float64]:
        """Dice `(cases, labels)`."""
        return dice_table(self.rows[depth], list(self.labels.values()))

    def figures(self, depth: int) -> Figures:
        """Sum up a depth."""
        table, rows = self.dice(depth), self.rows[depth]
        low, high = interval(table.mean(1))
        distances = {
            name: [row.hd95 for row in rows if row.label == name and row.hd95 is not None]
            for name in self.labels.values()
        }
        counts = {name: len({row.case for row in fold.depths[depth]}) for name, fold in self.folds.items()}
        spent = sum(fold.seconds[depth] * counts[name] for name, fold in self.folds.items())
        return Figures(
            mean=float(table.mean()),
            low=low,
            high=high,
            labels=dict(zip(self.labels.values(), table.mean(0).tolist(), strict=True)),
            hd95={name: float(np.mean(values)) if values else None for name, values in distances.items()},
            seconds=spent / sum(counts.values()),
        )


@dataclass(frozen=True)
class DepthChoice:
    """How deep a bundle evaluates its network unless it is told otherwise."""

    depth: int
    best: int  # the depth with the best mean Dice
    reason: str


def finished_runs(task: Task) -> dict[str, Run]:
    """List the finished trainings of a task, by name.

    Raises:
        BundleError: what one left cannot be read.
    """
    runs = {}
    for path in sorted(task.folder.glob(f"{RUNS}/*/{RECORD}")):
        if not (weights := path.with_name(TRAINED)).is_file():
            continue
        record = read_record(path)
        if record.get("finished", True):  # of older records, that they exist says it
            runs[path.parent.name] = Run(path.parent.name, weights, record)
    return runs


def check_alike(runs: Iterable[Run]) -> None:
    """Check that trainings have the same values; lengths may differ.

    Raises:
        BundleError: the message lists the differences.
    """
    known = [run for run in runs if run.record.get("values")]
    for first, run in pairwise(known):
        mine, theirs = first.record["values"], run.record["values"]
        if differ := [key for key in mine if key in theirs and mine[key] != theirs[key]]:
            found = ", ".join(f"{key} {mine[key]} and {theirs[key]}" for key in differ)
            raise BundleError(
                f"trainings must have the same values to judge each other, got {clipped(found, SAID)} in {first.name} "
                f"and {run.name}; train one again, or remove its folder"
            )


def collect(task: Task, runs: Mapping[str, Run]) -> CrossValidation | None:
    """Put the validations of the finished folds together.

    Args:
        task: that the folds are of.
        runs: of `finished_runs`.

    Returns:
        None: no fold was validated.

    Raises:
        BundleError: a validation is of other weights or other values than there are now, or a case is in two folds.
    """
    found = {run.name: run for run in runs.values() if run.name != ALL and (run.folder / VALIDATION).is_file()}
    if not found:
        return None
    folds = {name: _current(task, run) for name, run in found.items()}
    first = next(iter(folds.values()))
    count = max(int(run.record.get("num_folds", 0)) for run in found.values())
    for name, fold in folds.items():
        if (fold.labels, fold.depths.keys()) != (first.labels, first.depths.keys()):
            raise BundleError(
                f"validations must have the same labels and depths, got others in {name} than in {next(iter(folds))}; "
                "train one again"
            )
    names = [row.case for fold in folds.values() for row in fold.depths[min(fold.depths)]]
    if len(set(names)) * len(first.labels) < len(names):
        twice = sorted({name for name in names if names.count(name) > len(first.labels)})
        raise BundleError(
            f"a case must be held out in one fold, got {', '.join(twice[:5])} in several of {', '.join(folds)}; train "
            "these folds again with one division of the cases"
        )
    return CrossValidation(
        folds=folds,
        missing=tuple(f"fold{number}" for number in range(count) if f"fold{number}" not in folds),
        unit=first.unit,
        labels=first.labels,
        rows=_joined([fold.depths for fold in folds.values()]),
        largest=_joined([fold.largest_component for fold in folds.values()]),
    )


def _current(task: Task, run: Run) -> Validation:
    """The validation of a fold, if it is one of the weights and values that there are now."""
    path = run.folder / VALIDATION
    found = read_validation(path)
    again = f"remove {path} and train the fold again, which only validates it"
    if found.weights != sha256(run.weights):
        raise BundleError(f"{VALIDATION} must be of the weights beside it, got other weights in {run.name}; {again}")
    with fold_bundle(task, run.weights) as bundle:
        if found.config != bundle.config_sha256:
            raise BundleError(f"{VALIDATION} must be of the task's values, got others in {run.name}; {again}")
    return found


def _joined(parts: Sequence[Mapping[int, tuple[CaseMetrics, ...]]]) -> dict[int, tuple[CaseMetrics, ...]]:
    return {depth: tuple(row for part in parts for row in part[depth]) for depth in parts[0]}


def dice_table(rows: Sequence[CaseMetrics], labels: Sequence[str]) -> NDArray[np.float64]:
    """Dice `(cases, labels)` of rows by case, then label."""
    return np.array([row.dice for row in rows], float).reshape(-1, len(labels))


def choose_depth(dice: Mapping[int, NDArray[np.float64]], *, max_loss: float) -> DepthChoice:
    """Choose the shallowest depth that is as good as the best one, as far as the cases can say.

    Its mean is not below the best by more than `max_loss`, no label's by more than `LABEL_LOSS`, and the paired
    bootstrap over cases rules out that it is below by more than `BOUND`.

    Args:
        dice: depth -> `(cases, labels)`, the same cases at every depth.
        max_loss: of mean Dice, >= 0.
    """
    best = max(dice, key=lambda depth: (float(dice[depth].mean()), depth))
    for depth in sorted(dice):
        if depth >= best:
            break
        difference = dice[depth] - dice[best]
        low, _ = interval(difference.mean(1))
        within = difference.mean() >= -max_loss and difference.mean(0).min() >= -LABEL_LOSS
        if within and low is not None and low > -BOUND:
            reason = f"{difference.mean():+.4f} of mean Dice against depth {best}, not below {low:+.4f} (bootstrap)"
            return DepthChoice(depth, best, reason)
    deepest = max(dice)
    few = len(dice[best]) < 2
    reason = "one case is too few to choose a shallower one" if few else "the best, and no shallower one is as good"
    return DepthChoice(deepest if few else best, best, reason)


def choose_components(found: CrossValidation, depth: int) -> tuple[int, ...]:
    """Labels of which only the largest piece is kept: those whose mean Dice gains by it, while no other can lose.

    Isensee et al., nnU-Net, Nature Methods 2021, "empirical parameters: postprocessing". Pictures have none.
    """
    if not found.largest:
        return ()
    raw, kept = found.dice(depth).mean(0), dice_table(found.largest[depth], list(found.labels.values())).mean(0)
    return tuple(index for index, gain in zip(found.labels, kept - raw, strict=True) if gain > 0)


def with_components(found: CrossValidation, labels: Sequence[int]) -> CrossValidation:
    """The figures if only the largest piece of these labels is kept."""
    names = {found.labels[index] for index in labels}
    rows = {
        depth: tuple(
            kept if row.label in names else row for row, kept in zip(rows, found.largest.get(depth, rows), strict=True)
        )
        for depth, rows in found.rows.items()
    }
    return CrossValidation(found.folds, found.missing, found.unit, found.labels, rows, found.largest)
