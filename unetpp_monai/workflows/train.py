"""Train a task by MONAI's own workflow: the base's train.json, the task's values, and those of one run."""

import json
import logging
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import BundleError, InputError, OutputError, TrainingError
from ..files import complete_file, finish_interrupted, in_the_way, sha256
from ..json_files import clipped
from ..label_rules import has_locator
from ..labels import read_labels
from ..posix_only import locked
from ..task import ALL, RECORD, RUNS, TRAINED, VALUES, Task, base_config, check_task
from .run_record import read_record
from .training_length import LENGTH, fix_length, length_in_words, length_of, wished_length
from .training_log import log_into, log_warnings
from .training_run import CACHE, Run, carry_out, cases_file, check_cases, check_mlflow, rank

LOCK = ".training"  # in a run's folder
SCHEMA = 2  # version of the record
MOST_LISTED = 10  # folds that a message lists one by one
SAID = 50  # characters of a value in a message
IDENTITY = ("schema", "task", "fold", "num_folds", "seed", "cases_sha256")  # of a run

logger = logging.getLogger(__name__)


def train(  # noqa: PLR0913 - a run is its list of choices
    task: str | Path,
    *,
    fold: int | str | None = None,
    output_dir: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    fresh: bool = False,
    time: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    mlflow: str = "",
) -> Path:
    """Train a task on one division of its cases.

    An interrupted run continues, to the same weights. One that is finished is left as it is.

    Args:
        task: folder of a task, or the name of one that is included.
        fold: whose cases validate, 0, 1, ...; "all": none do, all train; None = as the task states it.
        output_dir: for the weights, the progress and the logs; None = `runs/fold<N>` in the task's folder, or
            `runs/<task>/fold<N>` here for one that is given by its name.
        dataset_dir: of the data; None = as the task states it.
        overrides: values that come before those of the task, such as `{"max_epochs": 10}`.
        fresh: begin anew, whatever progress there is.
        time: seconds that the training may take; its number of steps is counted once, when it begins.
        steps: that it takes instead, in whole epochs; None for both = as the run that goes on, or the task, states.
        device: "auto", "cpu" or "cuda:N".
        mlflow: address of an MLflow server, or sqlite:///FILE, that is to track the run; empty: none.

    Returns:
        The file of the best weights.

    Raises:
        BundleError: the task does not fit the base, see `check_task`.
        InputError: the data cannot be read, a package is missing, or the progress is of another run.
        OutputError: the folder cannot be written, or another training uses it.
        StoppedError: a signal asked for it; the same call goes on.
        TrainingError: something else ended it; `log.txt` in the folder has the trace.

    Example:
        >>> train("hippocampus", fold=0, overrides={"max_epoch": 1})
        Traceback (most recent call last):
        unetpp_monai.errors.BundleError: ...
    """
    since = clock.perf_counter()
    values: dict[str, Any] = {} if dataset_dir is None else {"dataset_dir": str(Path(dataset_dir).absolute())}
    values |= overrides or {}
    _check_wishes(values, time, steps, mlflow)
    checked = check_task(task, overrides=values)
    _check_device(device)
    known = {**base_config("train"), **checked.values, **values}
    if has_locator(known):
        raise InputError(
            f"a task is trained as one network, got {checked.name} with a locator beside it; train the task of the "
            "boxes that are segmented, and put both networks' weights into one file"
        )
    if fold is not None:
        values["fold"] = known["fold"] = _number_of(fold, known["num_folds"])
    elif known["fold"] != known["num_folds"]:  # which MONAI's configs take for all cases
        _number_of(known["fold"], known["num_folds"])
    home = _home(task, checked)
    name = ALL if known["fold"] >= known["num_folds"] else f"fold{known['fold']}"
    output = home / (RUNS if home == checked.folder else "") / name if output_dir is None else Path(output_dir)
    cache = (home if output_dir is None or home == checked.folder else output) / CACHE
    run = Run(checked, output, values, device, mlflow, known, cache)
    if not (output / TRAINED).is_file():  # else the data may be gone
        check_cases(run)
    with _run_folder(output):
        noted = {} if fresh else _noted(output)
        record = _record(run, noted, time, steps)
        done = not fresh and (output / TRAINED).is_file() and _is_finished(noted, record)
        if not done:
            _train(run, noted, record, fresh=fresh, since=since)
        if known["fold"] < known["num_folds"] and rank() == 0:
            from .validation import validate_run

            validate_run(checked, output, fold=known["fold"], overrides=values, device=device)
        if rank() == 0:
            from .training_end import say_end

            say_end(output, before=done)
    return output / TRAINED


def check_folds(
    task: str | Path, folds: Sequence[int | str | None], *, overrides: Mapping[str, Any] | None = None
) -> None:
    """Check the folds of several trainings before the first one starts.

    Args:
        task: folder of a task, or the name of an included one.
        folds: 0, 1, ...; "all"; None = as the task states it.
        overrides: as `train`.

    Raises:
        BundleError: the task does not fit the base, see `check_task`.
        InputError: no such fold.
    """
    values = dict(overrides or {})
    known = {**base_config("train"), **check_task(task, overrides=values).values, **values}
    for fold in folds:
        if fold is not None:
            _number_of(fold, known["num_folds"])


def _number_of(fold: int | str, count: int) -> int:
    """Return a fold's number as the configs state it; of all cases, the number of folds."""
    if fold == ALL:
        return count
    if isinstance(fold, int) and not isinstance(fold, bool) and 0 <= fold < count:
        return fold
    numbers = ("0", "1", "...", str(count - 1)) if count > MOST_LISTED else tuple(map(str, range(count)))
    raise InputError(f"fold must be {', '.join(numbers)} or {ALL}, got {fold!r}")


def _check_wishes(values: Mapping[str, Any], time: float | None, steps: int | None, mlflow: str) -> None:
    """Refuse what contradicts itself, and missing packages, before anything is read."""
    if time is not None and steps is not None:
        raise InputError("a training takes a time or a number of steps, got both; give one", option="time")
    if (time is not None or steps is not None) and (stated := [key for key in LENGTH if key in values]):
        raise InputError(f"a time or number of steps fixes {', '.join(stated)}, got both; give one", option="time")
    if time is not None and not time > 0:
        raise InputError(f"a time must be > 0 s, got {time:g}", option="time")
    if missing := [name for name in ("ignite", "tensorboard", "scipy") if find_spec(name) is None]:
        raise InputError(f"training needs {' and '.join(missing)}; pip install 'unetpp_monai[train]'")
    check_mlflow(mlflow)


def _check_device(device: str) -> None:
    from ..runtimes.backend import choose_device

    choose_device(device)


def _home(task: str | Path, checked: Task) -> Path:
    """Default folder of runs and prepared cases: the task's, or `runs/<task>` for an included task."""
    return checked.folder if (Path(task) / VALUES).is_file() else Path(RUNS) / checked.name


@contextmanager
def _run_folder(output: Path) -> Iterator[None]:
    """Make the folder, and hold it against a second training; of several processes the first does."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / LOCK).touch()
    except OSError as error:
        raise OutputError(f"{output} must be a writable folder, got {in_the_way(error)}; choose another") from error
    with ExitStack() as stack:
        stack.enter_context(log_warnings())
        try:
            if rank() == 0:
                stack.enter_context(locked(output / LOCK, alone=True, wait=False))
                finish_interrupted(output, ending=RECORD)
                stack.enter_context(log_into(output))
        except BlockingIOError as error:
            what = f"a folder serves one training at a time, {output} is in use; choose another, or wait"
            raise OutputError(what) from error
        yield


def _noted(output: Path) -> dict[str, Any]:
    """The record of the run that began here; empty if there is none."""
    try:
        noted = read_record(output / RECORD)
    except BundleError:  # cut, or changed by hand: begun anew
        return {}
    return noted if noted.get("schema") == SCHEMA else {}


def _is_finished(noted: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    return bool(noted.get("finished")) and noted.get("max_epochs") == record.get("max_epochs")


def _record(run: Run, noted: Mapping[str, Any], time: float | None, steps: int | None) -> dict[str, Any]:
    """What is known of a run before it begins; its length only where that is stated, or was fixed before.

    Raises:
        InputError: the folder is that of another run, or of one with another length.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "task": run.task.name,
        **{key: run.known[key] for key in ("fold", "num_folds", "seed")},
        "cases_sha256": sha256(listed)[:16] if (listed := cases_file(run)) else None,
        "values": _identity(run.known),
        "software": {"unetpp_monai": __version__, "torch": version("torch"), "monai": version("monai")},
        "finished": False,
    }
    own = run.output.resolve().is_relative_to(run.task.folder.resolve())  # then the task may be renamed
    identity = [key for key in IDENTITY if key in noted and not (own and key == "task")]
    differences = _differences({key: noted[key] for key in identity}, record)
    if noted.get("finished"):  # what goes on compares its checkpoint itself
        differences += _differences(noted.get("values", {}), record["values"])
    if differences:
        raise InputError(
            f"progress must be that of the same run, got {', '.join(differences)} in {run.output}; choose another "
            "folder, or begin anew",
            option="fresh",
        )
    wished = wished_length(run, time, steps, begun=bool(noted))
    fixed = {key: noted[key] for key in ("time", "steps") if key in noted}
    if wished and noted and wished != fixed:
        raise InputError(
            f"a training keeps the length with which it began, {length_in_words(fixed)}, got "
            f"{length_in_words(wished)}; give the same or none, or begin anew",
            option="fresh",
        )
    if fixed:
        kept = {key: noted.get(key) for key in ("measured", "epoch_steps")}
        record |= {**fixed, **length_of(noted), **kept}
    elif not wished:
        record["max_epochs"] = run.known["max_epochs"]
    record |= wished
    return {**record, **{key: run.values[key] for key in LENGTH if key in run.values}}


def _identity(known: Mapping[str, Any]) -> dict[str, Any]:
    """The values that make a training what it is, and the hash of the weights with which it begins."""
    from ..training import weights_digest
    from ..training.initial_weights import read_weights, weights_file

    if known["initial_weights"]:
        read_weights(weights_file(known["initial_weights"]))  # before cases are prepared
    stated = base_config("train")["run_identity"]
    values = {key: known[key] for key in stated if key in known and key not in (*IDENTITY, *LENGTH, "cases")}
    return {**values, "initial_weights": weights_digest(known["initial_weights"])}


def _differences(noted: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {clipped(noted[key], SAID)} instead of {clipped(wanted.get(key), SAID)}"
        for key in noted
        if noted[key] != wanted.get(key)
    ]


def _train(run: Run, noted: Mapping[str, Any], record: dict[str, Any], *, fresh: bool, since: float) -> None:
    from ..training import newest_progress

    if fresh:
        for path in (*run.output.glob("progress_*.pt"), run.output / RECORD):
            path.unlink(missing_ok=True)
    resume = Path(newest_progress(run.output)).is_file()
    if "max_epochs" not in record:
        if resume:
            raise InputError(f"a training that has begun keeps its length, got another in {run.output}", option="fresh")
        record = fix_length(run, record, since)
    labels = [label.name for label in sorted(read_labels(run.task.metadata), key=lambda label: label.index)]
    case = (record.get("measured") or {}).get("case")
    _write(run, record)
    try:
        seconds, trained = carry_out(run, length_of(record), labels=labels, case=case, resume=resume)
    except InputError:
        if noted.get("finished"):  # it is not this run that was refused
            _write(run, noted)
        raise
    if rank() == 0 and not (run.output / TRAINED).is_file():
        raise TrainingError(f"a training must leave weights, got none in {run.output}")
    _write(run, {**record, "finished": True, "seconds": round(seconds, 1), "trained_steps": trained})


def _write(run: Run, record: Mapping[str, Any]) -> None:
    if rank() == 0:
        with complete_file(run.output / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
