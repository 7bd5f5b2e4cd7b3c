"""Run `unetpp` as a process of another Python environment. Does not need Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .words import _

SLICERS_OWN = (  # Slicer's variables that would disturb another Python
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "ITK_AUTOLOAD_PATH",
)
PATIENCE_S = 3.0  # between asking the process to end and killing it
ADVICE = _("give the path of python or unetpp of the environment in which unetpp_monai is installed")


class SegmentationError(Exception):
    """An error, with a message for the user."""


@dataclass(frozen=True)
class Options:
    """How to segment."""

    executable: str = ""  # python or unetpp; empty: of the environment of this file, or on the PATH
    bundle: str = ""  # folder, or name of an included task; empty: the included bundle
    depth: str = "full"  # 1, 2, ..., auto or full
    device: str = "auto"  # auto, cpu or cuda:N
    uncertainty: bool = True  # also make the map
    seg_folder: str = ""  # segment the volume's DICOM series and keep a DICOM SEG here; empty: segment the node


class Process(Protocol):
    """A running command."""

    def lines(self) -> list[str]:
        """Return what it printed since the last call."""

    def code(self) -> int | None:
        """Return its exit code once it has ended and all its lines were taken, else None."""

    def end(self) -> None:
        """End it, and what it started; return when it is gone."""


class ExternalProcess:
    """A command in its own process group, without Slicer's variables; a thread reads its output."""

    def __init__(self, parts: Sequence[str], folder: Path) -> None:
        try:
            self._process = subprocess.Popen(
                parts,
                cwd=folder,
                env=environment(parts[0]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            reason = _("{program} cannot be run ({why}); {advice}")
            raise SegmentationError(reason.format(program=parts[0], why=error.strerror, advice=ADVICE)) from error
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self._lines.put(line.rstrip())

    def lines(self) -> list[str]:
        """Return what it printed since the last call."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        return found

    def code(self) -> int | None:
        """Return its exit code once it has ended and all its lines were taken, else None."""
        return None if self._reader.is_alive() or not self._lines.empty() else self._process.poll()

    def end(self) -> None:
        """End it, and what it started; return when it is gone."""
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            try:
                if sys.platform != "win32":
                    os.killpg(self._process.pid, number)
                else:
                    self._process.kill()
                self._process.wait(PATIENCE_S)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
            break
        self._reader.join(PATIENCE_S)


def environment(executable: str) -> dict[str, str]:
    """Return the variables for a program: Slicer's Python needs Slicer's, every other must not have them."""
    own = Path(executable).stem.lower() == "pythonslicer"
    return {name: value for name, value in os.environ.items() if own or name not in SLICERS_OWN}


def find_executable(given: str) -> Path:
    """Find python or unetpp of the environment with unetpp_monai.

    Args:
        given: path, or empty: the environment that this file lies in, or the PATH.

    Raises:
        SegmentationError: there is none.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            reason = _("{program} is not a program that can be run; {advice}")
            raise SegmentationError(reason.format(program=given, advice=ADVICE))
        return Path(found).absolute()
    for folder in Path(__file__).resolve().parents:
        for place in ("bin/unetpp", "Scripts/unetpp.exe", ".venv/bin/unetpp", ".venv/Scripts/unetpp.exe"):
            if (folder / place).is_file():
                return folder / place
    found = shutil.which("unetpp")
    if found is None:
        raise SegmentationError(_("unetpp was not found; {advice}").format(advice=ADVICE))
    return Path(found).absolute()


def program(options: Options) -> list[str]:
    """Return the start of a command line of `unetpp`.

    Raises:
        SegmentationError: there is no executable.
    """
    executable = find_executable(options.executable)
    return [str(executable), *(["-m", "unetpp_monai"] if executable.name.lower().startswith("python") else [])]


def command(options: Options, image: Path, folder: Path) -> list[str]:
    """Return the command line that segments an image file into a folder.

    Raises:
        SegmentationError: there is no executable.
    """
    formats = "segnrrd,dicomseg" if options.seg_folder else "segnrrd"
    parts = [*program(options), "segment", str(image), "-o", str(folder), "--format", formats, "--progress"]
    parts += ["--depth", options.depth, "--device", options.device]
    parts += ["--bundle", options.bundle] if options.bundle else []
    return parts + (["--uncertainty"] if options.uncertainty else [])
