"""A task with finished trainings into a bundle: the folds are collected, what follows is chosen, the zip is tried."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..errors import BundleError, InputError
from ..files import results_folder
from ..segmenter import Segmenter
from ..task import ALL, RUNS, TRAINED, Task
from ..trust.stored_weights import check_readable
from ..volume import Volume
from ..words import counted
from .calibrate import FEWEST, Exit, Review, calibrate_each
from .card import Finding, depths_table, write_card
from .cross_validation import (
    CrossValidation,
    DepthChoice,
    Run,
    check_alike,
    choose_components,
    choose_depth,
    collect,
    finished_runs,
    with_components,
)
from .held_out import HeldOut, Reading, held_out_cases
from .pack import Packed, free_targets, pack
from .preview import write_preview
from .smoke import try_zip
from .undertrained import few_steps, unlearned
from .validation import fold_bundle, reading_of

CHOSEN = "auto"  # instead of a depth: by the folds
WORST = 3  # cases that the card shows
CURVE = "history.svg"  # in the folder of a run
REVIEW = 4  # digits of what metadata.json states
COLLECTED = ("depths", "eval_metrics", "review")  # of metadata.json


@dataclass(frozen=True)
class Options:
    """What the user decides instead of the folds."""

    weights: str = ""  # name of the run to pack: all, fold0, ...; empty: all, or the only one
    depth: str = CHOSEN  # or a number, or full
    max_loss: float = 0.002  # of mean Dice, for a shallower depth
    calibration: int = 20  # most cases for early exit and review; 0: neither
    name_cases: bool = False  # on the card
    pictures: bool = True  # of the worst cases, on the card
    dataset_dir: Path | None = None  # None: the task's
    device: str = "auto"


@dataclass(frozen=True)
class _Segmented:
    """The held-out cases, and who segments each."""

    cases: tuple[tuple[str, HeldOut], ...]  # run's name, case
    segmenters: Mapping[str, Segmenter]  # by run
    reading: Reading


def has_runs(task: Task, weights: str = "") -> bool:
    """Tell whether a task is packed from its trainings: one is named, or it has some but no weights."""
    return bool(finished_runs(task)) and (bool(weights) or not task.weights.is_file())


def pack_runs(
    output_dir: str | Path,
    task: Task,
    *,
    options: Options | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Packed:
    """Pack a task by what its finished folds say.

    Args:
        output_dir: as `pack`.
        task: of `check_task`, with finished runs.
        options: of the user.
        say: called with each decision, one line.

    Raises:
        BundleError: no such run, a validation is of other weights or values, or the zip does not work.
        InputError: the held-out cases cannot be read, or an option is out of its range.
        OutputError: as `pack`.
    """
    options = options or Options()
    if options.max_loss < 0 or options.calibration < 0:
        raise InputError(f"max_loss and calibration must be >= 0, got {options.max_loss} and {options.calibration}")
    runs = finished_runs(task)
    run = _chosen(task, runs, options.weights)
    for finished in runs.values():
        check_readable(finished.weights)
    output = Path(output_dir)
    free_targets(output, task.metadata["name"])
    if options.dataset_dir is not None:
        task = replace(task, values={**task.values, "dataset_dir": str(options.dataset_dir)})
    found = collect(task, runs)
    if found is not None:
        check_alike(runs[name] for name in dict.fromkeys((run.name, *found.folds)))
    for line in _doubts(run, runs, found):
        say(f"warning: {line}")
    with results_folder(output), tempfile.TemporaryDirectory() as temporary:
        folder = _task_folder(task, run, Path(temporary))
        if found is None:
            say("no fold was validated: no table of depths, no thresholds; train fold 0, too")
            wished = None if options.depth == CHOSEN else options.depth
            return pack(output, task=replace(task, folder=folder), depth=wished)
        ready, depth, check = _find(task, run, found, options, folder=folder, say=say)
        packed = pack(output, task=replace(ready, folder=folder), depth=depth, check=check)
    say("the zip, unpacked, segments a held-out case to the same voxels")
    return packed


def _chosen(task: Task, runs: Mapping[str, Run], name: str) -> Run:
    if name and name not in runs:
        raise BundleError(
            f"weights must be of a finished run, {', '.join(runs) or 'none'}, got {name}", option="weights"
        )
    if not name and len(runs) > 1 and ALL not in runs:
        raise BundleError(
            f"a bundle holds the weights of one training, got {', '.join(runs)} in {task.folder / RUNS}; train on all "
            f"cases (fold {ALL}), or name one",
            option="weights",
        )
    return runs[name or (ALL if ALL in runs else next(iter(runs)))]


def _doubts(run: Run, runs: Mapping[str, Run], found: CrossValidation | None) -> Iterator[str]:
    """Say which networks were hardly trained, and which labels were not learned."""
    for name in dict.fromkeys((run.name, *(found.folds if found else ()))):
        if said := few_steps(runs[name].record):
            yield f"{name}: {said}; train longer"
    yield from unlearned(found.rows) if found else ()


def _task_folder(task: Task, run: Run, temporary: Path) -> Path:
    """A folder with the task's documents and the run's weights."""
    folder = temporary / task.name
    folder.mkdir()
    shutil.copyfile(run.weights, folder / TRAINED)
    if (task.folder / "docs").is_dir():
        shutil.copytree(task.folder / "docs", folder / "docs")
    if (task.folder / "LICENSE").is_file():
        shutil.copyfile(task.folder / "LICENSE", folder / "LICENSE")
    (folder / "docs").mkdir(exist_ok=True)
    return folder


def _find(
    task: Task, run: Run, found: CrossValidation, options: Options, *, folder: Path, say: Callable[[str], object]
) -> tuple[Task, int | str, Callable[[Bundle, Path], None]]:
    """Decide, and write the card into `folder`; give the task with what was decided, its depth, and how to try it."""
    say(f"cross-validation: {found.extent}" + (f"; missing: {', '.join(found.missing)}" if found.missing else ""))
    stated = [key for key in COLLECTED if task.metadata.get(key)]
    if stated:
        say(f"{', '.join(stated)} of metadata.json give way to what the folds say")
    choice = _depth(found, options)
    say(f"depth {choice.depth}: {choice.reason}")
    gained = choose_components(found, choice.depth)
    found = with_components(found, gained)
    components = tuple(sorted({*task.values.get("largest_component", ()), *gained}))
    ready = replace(task, values={**task.values, "largest_component": list(components)})
    say(f"largest component: {', '.join(found.labels[index] for index in gained) or 'gains for no label'}")
    with _segmented(ready, found, options.device) as held_out:
        exit_, review, calibrated = _calibrate(held_out, run, options)
        say(f"exits and review: {calibrated}")
        worst = _worst(found, choice.depth)
        finding = Finding(run, found, choice, options.depth != CHOSEN, components, exit_, review, calibrated, worst)
        pictures = _draw(held_out, finding, folder / "docs") if options.pictures else []
    curve = CURVE if (run.folder / CURVE).is_file() else ""
    if curve:
        shutil.copyfile(run.folder / CURVE, folder / "docs" / CURVE)
    text = write_card(ready, finding, name_cases=options.name_cases, pictures=pictures, curve=curve)
    own = (folder / "docs" / "README.md").is_file()
    (folder / "docs" / ("validation.md" if own else "README.md")).write_text(text, encoding="utf-8")
    depth = "full" if choice.depth == max(found.rows) else choice.depth
    smallest = min((case for _, case in held_out.cases), key=lambda case: case.images[0].stat().st_size)
    check = partial(try_zip, case=smallest, reading=held_out.reading)
    return _with_findings(ready, finding), depth, check


def _depth(found: CrossValidation, options: Options) -> DepthChoice:
    choice = choose_depth({depth: found.dice(depth) for depth in found.rows}, max_loss=options.max_loss)
    if options.depth == CHOSEN:
        return choice
    wished = str(max(found.rows)) if options.depth in ("full", "all") else options.depth
    if wished not in map(str, found.rows):
        raise InputError(
            f"depth must be auto, full or of {', '.join(map(str, found.rows))}, got {wished}", option="depth"
        )
    return DepthChoice(int(wished), choice.best, "as you wish")


@contextmanager
def _segmented(task: Task, found: CrossValidation, device: str) -> Iterator[_Segmented]:
    """Give the held-out cases, and for each the network that has not seen it."""
    cases: list[tuple[str, HeldOut]] = []
    segmenters: dict[str, Segmenter] = {}
    with ExitStack() as stack:
        for name, fold in found.folds.items():
            listed = held_out_cases(task, fold.fold)
            judged = {row.case for row in next(iter(fold.depths.values()))}
            if {case.name for case in listed} != judged:
                raise BundleError(
                    f"the cases of {name} must be those that it was validated on, got another division of the cases; "
                    "train this fold again"
                )
            cases += [(name, case) for case in listed]
            bundle = stack.enter_context(fold_bundle(task, task.folder / RUNS / name / TRAINED))
            segmenters[name] = Segmenter(bundle, device=device)
            reading = reading_of(task, bundle)
        yield _Segmented(tuple(cases), segmenters, reading)


def _calibrate(held_out: _Segmented, run: Run, options: Options) -> tuple[Exit | None, Review | None, str]:
    """Thresholds by the folds' own networks, and on what they rest."""
    count = len(held_out.cases)
    if not options.calibration:
        return None, None, "not wanted"
    most = max(options.calibration, FEWEST)
    if count < FEWEST:
        return None, None, f"none, as at least {FEWEST} held-out cases are needed, got {count}"
    drawn = sorted(np.random.default_rng(0).choice(count, min(most, count), replace=False).tolist())
    chosen = [held_out.cases[index] for index in drawn]
    exit_, reviews = calibrate_each((held_out.segmenters[name], *held_out.reading.read(case)) for name, case in chosen)
    said = f"chosen on {counted(len(chosen), 'held-out case')}" + (f", drawn of {count}" if len(chosen) < count else "")
    said += "" if len(held_out.segmenters) == 1 and run.name != ALL else ", by the folds' own networks"
    said += "; the packed network, of all cases, was not measured itself" if run.name == ALL else ""
    sound = [review for review in reviews if math.isfinite(review.auroc)]
    return exit_, sound[0] if sound else None, said


def _worst(found: CrossValidation, depth: int) -> list[tuple[str, float]]:
    means = found.dice(depth).mean(1)
    return [(found.cases[index], float(means[index])) for index in np.argsort(means, kind="stable")[:WORST]]


def _draw(held_out: _Segmented, finding: Finding, folder: Path) -> list[str]:
    """Draw the worst cases; files are called by their rank."""
    known = {case.name: (name, case) for name, case in held_out.cases}
    files = []
    for number, (worst, _) in enumerate(finding.worst, 1):
        name, case = known[worst]
        image, reference = held_out.reading.read(case)
        segmenter = held_out.segmenters[name]
        labels = segmenter(image, depth=finding.depth.depth).labels
        shown = image if case.picture and len(image.array) == 3 else Volume(image.array[:1], image.affine)
        files.append(f"worst_{number}.png")
        write_preview(shown, labels, segmenter.bundle.labels, folder / files[-1], reference=reference)
    return files


def _with_findings(task: Task, finding: Finding) -> Task:
    """The task with the collected figures and thresholds."""
    found, values = finding.found, dict(task.values)
    metadata: dict[str, Any] = {**task.metadata, "depths": depths_table(finding)}
    metadata["eval_metrics"] = {"val_mean_dice": round(found.figures(finding.depth.depth).mean, 4)}
    if finding.exit is not None:
        values["exit_thresholds"] = list(finding.exit.thresholds)
    if finding.review is not None:
        review = asdict(finding.review)
        metadata["review"] = {
            key: round(value, REVIEW) if isinstance(value, float) else value for key, value in review.items()
        }
    return replace(task, values=values, metadata=metadata)
