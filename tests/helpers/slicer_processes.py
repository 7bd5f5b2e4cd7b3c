"""Which processes run, as /proc says: to see that what was ended is gone."""

from pathlib import Path

from helpers.waiting import wait_for


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


def wait_until_gone(pids):
    """Wait until processes have ended; one that nobody waited for counts as ended."""
    wait_for(lambda: not any(_command(pid) for pid in pids), f"the end of processes {pids}")


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
