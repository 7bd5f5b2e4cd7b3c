"""Calls that not every system has, and what Windows gets instead; no other module of the package makes any.

Two files that run without the package keep theirs: the module of 3D Slicer and MONAI Label's shim.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from .errors import InputError

if sys.platform != "win32":
    import fcntl
    import resource
    import signal


@contextmanager
def locked(path: Path, *, alone: bool, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on a folder or file until the process ends.

    Windows: no lock. What a killed process left stays, and nothing stops a second training in one folder.

    Args:
        path: to lock.
        alone: exclusive lock; else shared.
        wait: until it is free.

    Returns:
        Whether it is held; False: its system has no locks.

    Raises:
        BlockingIOError: it is not free.
    """
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            yield _lock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    else:
        yield False


def _lock(descriptor: int, kind: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            raise
        except OSError:  # some network file systems
            return False
    return True


def unused_memory() -> int | None:
    """Bytes of memory pages that nothing uses at all.

    Windows: None, so that nothing is refused for want of memory.
    """
    return _pages("SC_AVPHYS_PAGES")


def installed_memory() -> int | None:
    """Bytes of memory that the machine has.

    Windows: None, so that `unetpp plan` asks for `--memory`.
    """
    return _pages("SC_PHYS_PAGES")


def _pages(name: str) -> int | None:
    if sys.platform == "win32" or name not in os.sysconf_names:
        return None
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def address_space_limit() -> int | None:
    """Bytes that this process may address (`ulimit -v`); None: no limit.

    Windows: None.
    """
    if sys.platform != "win32":
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return None if limit == resource.RLIM_INFINITY else limit
    return None


def cores() -> int:
    """Cores that this process may use.

    Windows, macOS: all cores of the machine.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_with_pipe(
    command: Sequence[str], lifeline: int, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that has a pipe to this one; it inherits the pipe's descriptor, and another.

    Windows: an error. A cohort runs in one process there.

    Args:
        command: program and arguments; the numbers of both descriptors are added.
        lifeline: the other descriptor.
        environment: of the process.

    Returns:
        The process, and our end of the pipe.

    Raises:
        InputError: this is Windows.
    """
    if sys.platform == "win32":
        raise InputError("workers must be 0 on Windows, got some; segment in one process", option="workers")
    ours, theirs = Pipe()
    descriptors = theirs.fileno(), lifeline
    process = subprocess.Popen(
        [*command, *map(str, descriptors)],
        pass_fds=descriptors,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    return process, ours


def was_killed(code: int) -> bool:
    """Whether a process ended because it was killed (SIGKILL), by its exit code.

    Windows: False.
    """
    return sys.platform != "win32" and code == -signal.SIGKILL


def acknowledge_at_once(connection: socket.socket) -> None:
    """Have the next messages acknowledged without the usual delay of 40 ms.

    Windows, macOS: nothing, so that DICOM instances arrive more slowly.
    """
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
