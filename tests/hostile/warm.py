"""Children of a warm process, each with limits of time and memory, and what became of them."""

import contextlib
import faulthandler
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / "unetpp_monai"
LONGEST = 10.0  # seconds
MEMORY = 2 << 30  # bytes above what the warm process has
Report = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    reports: list[Report]  # what it said, in order
    signal: int  # that ended it, 0 for none
    late: bool  # ended, as its time was over
    seconds: float  # it ran
    stdout: str
    stderr: str  # with Python's traceback where it hung or crashed

    def where(self) -> str:
        """Innermost function of ours in a dumped traceback."""
        for path, name in re.findall(r'File "(.+)", line \d+ in (\S+)', self.stderr):
            if Path(path).is_relative_to(ROOT):
                return f"{Path(path).relative_to(ROOT)}:{name}"
        return "?"


def run_child(work: Callable[[Callable[[Report], None]], None], scratch: Path, *, seconds: float = LONGEST) -> Ended:
    """Fork, run `work` in the child within its limits, and wait for its end.

    Args:
        work: gets a function that sends a report, small and JSON, to us.
        scratch: an empty folder of its own; the child's temporary and working folders, stdout and stderr lie there.
        seconds: after which it is killed, with all that it started; counted anew from its first report.
    """
    for name in ("tmp", "cwd"):
        (scratch / name).mkdir()
    receiver, sender = os.pipe()
    start = time.monotonic()
    faulthandler.cancel_dump_traceback_later()  # pytest's: a fork would wait for its thread for ever
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _be_child(work, scratch, sender, seconds)
    os.close(sender)
    said, late = _listen(receiver, seconds)
    status = _ended(child)
    output = [(scratch / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    reports = [json.loads(line) for line in said.decode().splitlines() if line.endswith("}")]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    late = late or os.waitstatus_to_exitcode(status) == 1  # of its own watchdog
    return Ended(reports, number, late, time.monotonic() - start, *output)


def _ended(child: int) -> int:
    """Wait for a child's end, and end all that it started; its own watchdog comes first and says where it was."""
    until = time.monotonic() + LONGEST
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return ended[1] if ended[0] else os.waitpid(child, 0)[1]


def _listen(receiver: int, seconds: float) -> tuple[bytes, bool]:
    """What came until the other end was closed, and whether it was not closed in time."""
    said, until = b"", time.monotonic() + seconds
    with os.fdopen(receiver, "rb", buffering=0) as pipe:
        while (left := until - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                part = pipe.read(1 << 16)
                if not part:
                    return said, False
                until = until if said else time.monotonic() + seconds
                said += part
    return said, True


def _be_child(work: Callable[[Callable[[Report], None]], None], scratch: Path, sender: int, seconds: float) -> None:
    """Never returns."""
    os.setsid()
    os.chdir(scratch / "cwd")
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch / "tmp")
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    faulthandler.dump_traceback_later(seconds, exit=True)
    limit_memory(MEMORY)
    said: list[Report] = []

    def say(report: Report) -> None:
        if not said:
            faulthandler.dump_traceback_later(seconds, exit=True)
        said.append(report)
        os.write(sender, json.dumps(report).encode() + b"\n")

    try:
        work(say)
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a copy of its parent
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def limit_memory(more: int) -> None:
    """Let this process take no more than `more` bytes of address space besides those that it has; no core files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
