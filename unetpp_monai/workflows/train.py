"""Train a task by MONAI's own workflow: the base's train.json, the task's values, and those of one run."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import InputError, OutputError, cause_of
from ..files import complete_file, locked
from ..task import ALL, BASE, DESCRIPTION, RECORD, RUNS, TRAINED, VALUES, Task, base_config, check_task

LOCK = ".training"  # in a run's folder
SCHEMA = 1  # version of the record


def train(
    task: str | Path,
    *,
    fold: int | str | None = None,
    output_dir: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> Path:
    """Train a task on one division of its cases; what `monai.bundle run` does with the same configs.

    A run that was interrupted goes on, to the weights that it would have had; one that is finished is left as it is.

    Args:
        task: folder of a task, or the name of one that came with the package.
        fold: whose cases validate, 0, 1, ...; "all": none do, all train; None = as the task states it.
        output_dir: for the weights, the progress and the logs; None = `runs/fold<N>` in the task's folder, or
            `runs/<task>/fold<N>` here for one that is given by its name.
        dataset_dir: of the data; None = as the task states it.
        overrides: values that come before those of the task, such as `{"max_epochs": 10}`.
        fresh: begin anew, whatever progress there is.

    Returns:
        The file of the best weights.

    Raises:
        BundleError: the task does not fit the base, see `check_task`.
        InputError: the data cannot be read, a package is missing, or the progress is of another run.
        OutputError: the folder cannot be written, or another training uses it.
    """
    values = {**({} if dataset_dir is None else {"dataset_dir": str(dataset_dir)}), **(overrides or {})}
    checked = check_task(task, overrides=values)
    known = {**base_config("train"), **checked.values, **values}
    if fold is not None:
        values["fold"] = known["fold"] = known["num_folds"] if fold == ALL else fold
    if not isinstance(known["fold"], int) or known["fold"] < 0:
        raise InputError(f"a fold must be 0, 1, ... or {ALL}, got {fold!r}")
    if missing := [name for name in ("ignite", "tensorboard", "scipy") if find_spec(name) is None]:
        raise InputError(f"training needs {' and '.join(missing)}; pip install 'unetpp_monai[bundle,evaluation]'")
    output = _folder_of(task, checked, known) if output_dir is None else Path(output_dir)
    record = {
        "schema": SCHEMA,
        "task": checked.name,
        **{key: known[key] for key in ("fold", "num_folds", "seed", "max_epochs")},
        "software": {"unetpp_monai": __version__, "torch": version("torch"), "monai": version("monai")},
    }
    with _run_folder(output):
        if fresh or not _is_finished(output, record):
            _train(checked, output, values, fresh=fresh)
            with complete_file(output / RECORD) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n")
        if known["fold"] < known["num_folds"]:
            from .validation import validate_run

            validate_run(checked, output, fold=known["fold"], overrides=values)
    return output / TRAINED


def _folder_of(task: str | Path, checked: Task, known: Mapping[str, Any]) -> Path:
    """Where a run's files go unless it is said."""
    name = ALL if known["fold"] >= known["num_folds"] else f"fold{known['fold']}"
    own = (Path(task) / VALUES).is_file()
    return checked.folder / RUNS / name if own else Path(RUNS) / checked.name / name


@contextmanager
def _run_folder(output: Path) -> Iterator[None]:
    """Make the folder, and hold it against a second training."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / LOCK).touch()
    except OSError as error:
        raise OutputError(f"{output} must be a folder we can write to, got {error.strerror}; choose another") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(output / LOCK, alone=True, wait=False))
        except BlockingIOError as error:
            raise OutputError(
                f"a folder serves one training at a time, {output} is in use; choose another, or wait"
            ) from error
        yield


def _is_finished(output: Path, record: Mapping[str, Any]) -> bool:
    """Whether this very run has ended here."""
    try:
        noted = json.loads((output / RECORD).read_text())
    except (OSError, ValueError):
        return False
    same = ("schema", "task", "fold", "num_folds", "seed", "max_epochs")
    return (output / TRAINED).is_file() and all(noted.get(key) == record[key] for key in same)


def _train(checked: Task, output: Path, values: Mapping[str, Any], *, fresh: bool) -> None:
    if fresh:
        for path in (*output.glob("progress_*.pt"), output / RECORD):
            path.unlink(missing_ok=True)
    from ..training import newest_progress

    places: dict[str, Any] = {key: str(output) for key in ("bundle_root", "ckpt_dir", "output_dir")}
    if listed := checked.values.get("cases_file"):
        places["cases_file"] = str(checked.folder / listed)
    if Path(newest_progress(output)).is_file():
        places["resume"] = True
    try:
        _run(checked.folder, {**places, **values})
    except RuntimeError as error:
        raise cause_of(error) from error


def _run(folder: Path, overrides: Mapping[str, Any]) -> None:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=[str(BASE / "train.json"), str(folder / VALUES)],
        meta_file=[str(BASE / "metadata.json"), str(folder / DESCRIPTION)],
        logging_file=str(BASE / "logging.conf"),
        workflow_type="train",
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
