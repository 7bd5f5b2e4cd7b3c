"""`unetpp train`."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..durations import seconds_of
from ..errors import InputError, StoppedError
from .common import DeviceOption, console

TERMINATED = 128 + signal.SIGTERM  # exit code of a process that SIGTERM ended, see `main`


def train(
    task: Annotated[str, typer.Argument(help="Folder of a task, or the name of an included one.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder for weights and progress; default: runs/fold<N> in the task folder."
        ),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="Validation fold: 0, 1, ..., several such as 0,1,2, or all: train on all cases.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start again instead of resuming.")] = False,
    initial_weights: Annotated[
        Path | None,
        typer.Option("--initial_weights", help="Start from weights of a file, task or bundle, as far as they fit."),
    ] = None,
    time: Annotated[
        str, typer.Option(help="Time for each fold, such as 2h, 90min or 30s; converted to steps at the start.")
    ] = "",
    steps: Annotated[int | None, typer.Option(help="Steps for each fold, instead of a time.")] = None,
    device: DeviceOption = "auto",
    mlflow: Annotated[str, typer.Option(metavar="URI", help="Also track the training with MLflow.")] = "",
    dataset: Annotated[Path | None, typer.Option("--dataset", help="Data folder; default: the task's.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the task; repeatable.")
    ] = None,
) -> None:
    """Train a task; resumes an interrupted training, and keeps a finished one."""
    from ..workflows.train import check_folds
    from ..workflows.train import train as train_task
    from ..workflows.training_run import rank

    overrides = dict(_parse(text) for text in values or [])
    if initial_weights is not None:
        overrides["initial_weights"] = str(initial_weights)
    folds = _folds(fold)
    if output is not None and len(folds) > 1:
        raise InputError(f"an output folder takes one fold, got {len(folds)}; name one fold, or no folder")
    check_folds(task, folds, overrides=overrides)
    seconds = seconds_of(time) if time else None
    with shown_lines(), stopping():
        for one in folds:
            weights = train_task(
                task,
                fold=one,
                output_dir=output,
                dataset_dir=dataset,
                overrides=overrides,
                fresh=fresh,
                time=seconds,
                steps=steps,
                device=device,
                mlflow=mlflow,
            )
            if rank() == 0:
                Console().print(str(weights), soft_wrap=True, markup=False, highlight=False)


class _Lines(logging.Handler):
    """Shows the logs of our own modules."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line on stderr."""
        console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown_lines() -> Iterator[None]:
    """Print the logs of our own modules within the block."""
    logger, handler = logging.getLogger("unetpp_monai"), _Lines(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def stopping() -> Iterator[None]:
    """Report a signal that came before the first step, or twice."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError("stopped; run the same command to resume", signal=signal.SIGINT) from None
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        raise StoppedError("stopped; run the same command to resume", signal=signal.SIGTERM) from None


def _folds(text: str | None) -> list[int | str | None]:
    try:
        return (
            [None]
            if text is None
            else [part if part == "all" else int(part) for part in text.replace(" ", "").split(",")]
        )
    except ValueError as error:
        raise InputError(f"folds must be numbers as in 0,1,2, or all, got {text!r}") from error


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"values to set must be KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value  # a text
