"""The card of a bundle: its data, its figures, and what was chosen by them. No path, and no case unless wanted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..labels import read_labels
from ..task import ALL, Task
from ..words import counted
from .calibrate import Exit, Review
from .cross_validation import CrossValidation, DepthChoice, Figures, Run
from .evaluate import summarise
from .undertrained import few_steps, unlearned

FINGERPRINT, CASES = "fingerprint.json", "cases.json"  # that plan wrote, if it did
COLUMNS = 6  # labels with a column of their own in the table of depths


@dataclass(frozen=True)
class Finding:
    """What the folds of a task say, and what follows."""

    run: Run  # whose weights are packed
    found: CrossValidation  # as the bundle postprocesses
    depth: DepthChoice
    wished: bool  # the depth is the user's
    components: tuple[int, ...]  # labels of which the largest piece alone is kept
    exit: Exit | None  # None: not calibrated
    review: Review | None
    calibrated: str  # on what, or why not
    worst: Sequence[tuple[str, float]]  # cases with the lowest Dice, and it


def depths_table(finding: Finding) -> dict[str, dict[str, float | str]]:
    """`depths` of metadata.json: depth -> column -> figure."""
    table: dict[str, dict[str, float | str]] = {}
    for depth in finding.found.rows:
        table[str(depth)] = dict(_columns(finding.found.figures(depth), finding.found.unit))
    if finding.exit is not None and any(finding.exit.thresholds) and finding.exit.cases == len(finding.found.cases):
        table["auto"] = {"mean Dice": round(finding.exit.dice_auto, 4)}
    return table


def _columns(figures: Figures, unit: str) -> Iterator[tuple[str, float]]:
    yield "mean Dice", round(figures.mean, 4)
    if 1 < len(figures.labels) <= COLUMNS:
        yield from ((f"Dice {name}", round(value, 4)) for name, value in figures.labels.items())
    if distances := [value for value in figures.hd95.values() if value is not None]:
        yield f"HD95 {unit}", round(float(np.mean(distances)), 2)
    yield "seconds", round(figures.seconds, 3)


def write_card(task: Task, finding: Finding, *, name_cases: bool, pictures: Sequence[str], curve: str) -> str:
    """Write the model card, Markdown.

    Args:
        task: what is packed.
        finding: of its folds.
        name_cases: call the worst cases by their names.
        pictures: file names of the worst cases, worst first; empty: none.
        curve: file name of the training's history; empty: none.
    """
    metadata = task.metadata
    parts = [f"# {metadata['name']}\n", f"{metadata['task']}. {metadata.get('intended_use', '')}\n", "## Data\n"]
    parts += [*_data(task), "\n## Training\n", *_training(finding)]
    parts += [f"\n![Loss and Dice over the training]({curve})"] if curve else []
    parts += ["\n## Accuracy\n", *_accuracy(finding), "\n## What was chosen by it\n", *_choices(finding)]
    parts += ["\n## Worst cases\n", *_worst(finding, pictures, name_cases=name_cases)]
    return "\n".join(parts) + "\n"


def _data(task: Task) -> Iterator[str]:
    image = task.metadata["network_data_format"]["inputs"]["image"]
    channels = ", ".join(image["channel_def"].values())
    yield f"- images: {image['modality']}, {counted(len(image['channel_def']), 'channel')}: {channels}"
    names = [f"{label.index} {label.name}" for label in read_labels(task.metadata)]
    yield f"- labels: {', '.join(names)}"
    if source := task.metadata.get("data_source"):
        yield f"- source: {source}"
    cases = _json_of(task, CASES)
    if isinstance(cases, list):
        groups = len({case.get("group") or case.get("name") for case in cases})
        yield f"- {counted(len(cases), 'labelled case')} of {counted(groups, 'group')} (such as patients)"
    if isinstance(facts := _json_of(task, FINGERPRINT), dict) and facts:
        yield from _measures(list(facts.values()))
    yield f"- resampled to {task.values['pixdim']} mm" if "pixdim" in task.values else "- not resampled"


def _measures(facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Ranges over the cases, axes right, anterior, superior."""
    for key, unit, digits in (("shape", "voxels", 0), ("spacing", "mm", 3)):
        values = np.array([case[key] for case in facts], float)
        rows = (np.median(values, 0), values.min(0), values.max(0))
        median, low, high = (" x ".join(f"{value:.{digits}f}" for value in row) for row in rows)
        yield f"- {key}: median {median} {unit}, from {low} to {high}"


def _json_of(task: Task, name: str) -> Any:
    path = task.folder / name
    return json.loads(path.read_text()) if path.is_file() else None


def _training(finding: Finding) -> Iterator[str]:
    record, name = finding.run.record, finding.run.name
    whole = "all cases: no case was held out of it" if name == ALL else f"the cases outside {name}"
    yield f"- these weights: trained on {whole}"
    yield f"- length: {_length(record)}"
    if said := few_steps(record):
        yield f"- warning: {said}"
    if record.get("seed") is not None:
        yield f"- seed: {record['seed']}"
    if software := record.get("software"):
        yield f"- software: {', '.join(f'{package} {version}' for package, version in software.items())}"


def _length(record: Mapping[str, Any]) -> str:
    """Steps, if they are known, and the epochs into which a curve divides them."""
    epochs, steps = record.get("max_epochs"), record.get("trained_steps")
    divided = "" if epochs is None else counted(epochs, "epoch")
    if steps is None:
        return divided or "unknown"
    whole = f", of which {record['epoch_steps']} make one epoch of the task" if record.get("epoch_steps") else ""
    return counted(steps, "step") + (f" in {divided}" if divided else "") + whole


def _accuracy(finding: Finding) -> Iterator[str]:
    found = finding.found
    if doubts := unlearned(found.rows):
        yield "".join(f"**Warning**: {said}.\n" for said in doubts)
    yield (
        f"Cross-validated, {found.extent}: each case was segmented on its own grid by a network that has not seen it."
        + (f" Not trained or not validated: {', '.join(found.missing)}." if found.missing else "")
        + " Intervals: 95 %, bootstrap over cases.\n"
    )
    shown = [name for name in found.labels.values() if 1 < len(found.labels) <= COLUMNS]
    heads = ["depth", "mean Dice", *(f"Dice {name}" for name in shown), "seconds a case"]
    yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
    for depth in found.rows:
        figures = found.figures(depth)
        cells = [str(depth), _with_interval(figures.mean, figures.low, figures.high)]
        cells += [f"{figures.labels[name]:.3f}" for name in shown]
        yield f"| {' | '.join([*cells, f'{figures.seconds:.2f}'])} |"
    yield f"\nAt depth {finding.depth.depth}, label by label:\n"
    yield f"| label | Dice | HD95, {found.unit} |\n|---|---|---|"
    summary = {(row.label, row.metric): row for row in summarise(found.rows[finding.depth.depth])}
    for name in found.labels.values():
        dice, distance = summary[name, "dice"], summary[name, "hd95"]
        cells = [_with_interval(row.mean, row.low, row.high, digits) for row, digits in ((dice, 3), (distance, 1))]
        yield f"| {name} | {' | '.join(cells)} |"


def _with_interval(mean: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    if mean is None:
        return "not defined"
    return f"{mean:.{digits}f}" + ("" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def _choices(finding: Finding) -> Iterator[str]:
    choice, names = finding.depth, finding.found.labels
    yield f"- depth {choice.depth} unless another is asked for: {choice.reason}"
    kept = ", ".join(names[index] for index in finding.components if index in names)
    yield f"- largest connected piece alone is kept of: {kept or 'none'}"
    yield f"- early exit and review: {finding.calibrated}"
    if (exit_ := finding.exit) is not None:
        yield f"- thresholds of depth auto: {list(exit_.thresholds)}, mean Dice {exit_.dice_auto:.4f} instead of " + (
            f"{exit_.dice_full:.4f}; chosen on one half of the cases they cost {exit_.held_out_loss:+.4f} on the other"
        )
    if (review := finding.review) is not None:
        yield (
            f"- review from a score of {review.threshold:.4g} ({review.measure}, at full depth): {review.share:.0%} "
            + (f"of the cases, which hold {review.recall:.0%} of the worst quarter (AUROC {review.auroc:.2f})")
        )


def _worst(finding: Finding, pictures: Sequence[str], *, name_cases: bool) -> Iterator[str]:
    yield "Outlines: found (solid), reference (dashed).\n" if pictures else "Without pictures.\n"
    for number, (case, dice) in enumerate(finding.worst, 1):
        said = f"{case}, mean Dice {dice:.3f}" if name_cases else f"mean Dice {dice:.3f}"
        yield f"![{said}]({pictures[number - 1]})\n\n{number}. {said}\n" if pictures else f"{number}. {said}"
