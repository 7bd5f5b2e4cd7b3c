"""One training of a task by MONAI's workflow: what it runs, how its time is measured, and how it ends."""

import gc
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import InputError, TrainingError, UnetppError, cause_of
from ..io import listed_folds
from ..io.case_list import changed_files
from ..task import BASE, DESCRIPTION, LOCAL, VALUES, Task, base_config
from ..task_rules import is_structure
from ..words import counted
from .training_log import LOG, quiet

if TYPE_CHECKING:
    from ..training import Measured

CACHE = "cache"  # folder of prepared cases
SAVE_SECONDS = 240.0  # between two checkpoints, so that at most five minutes are lost
UNENDING = 10**9  # epochs

logger = logging.getLogger(__name__)
trace = logging.getLogger("training")  # no part of what a terminal shows


@dataclass(frozen=True)
class Run:
    """What one training reads and writes."""

    task: Task
    output: Path
    values: Mapping[str, Any]  # that come before those of the task
    device: str = "auto"  # as `choose_device` takes it
    mlflow: str = ""  # address of a server or database that tracks it; empty: none
    known: Mapping[str, Any] = field(default_factory=dict)  # every value: of the base, the task and this run
    cache: Path = Path(CACHE)  # folder of prepared cases


def rank() -> int:
    """Which of several processes this is; 0: the first, or the only one."""
    return int(os.environ.get("RANK", "0"))


def cases_file(run: Run) -> Path | None:
    """Path of the list of cases; None: the task has none."""
    if own := run.values.get("cases_file"):
        return Path(own)
    listed = run.task.values.get("cases_file")
    return run.task.folder / listed if listed else None


def check_cases(run: Run) -> None:
    """Check the list of cases, and that it has as many folds as the task states; warn about changed files.

    Raises:
        InputError: invalid list, missing files, or another number of folds.
    """
    path, root, count = cases_file(run), run.known["dataset_dir"], run.known["num_folds"]
    if path is None or is_structure(root):
        return
    if (found := len(listed_folds(path, root))) != count:
        raise InputError(f"num_folds must be the folds of {path}, {found}, got {count}; plan again for others")
    if rank() == 0 and (changed := changed_files(path, root)):
        what = "warning: cases should be as they were planned, %s changed, such as %s; plan again"
        logger.warning(what, counted(len(changed), "file"), changed[0])


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def usual_steps(run: Run) -> int:
    """Steps of an epoch, as the task states them."""
    if steps := int(run.known["steps_per_epoch"]):
        return steps
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(_configs(run))
    parser.update(_stated(run, _places(run, run.output)))
    try:
        cases = len(parser.get_parsed_content("train#dataset#data"))
    except RuntimeError as error:  # of MONAI, around ours
        raise cause_of(error) from None
    return max(-(-cases // int(run.known["batch_size"])), 1)


def measure(run: Run, since: float) -> "Measured":
    """Time ten steps and the validation of a case, in a workflow of their own that leaves nothing.

    Args:
        run: the training.
        since: when it began, of `time.perf_counter`.
    """
    from ignite.engine import Events

    from ..training import Measured
    from ..training.history import TIMED, WARM

    with tempfile.TemporaryDirectory() as folder, _told(run, {}) as engines, quiet() as hush:
        values = {"max_epochs": UNENDING, "val_interval": UNENDING, "warmup_epochs": 0}
        workflow = _workflow(run, {**_stated(run, _places(run, Path(folder))), **values})
        workflow.initialize()
        hush()
        history = workflow.parser.get_parsed_content("history")
        history.speaks = False
        trainer = engines["trainer"] = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=WARM + TIMED), lambda engine: engine.terminate(skip_completed=True)
        )
        workflow.run()
        used = time.perf_counter() - since
        cases = len(workflow.parser.get_parsed_content("validate#dataset"))
        case = (history.validation_seconds or 0.0) / max(cases, 1)
        found = _agreed(Measured(history.step_seconds or 0.0, case, cases, used))
    gc.collect()
    return found


def carry_out(
    run: Run, fixed: Mapping[str, Any], *, labels: list[str], case: float | None, resume: bool
) -> tuple[float, int]:
    """Train to the end.

    Args:
        run: the training.
        fixed: values of its length.
        labels: names of label 1, 2, ...
        case: seconds that one is expected to take while it validates; None: not known yet.
        resume: go on from the newest progress.

    Returns:
        Seconds of all steps and validations, and the number of steps, those of former processes among them.

    Raises:
        StoppedError: a signal came; the progress is saved.
        UnetppError: what else ends it; the message is one line, the trace is in the log.
    """
    from ..training import Stop

    engines: dict[str, Any] = {}
    stop = Stop()
    with _told(run, engines), quiet() as hush:
        places = {**_places(run, run.output), "save_seconds": SAVE_SECONDS, **({"resume": True} if resume else {})}
        workflow = _workflow(run, {**_stated(run, places), **fixed})
        workflow.initialize()
        hush()
        get = workflow.parser.get_parsed_content
        trainer = engines["trainer"] = get("train#trainer")
        evaluator = None
        if run.known["fold"] < run.known["num_folds"]:
            evaluator = engines["evaluator"] = get("validate#evaluator")
        history = get("history")
        history.labels = labels
        if case is not None and evaluator is not None:
            history.validation_seconds = case * len(evaluator.data_loader.dataset)
        _track(run, trainer, evaluator)
        stop.attach(trainer, evaluator, get("progress_saver") if rank() == 0 else None)
        with stop.listening():
            workflow.run()  # without finalize: several processes stay together, a second time they would not meet
    return float(history.used), int(trainer.state.iteration)


@contextmanager
def _told(run: Run, engines: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Make one sentence of whatever ends a training, with the names of the cases; the trace goes into the log."""
    from ..training import names_of

    try:
        yield engines
    except Exception as error:  # noqa: BLE001 - the boundary of a training; whatever it is, its trace is logged
        trace.error("the training ended", exc_info=error)
        cause = cause_of(error)
        if isinstance(cause, UnetppError):
            raise cause from None
        names = [name for engine in engines.values() for name in names_of(engine.state.batch)]
        where = f" with the cases {', '.join(names)}" if names else ""
        text = " ".join(str(cause).split())[:300]
        hint = "; a smaller patch_size or batch_size needs less memory" if "memory" in text else ""
        raise TrainingError(
            f"a training must go on to its end, got {type(cause).__name__}{where}: {text}{hint}; the trace is in "
            f"{run.output / LOG}"
        ) from None


def _workflow(run: Run, overrides: Mapping[str, Any]) -> Any:
    from monai.bundle import ConfigWorkflow

    return ConfigWorkflow(
        config_file=_configs(run),
        meta_file=[str(BASE / "metadata.json"), str(run.task.folder / DESCRIPTION)],
        logging_file=False,
        workflow_type="train",
        **overrides,
    )


def _configs(run: Run) -> list[str]:
    """Of several processes, as torchrun starts them, each has its own GPU."""
    several = [str(BASE / "multi_gpu_train.json")] if "LOCAL_RANK" in os.environ else []
    return [str(BASE / "train.json"), *several, str(run.task.folder / VALUES)]


def _places(run: Run, output: Path) -> dict[str, Any]:
    places: dict[str, Any] = {key: str(output) for key in ("bundle_root", "ckpt_dir", "output_dir")}
    places["cache_dir"] = str(run.cache / _preparation(run.known))
    if listed := cases_file(run):
        places["cases_file"] = str(listed)
    if run.device != "auto":
        from ..runtimes.backend import choose_device

        places["device"] = f"$torch.device({str(choose_device(run.device))!r})"
    return places


def _stated(run: Run, places: Mapping[str, Any]) -> dict[str, Any]:
    """The values that come before those of the task's file, with all paths as MONAI must read them."""
    from ..bundle.configs import literal

    local = {key: run.task.values[key] for key in LOCAL if key in run.task.values}
    stated = {**local, **places, **run.values}
    return {key: literal(value) if key in LOCAL and value else value for key, value in stated.items()}


def _preparation(known: Mapping[str, Any]) -> str:
    """Name of a preparation: a hash of the transforms that are not random, the values that they use, and versions."""
    part: Any = base_config("train")["train"]["deterministic_transforms"]
    found, todo = {"transforms": part}, [part]
    while todo:
        for key in set(re.findall(r"@(\w+)", json.dumps(todo.pop()))) - set(found):
            found[key] = known.get(key)
            todo.append(found[key])
    found["versions"] = [__version__, version("monai"), version("torch")]
    return sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _agreed(found: "Measured") -> "Measured":
    """What the first of several processes found."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    shared = [found]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def check_mlflow(address: str) -> None:
    """Refuse to track a training in a folder, which MLflow no longer does, or without its package.

    Raises:
        InputError: no address of a server or database, or the package is missing.
    """
    hosted = "://" in address or address == "databricks"  # a name that MLflow knows
    if address and (not hosted or address.startswith("file:")):
        raise InputError(
            f"tracking by MLflow needs a server or a database such as sqlite:///runs.db, got {address!r}",
            option="mlflow",
        )
    if address and find_spec("mlflow") is None:
        raise InputError("tracking by MLflow needs mlflow, got none; pip install mlflow")


def _track(run: Run, trainer: Any, evaluator: Any) -> None:
    """Track a training; the run is FINISHED after its last step, and goes on if a signal ended it before."""
    if not run.mlflow or rank() > 0:
        return
    from monai.handlers import MLFlowHandler, from_engine

    common = {"tracking_uri": run.mlflow, "experiment_name": run.task.name, "run_name": run.output.name}
    loss = from_engine(["loss"], first=True)
    MLFlowHandler(tag_name="train_loss", output_transform=loss, close_on_complete=True, **common).attach(trainer)
    if evaluator is not None:
        epoch = lambda _: trainer.state.epoch  # noqa: E731 - MONAI's handler takes a function
        handler = MLFlowHandler(iteration_log=False, global_epoch_transform=epoch, **common)
        handler.attach(evaluator)
