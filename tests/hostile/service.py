"""A listener's process that is killed, started again, and watched."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from helpers import ROOT

from hostile.report import Fault

NAMES = ("Phantom^", "PHANTOM-1")  # of the patient of every study, which no log may hold


class Service:
    """Keeps a process running, as a supervisor of services does.

    Args:
        command: what to run, after Python.
        log: where it writes.
        poison: what an administrator takes out of its spool when it has died of it, series UIDs.
        spool: of the listener.
        own_ends: of its own accord, after which it is not started again.
    """

    def __init__(self, command: list[str], log: Path, *, poison: set[str], spool: Path, own_ends: int) -> None:
        self.command, self.log, self.poison, self.spool = command, log, poison, spool
        self.faults: list[Fault] = []
        self.own_ends, self.most_own_ends = 0, own_ends
        self._lock = threading.Lock()
        self._stopped = False
        self._start()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *self.command], stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def kill(self) -> None:
        """`kill -9`, and start again."""
        with self._lock:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self._start()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self.process.kill()
            self.process.wait()
        self._watcher.join()
        log = self.log.read_text(errors="replace")
        if any(name in log for name in NAMES):
            line = next(line for line in log.splitlines() if any(name in line for name in NAMES))
            self.faults.append(Fault("a log names a patient", line[:200]))

    def _watch(self) -> None:
        """Start it again whenever it ended of its own accord, which is a fault."""
        while not self._stopped:
            with self._lock:
                code = self.process.poll()
                if code is not None and not self._stopped and self.own_ends < self.most_own_ends:
                    self.own_ends += 1
                    last = (self.log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                    self.faults.append(Fault("the service ended of its own accord", f"exit {code}: {last[:200]}"))
                    self._take_poison_out()
                    self._start()
            time.sleep(0.1)

    def _take_poison_out(self) -> None:
        """What an administrator would do, so that the rest can still be judged."""
        for folder in (self.spool / "incoming").glob("*"):
            if folder.name in self.poison:
                shutil.rmtree(folder, ignore_errors=True)
