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
        Path | None, typer.Option("-o", "--output", help="Folder for weights and progress; default: runs/<task>.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option("--dataset", help="Folder of the data; default: the task's.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Instead of the task's value; repeatable.")
    ] = None,
) -> None:
    """Train a task: a folder with task.json and metadata.json, values over the base configs."""
    from ..workflows.train import train as train_task

    overrides = dict(_parse(text) for text in values or [])
    weights = train_task(task, output_dir=output, dataset_dir=dataset, overrides=overrides)
    Console().print(str(weights), soft_wrap=True)


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"values to set must be KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value  # a text
