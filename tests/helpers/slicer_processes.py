"""Which processes run, as /proc says: to see that what was ended is gone."""

import time
from pathlib import Path

import pytest


def children(pid):
    """Processes that a process started, and theirs."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs Linux's /proc")
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return found + [other for child in found for other in children(child)]


def working_in(folder):
    """Processes whose working folder lies in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve().is_relative_to(folder) and (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(pids, seconds=5.0):
    """Whether processes end within some time; one that nobody waited for counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}/cmdline").is_file() and _command(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
