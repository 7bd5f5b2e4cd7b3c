"""Tasks in processes of their own: trainings, scorings, batches. One at a time, and none outlives the server."""

import os
import threading
from typing import Any

import psutil
from monailabel.utils.async_tasks.utils import run_background_task, tasks

PENDING = ("SUBMITTED", "RUNNING")

_starting = threading.Lock()


def start(method: str, request: dict[str, Any], *, name: str, enqueue: bool = False) -> dict[str, Any] | None:
    """Start a task, unless one is pending: a double click starts one.

    Args:
        method: "train", "scoring" or "batch_infer".
        request: for the task, with what names it.
        name: the key of `request` that names the task.
        enqueue: wait for others; for one of the same name there is no need to.

    Returns:
        The task as MONAI Label shows it; None: it was not started.
    """
    with _starting:
        pending = [task["request"].get(name) for task in tasks(method) if task["status"] in PENDING]
        if request[name] in pending or (pending and not enqueue):
            return None
        return run_background_task(request, method)  # type: ignore[no-any-return]


def end_all() -> None:
    """End all processes that this one started, and theirs."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:  # it has just ended
            continue
