"""Who works on a case: one small file each, made once, kept fresh by its owner, and taken over when it grows stale.

Only files of one folder are used, so that it works on a network share of several machines: ages are differences between
times that its server gave, and of several that want a claim the one whose rename succeeds has it.
"""

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

BEAT_SECONDS = 10.0  # between two signs of life of an owner
STALE_SECONDS = 60.0  # without one, after which a claim is anybody's
LEFT_SECONDS = 3600.0  # after which small files of processes that were killed go
PROC = Path("/proc")


class Claims:
    """The claims of one process; a context manager that gives signs of life.

    Args:
        folder: of all claims; it exists.
        beat: seconds between two signs of life.
        stale: seconds without one, after which others take a claim over.
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
        """Claim a case; False: it is another's.

        Raises:
            OutputError: the folder cannot be written.
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
        """Take the right to deliver a case away from all others; False: one of them has taken the claim over."""
        path, mine = self.folder / name, self._aside(name)
        self._held.discard(path)
        with suppress(FileNotFoundError):
            path.rename(mine)
            if self._is_ours(mine):
                return True
            _make(path, _read(mine))  # it was another's: back to its place
            mine.unlink()
        return False

    def drop(self, name: str) -> None:
        """Give a claim back, if it is still ours."""
        path = self.folder / name
        self._held.discard(path)
        self._aside(name).unlink(missing_ok=True)
        if self._is_ours(path):
            path.unlink(missing_ok=True)

    def now(self) -> float:
        """Time as the server of the folder has it, s."""
        self._clock.touch()
        return self._clock.stat().st_mtime

    def running(self) -> dict[str, dict[str, Any]]:
        """Claims whose owners live: name -> what they say of themselves."""
        now = self.now()
        claims = [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")]
        return {path.name: _read(path) for path in claims if not self._is_dead(path, now)}

    def clean_up(self) -> None:
        """Remove what killed processes left: their clocks, and claims that they were about to deliver."""
        now = self.now()
        for path in self.folder.glob(".*"):
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > LEFT_SECONDS:
                    path.unlink()

    def _take_over(self, path: Path) -> bool:
        """Take a claim from an owner that is dead; False: it lives, or another was faster."""
        found = _read(path)
        if not self._is_dead(path, self.now()):
            return False
        aside = self._aside(path.name)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        taken = _read(aside)
        if taken != found:  # another has taken it over between the look and the rename: it keeps it
            _make(path, taken)
        aside.unlink(missing_ok=True)
        return taken == found

    def _is_dead(self, path: Path, now: float) -> bool:
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:  # delivered or given back just now
            return True
        return age > self.stale or _has_ended(_read(path))

    def _is_ours(self, path: Path) -> bool:
        return _read(path).get("token") == self.token

    def _aside(self, name: str) -> Path:
        return self.folder / f".{name}-{self.token}"

    def _live(self) -> None:
        while not self._end.wait(self.beat):
            for path in list(self._held):
                with suppress(OSError):  # given back just now, or a server that is away for a moment
                    os.utime(path)  # without times: those of the server


def _make(path: Path, owner: dict[str, Any]) -> bool:
    """Make a claim; False: there is one."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(owner))
    return True


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing if it is gone, or not whole yet."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _process() -> dict[str, Any]:
    """What tells this process from all others, where the system says so."""
    try:
        return {"machine": _machine(), "pid": os.getpid(), "start": _start(os.getpid())}
    except OSError:  # no Linux: only time tells who is dead
        return {}


def _has_ended(owner: dict[str, Any]) -> bool:
    """Whether an owner was a process of this machine that is gone."""
    try:
        if "machine" not in owner or owner["machine"] != _machine():
            return False
        return _start(int(owner["pid"])) != str(owner["start"])
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _machine() -> str:
    """This start of this machine, and which of its processes see each other."""
    return f"{(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"


def _start(pid: int) -> str:
    """When a process began, in ticks since the machine did; of one that has ended but not been waited for, nothing."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
