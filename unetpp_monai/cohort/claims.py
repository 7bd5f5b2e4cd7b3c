"""Claim files: which process works on which case.

A process creates a claim, touches it regularly, and loses it to others if it stops. Claims need nothing but one folder,
so they also work between machines on a network share: ages are differences between times of the file server, and if
several processes want a claim, the one whose rename succeeds gets it.
"""

import errno
import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OutputError

BEAT_SECONDS = 10.0  # between two touches of a claim by its owner
STALE_SECONDS = 60.0  # after the last touch, when others may take a claim over
LEFT_SECONDS = 3600.0  # age at which temporary files of killed processes are removed
PROC = Path("/proc")
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of file systems without hard links


class Claims:
    """The claims of one process; a context manager that keeps touching them.

    Args:
        folder: existing folder of all claims.
        beat: seconds between two touches.
        stale: seconds after the last touch, when others may take a claim over.
    """

    def __init__(self, folder: Path, *, beat: float = BEAT_SECONDS, stale: float = STALE_SECONDS) -> None:
        self.folder, self.beat, self.stale = folder, beat, stale
        self.token = uuid.uuid4().hex
        self._clock = folder / f".clock-{self.token}"
        self._held: set[Path] = set()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Claims":
        self._thread = threading.Thread(target=self._live, name="claims", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        for path in list(self._held):
            self.drop(path.name)
        self._clock.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Claim a case; False: another process has it.

        Raises:
            OutputError: the folder is not writable.
        """
        path = self.folder / name
        try:
            mine = {"token": self.token, "host": socket.gethostname(), **_process()}
            if not _make(path, mine) and not (self._take_over(path) and _make(path, mine)):
                return False
        except OSError as error:
            raise OutputError(f"claims must be writable, got {error.strerror} for {self.folder}") from error
        self._held.add(path)
        return True

    def secure(self, name: str) -> bool:
        """Reserve the delivery of a case, just before it; False: another process has taken the claim over."""
        path, mine = self.folder / name, self._aside(name)
        self._held.discard(path)
        with suppress(FileNotFoundError):
            path.rename(mine)
            if self._is_ours(mine):
                return True
            _put_back(mine, path)  # it belongs to another process
        return False

    def drop(self, name: str) -> None:
        """Remove a claim, if it is still ours."""
        path = self.folder / name
        self._held.discard(path)
        self._aside(name).unlink(missing_ok=True)
        if self._is_ours(path):
            path.unlink(missing_ok=True)

    def now(self) -> float:
        """Return the time of the folder's file server, s."""
        self._clock.touch()
        return self._clock.stat().st_mtime

    def running(self) -> dict[str, dict[str, Any]]:
        """Return the claims of living owners: name -> content."""
        now = self.now()
        claims = [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")]
        return {path.name: _read(path) for path in claims if not self._is_dead(path, now)}

    def clean_up(self) -> None:
        """Remove temporary files of killed processes."""
        now = self.now()
        for path in self.folder.glob(".*"):
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > LEFT_SECONDS:
                    path.unlink()

    def _take_over(self, path: Path) -> bool:
        """Take a claim from a dead owner; False: it lives, or another process was faster."""
        found = _read(path)
        if not self._is_dead(path, self.now()):
            return False
        aside = self._aside(path.name)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        taken = _read(aside)
        if taken != found:  # another process took it over before our rename
            _put_back(aside, path)
            return False
        aside.unlink(missing_ok=True)
        return True

    def _is_dead(self, path: Path, now: float) -> bool:
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:  # removed meanwhile
            return True
        return age > self.stale or _has_ended(_read(path))

    def _is_ours(self, path: Path) -> bool:
        return _read(path).get("token") == self.token

    def _aside(self, name: str) -> Path:
        return self.folder / f".{name}-{self.token}"

    def _live(self) -> None:
        while not self._end.wait(self.beat):
            for path in list(self._held):
                with suppress(OSError):  # removed meanwhile, or the server is away for a moment
                    os.utime(path)  # without times: the server sets its own


def _make(path: Path, owner: dict[str, Any]) -> bool:
    """Create a claim; False: it exists. It appears with its content, where the file system has hard links."""
    content = json.dumps(owner)
    written = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        written.write_text(content)
        return _link(written, path) or _create(path, content)
    except FileExistsError:
        return False
    finally:
        written.unlink(missing_ok=True)


def _put_back(aside: Path, path: Path) -> None:
    """Rename a claim back, unless there is another one meanwhile."""
    with suppress(FileExistsError):
        _link(aside, path) or _create(path, aside.read_text())
    aside.unlink()


def _link(source: Path, path: Path) -> bool:
    """Give a file another name, which must not exist; False: the file system has no hard links."""
    try:
        path.hardlink_to(source)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    return True


def _create(path: Path, content: str) -> bool:
    """Create a file, which must not exist."""
    with path.open("x") as file:
        file.write(content)
    return True


def _read(path: Path) -> dict[str, Any]:
    """Read a claim; empty if it is missing or not yet complete."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _process() -> dict[str, Any]:
    """Return what identifies this process on its machine; empty if the system cannot tell."""
    try:
        return {"machine": _machine(), "pid": os.getpid(), "start": _start(os.getpid())}
    except OSError:  # not Linux: only age tells whether an owner is dead
        return {}


def _has_ended(owner: dict[str, Any]) -> bool:
    """Tell whether an owner was a process of this machine and has ended."""
    try:
        if "machine" not in owner or owner["machine"] != _machine():
            return False
        return _start(int(owner["pid"])) != str(owner["start"])
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _machine() -> str:
    """Identify this boot of this machine, and its process namespace."""
    return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"


def _start(pid: int) -> str:
    """Return when a process began, in ticks since boot; empty for a zombie."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
