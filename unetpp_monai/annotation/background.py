"""Run trainings, scorings and batches in child processes: one at a time, none outlives the server."""

import os
import threading
from typing import Any

import psutil
from monailabel.utils.async_tasks.utils import run_background_task, tasks

PENDING = ("SUBMITTED", "RUNNING")

_starting = threading.Lock()


def start(method: str, request: dict[str, Any], *, name: str, enqueue: bool = False) -> dict[str, Any] | None:
    """Start a task, unless one is pending (double click).

    Args:
        method: "train", "scoring" or "batch_infer".
        request: for the task, including its name.
        name: the key of `request` that names the task.
        enqueue: wait for other tasks; not needed for one of the same name.

    Returns:
        The task as shown by MONAI Label; None: not started.
    """
    with _starting:
        pending = [task["request"].get(name) for task in tasks(method) if task["status"] in PENDING]
        if request[name] in pending or (pending and not enqueue):
            return None
        return run_background_task(request, method)  # type: ignore[no-any-return]


def end_all() -> None:
    """End all child processes and their children."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:  # just ended
            continue
