"""A data set to a packed bundle in one go: plan, train a fold and all cases, pack; what is done already is left."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, OutputError
from ..files import sha256
from ..planning import Checked, plan
from ..planning import Options as PlanOptions
from ..planning.planner import CASES, FINGERPRINT, REPORT
from ..task import ALL, DESCRIPTION, RUNS, TRAINED, VALUES, check_task
from .pack import Packed, targets_of
from .pack_runs import Options, pack_runs
from .train import train

DIST = "dist"  # folder for the bundle, beside the task's
PLANNED = (VALUES, DESCRIPTION, CASES, FINGERPRINT, REPORT)
PARTS = ("0", ALL)  # trainings, between which the time is divided: one that is judged, and one to use


def run(
    checked: Checked,
    output: str | Path,
    *,
    plan_options: PlanOptions | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    pack_options: Options | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Packed:
    """Plan, train and pack; the same call goes on where it stopped.

    Args:
        checked: the data set, without errors.
        output: folder of a task, named as the data set's folder, and of `dist`.
        plan_options: as `plan` takes them.
        seconds: for the trainings, half for each; None: as the plan says.
        steps: of each training, instead of a time.
        pack_options: as `pack_runs` takes them; the weights are those of all cases.
        say: called with each step, one line.

    Returns:
        Folder of the bundle.

    Raises:
        InputError: the data cannot be planned or trained on.
        OutputError: the folder holds another plan, or cannot be written.
        BundleError: what was trained cannot be packed.
    """
    if seconds is not None and steps is not None:
        raise InputError("a training takes a time or a number of steps, got both; give one", option="time")
    root, options = Path(output), pack_options or Options()
    task = _planned(checked, root, plan_options or PlanOptions(), say)
    for fold in PARTS:
        each = None if seconds is None else seconds / len(PARTS)
        try:
            train(task, fold=fold if fold == ALL else int(fold), time=each, steps=steps, device=options.device)
        except InputError as error:
            if error.option != "fresh":
                raise
            raise InputError(f"{error}, by a fresh training of {task}, fold {fold}") from error
    found = check_task(task)
    targets = targets_of(root / DIST, found.metadata["name"])
    if targets.archive.is_file():
        if sha256(targets.folder / "models" / TRAINED) == sha256(task / RUNS / ALL / TRAINED):
            say(f"{targets.folder} holds these weights already")
            return targets
        raise OutputError(f"{targets.folder} holds other weights; remove it, or choose another folder")
    return pack_runs(root / DIST, found, options=replace(options, weights=ALL), say=say)


def _planned(checked: Checked, root: Path, options: PlanOptions, say: Callable[[str], object]) -> Path:
    """The task's folder; a plan that is there must be the same again."""
    name = checked.dataset.root.resolve().name
    task = root / name
    if name in (DIST, ""):
        raise InputError(f"a data set's folder names its task, got {checked.dataset.root}; rename it")
    if not task.exists():
        plan(checked, task, options=options)
        say(f"{task / REPORT} says what was planned, and why")
        return task
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / name
        plan(checked, again, options=options)
        other = [file for file in PLANNED if _content(again / file) != _content(task / file)]
    if other:
        raise OutputError(
            f"{task} must be the plan of these data and options, got another {', '.join(other)}; go on with unetpp "
            "train and unetpp pack, or choose another folder"
        )
    say(f"{task} is planned already")
    return task


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
