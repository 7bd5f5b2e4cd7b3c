"""`unetpp segment` as a child of a warm process, killed by the clock or before one of its file operations."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

NEVER = 1 << 60  # an operation that does not come
OPERATIONS = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")  # events of Python's audit hooks


@dataclass
class Run:
    """A child that segments."""

    pid: int
    log: Path  # its stdout and stderr
    started: float  # monotonic seconds

    def wait(self, seconds: float = 300.0) -> int:
        """Wait for the end; return the exit code, negative the signal. What takes longer is killed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if code := self.poll():
                return code[0]
            time.sleep(0.005)
        self.kill()
        return self.wait()

    def poll(self) -> tuple[int] | None:
        """The exit code as a tuple of one, None while it runs."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status),) if ended else None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


def start(arguments: list[str], output: Path, log: Path, *, die_before: int = NEVER) -> Run:
    """Fork a child that runs the command line.

    Args:
        arguments: of `unetpp`.
        output: folder whose file operations are counted.
        log: for its stdout and stderr; beside it lie its temporary folder and the number of operations.
        die_before: which file operation below `output`, counted from 1, it does not live to do.
    """
    shutil.rmtree(log.with_suffix(".tmp"), ignore_errors=True)
    log.with_suffix(".tmp").mkdir()
    pid = os.fork()
    if pid:
        return Run(pid, log, time.monotonic())
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        tempfile.tempdir = os.environ["TMPDIR"] = str(log.with_suffix(".tmp"))
        count = _count_operations(output, die_before)
        code = _run(arguments)
        log.with_suffix(".operations").write_text(str(count[0]))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(arguments: list[str]) -> int:
    """Exit code of the command line; a traceback is printed as Python would."""
    import traceback

    from unetpp_monai.cli import main

    sys.argv = ["unetpp", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - shown as the interpreter would show it
        traceback.print_exc()
        return 1
    return 0


def _count_operations(folder: Path, die_before: int) -> list[int]:
    """Count the operations that change a folder, and be killed before one of them."""
    count = [0]
    prefix = str(folder)

    def hook(event: str, arguments: tuple) -> None:
        if event not in OPERATIONS or not str(arguments[0]).startswith(prefix):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        count[0] += 1
        if count[0] == die_before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count
