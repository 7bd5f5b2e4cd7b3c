"""Check free memory before allocating it. Independent of images."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError
from .posix_only import address_space_limit, unused_memory

GIB = 1 << 30
CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def check_memory(needed: int, what: str, *, way_out: str) -> None:
    """Check that memory suffices.

    Args:
        needed: bytes.
        what: start of the message, such as "the voxels of a.nii".
        way_out: end of the message.

    Raises:
        InputError: not enough memory.
    """
    free = available_memory()
    if free is not None and needed > free:
        raise InputError(f"{what} need {needed / GIB:.3g} GiB of memory, got {free / GIB:.3g} GiB free; {way_out}")


def available_memory() -> int | None:
    """Return the bytes free to this process by machine, control group and own limit; None: unknown."""
    return min((max(free, 0) for free in (*_of_machine(), *_of_groups(), *_of_process())), default=None)


def memory_kills() -> int:
    """Return the number of processes killed for lack of memory since boot; 0 if unknown."""
    lines = (line.split() for line in _text(PROC / "vmstat").splitlines())
    return sum(int(value) for name, value in lines if name == "oom_kill")


def _of_machine() -> Iterator[int]:
    for line in _text(PROC / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
            return
    unused = unused_memory()  # no Linux
    if unused is not None:
        yield unused


def _of_groups() -> Iterator[int]:
    """Yield the free bytes of this control group (version 2 or 1) and its parents."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUP / "memory" if controllers else CGROUP
        limit, used = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            numbers = [_text(folder / f"memory.{part}").strip() for part in (limit, used)]
            if all(number.isdecimal() for number in numbers):  # "max": no limit
                yield int(numbers[0]) - int(numbers[1]) + _reclaimable(folder)


def _reclaimable(group: Path) -> int:
    """Return the bytes of file cache of a group, which the kernel frees on demand."""
    pairs = (line.split() for line in _text(group / "memory.stat").splitlines())
    return sum(int(value) for name, value in pairs if name == "inactive_file")


def _of_process() -> Iterator[int]:
    """Yield the free bytes by `ulimit -v`."""
    limit = address_space_limit()
    pages = _text(PROC / "self" / "statm").split()
    if limit is not None and pages:
        yield limit - int(pages[0]) * mmap.PAGESIZE


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
