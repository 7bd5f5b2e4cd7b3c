"""Which processes run, as /proc says: to see that what was ended is gone."""

import time
from pathlib import Path


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
