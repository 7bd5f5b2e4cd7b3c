"""`unetpp train`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import InputError


def train(
    task: Annotated[str, typer.Argument(help="Folder of a task, or the name of one that came along.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for weights and progress; default: runs/fold<N> in the task's."),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="Whose cases validate: 0, 1, ..., several as in 0,1,2, or all: none do.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on.")] = False,
    initial_weights: Annotated[
        Path | None,
        typer.Option("--initial_weights", help="Begin with those of a file, task or bundle, as far as they fit."),
    ] = None,
    dataset: Annotated[Path | None, typer.Option("--dataset", help="Folder of the data; default: the task's.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Instead of the task's value; repeatable.")
    ] = None,
) -> None:
    """Train a task; a training that was interrupted goes on, and one that is finished is left as it is."""
    from ..workflows.train import train as train_task

    overrides = dict(_parse(text) for text in values or [])
    if initial_weights is not None:
        overrides["initial_weights"] = str(initial_weights)
    folds = _folds(fold)
    if output is not None and len(folds) > 1:
        raise InputError(f"an output folder is that of one fold, got {len(folds)}; name one fold, or no folder")
    for one in folds:
        weights = train_task(task, fold=one, output_dir=output, dataset_dir=dataset, overrides=overrides, fresh=fresh)
        Console().print(str(weights), soft_wrap=True)


def _folds(text: str | None) -> list[int | str | None]:
    try:
        return [None] if text is None else [part if part == "all" else int(part) for part in text.split(",")]
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
