"""Workers on this machine: one process and pipe each, so the death of one affects no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from ..errors import OutputError
from ..memory import memory_kills
from ..posix_only import start_with_pipe, was_killed
from .dispatch import Lost
from .ledger import Outcome
from .messages import Broken, Ready, Start
from .work import Task

MOST_STARTS = 3  # per worker: failed starts in a row until the run is given up
END_SECONDS = 5.0  # granted to a worker to end by itself
SHORT_OF_MEMORY = "was ended by the system for lack of memory"


@dataclass
class _Worker:
    """A process and its present task."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    task: Task | None = None
    ready: bool = False


class Workers:
    """A crew of processes on this machine.

    Args:
        count: number of workers.
        start: first message to each.
        threads: of each worker; None: no limit.
    """

    def __init__(self, count: int, start: Start, *, threads: int | None = None) -> None:
        self._count, self._start, self._threads = count, start, threads
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._kills = memory_kills()
        self._lifeline: tuple[int, int] = (-1, -1)

    def __enter__(self) -> "Workers":
        self._lifeline = os.pipe()  # it closes when this process ends, however that happens
        self._workers = [self._begin() for _ in range(self._count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.pipe.close()
            if kind is not None:
                worker.process.terminate()
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(END_SECONDS)
        for end in self._lifeline:
            os.close(end)
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()

    def has_room(self) -> bool:
        """As `Crew.has_room`."""
        return any(worker.task is None for worker in self._workers)

    def give(self, task: Task) -> None:
        """As `Crew.give`."""
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task = task
        with suppress(OSError):  # it has just died; `wait` will notice
            worker.pipe.send(task)

    def wait(self) -> Sequence[Outcome | Lost]:
        """As `Crew.wait`.

        Raises:
            OutputError: workers cannot load the model or cannot write.
        """
        events: list[Outcome | Lost] = []
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                said = worker.pipe.recv()
            except (EOFError, OSError):
                events += self._replace(worker)
                continue
            if isinstance(said, Broken):
                raise OutputError(said.message, option=said.option)
            if isinstance(said, Ready):
                worker.ready, self._failed_starts = True, 0
            else:
                worker.task = None
                events.append(said)
        return events

    def processes(self) -> list[int]:
        """Return the ids of the processes."""
        return [worker.process.pid for worker in self._workers]

    def _replace(self, dead: _Worker) -> list[Lost]:
        """Replace a dead worker; return the case that it had, if any."""
        code = dead.process.wait()
        dead.pipe.close()
        how = _how(code)
        fresh = self._begin()
        self._workers[self._workers.index(dead)] = fresh
        if not dead.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_STARTS * self._count:  # several may die at once
                raise OutputError(
                    f"workers must load the model, got {self._failed_starts} that did not; the last {how}"
                )
            if dead.task is not None:  # the case is not to blame
                fresh.task = dead.task
                fresh.pipe.send(dead.task)
            return []
        kills, self._kills = self._kills, memory_kills()
        memory = was_killed(code) and self._kills > kills
        return [] if dead.task is None else [Lost(dead.task.case, SHORT_OF_MEMORY if memory else how, memory)]

    def _begin(self) -> _Worker:
        command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-m", f"{__package__}.worker"]
        process, ours = start_with_pipe(command, self._lifeline[0], self._environment())
        ours.send(self._start)
        return _Worker(process, ours)

    def _environment(self) -> dict[str, str]:
        """Return our environment, with the path of this package and the number of threads."""
        package = str(Path(__file__).parents[2])
        places = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        if self._threads is not None:
            for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
                environment[name] = str(self._threads)
        return environment


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
