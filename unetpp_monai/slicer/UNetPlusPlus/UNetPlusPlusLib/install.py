"""Install unetpp_monai by pip: into Slicer's Python, or a separate environment. Does not need Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from .process import ExternalProcess, Process, SegmentationError, environment
from .words import _

PACKAGE = "unetpp_monai[dicom]"  # or a wheel's path or URL
NEEDED = (3, 11)  # Python version, as the package requires
APART = _("install into a separate environment, or name the python of one under Environment")
ENVIRONMENT = Path.home() / "UNetPlusPlus_environment"  # the separate one
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3", "python")  # programs that may be able to create it
TIMEOUT_S = 20.0  # for the answer of one of them
PIP = ("-m", "pip", "install", "--progress-bar", "off", "--no-input", "--disable-pip-version-check")


def own_packages(found: Iterable[Distribution]) -> list[str]:
    """Pin every installed package to its version, so that pip leaves them alone or refuses.

    Args:
        found: what is installed.

    Returns:
        Lines of a constraints file.
    """
    pins = {(one.metadata["Name"], one.version) for one in found if one.metadata["Name"] and one.version}
    return sorted(f"{name}=={version}" for name, version in pins if not name.lower().startswith("unetpp"))


def base_python(given: str) -> str:
    """Find a Python that can create a separate environment.

    Args:
        given: path, which counts if it is a python; else those on the PATH do.

    Raises:
        SegmentationError: there is none.
    """
    name = Path(given).stem.lower()
    named = [given] if name.startswith("python") and name != "pythonslicer" else []
    for found in filter(None, map(shutil.which, [*named, *PYTHONS])):
        python = str(Path(found).absolute())
        if _makes_environments(python):
            return python
    reason = _("a separate environment needs Python {need} or later on this computer, none was found; install one")
    raise SegmentationError(reason.format(need=".".join(map(str, NEEDED))))


def _makes_environments(python: str) -> bool:
    """Tell whether a Python runs, is recent enough, and can create environments."""
    question = f"import ensurepip, sys, venv; sys.exit(sys.version_info < {NEEDED})"
    try:
        asked = subprocess.run(
            [python, "-c", question], env=environment(python), capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


class Installation:
    """One installation by pip: `begin` or `begin_apart`, then `update` until it returns the Python with the package.

    `cancel` ends it early.

    Args:
        start: starts a command in a folder; what tests replace.
    """

    def __init__(self, start: Callable[[Sequence[str], Path], Process] = ExternalProcess) -> None:
        self._start = start
        self._process: Process | None = None
        self._folder: Path | None = None
        self._apart: Path | None = None  # the environment that is being created
        self._steps: list[list[str]] = []  # commands still to run
        self._python = ""  # which gets the package
        self.log: list[str] = []  # output of pip

    @property
    def running(self) -> bool:
        """Tell whether pip is running."""
        return self._process is not None

    def begin(self, python: str, package: str = PACKAGE, *, version: tuple[int, int] | None = None) -> None:
        """Start pip.

        Args:
            python: the interpreter into which it installs, as Slicer's PythonSlicer.
            package: what pip takes: a name with extras, a wheel's path or a URL.
            version: of that Python; None: of the one that runs this.

        Raises:
            SegmentationError: pip runs already, or that Python is too old.
        """
        self._check_free()
        had = version or (sys.version_info.major, sys.version_info.minor)
        if had < NEEDED:
            need, have = (".".join(map(str, one)) for one in (NEEDED, had))
            reason = _("unetpp_monai needs Python {need} or later, Slicer has {have}; {advice}")
            raise SegmentationError(reason.format(need=need, have=have, advice=APART))
        self._folder = Path(tempfile.mkdtemp(prefix="unetpp_install_"))
        pins = self._folder / "constraints.txt"
        pins.write_text("\n".join(own_packages(distributions())) + "\n", encoding="utf-8")
        self._python, self.log = python, []
        self._next([[python, *PIP, "-c", str(pins), package]])

    def begin_apart(self, python: str, package: str = PACKAGE, folder: Path = ENVIRONMENT) -> None:
        """Start to create a separate environment, independent of Slicer.

        Args:
            python: makes it.
            package: what pip takes.
            folder: where it goes; removed if that fails.

        Raises:
            SegmentationError: pip runs already, or the folder is there.
        """
        self._check_free()
        if folder.exists():
            reason = _("the separate environment must be new, {folder} is there; name its python, or remove it")
            raise SegmentationError(reason.format(folder=folder))
        own = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._folder, self._apart = Path(tempfile.mkdtemp(prefix="unetpp_install_")), folder
        self._python, self.log = str(own), []
        self._next([[python, "-m", "venv", str(folder)], [str(own), *PIP, package]])

    def update(self) -> str:
        """Read the output of pip; return the Python when the package is installed, else nothing.

        Raises:
            SegmentationError: pip failed, or does not run.
        """
        if self._process is None:
            raise SegmentationError(_("nothing is being installed; begin first"))
        self.log += [line for line in self._process.lines() if line.strip()]
        code = self._process.code()
        if code is None:
            return ""
        if code != 0:
            kept = "" if self._apart else _("Nothing of Slicer's was changed. If versions conflict, {advice}")
            self._remove()
            said = [line for line in self.log if line.startswith(("ERROR: ", "Error: "))] or self.log[-5:]
            raise SegmentationError("\n".join(filter(None, [*said, kept.format(advice=APART)])))
        if self._steps:
            self._next(self._steps)
            return ""
        self._apart = None
        self._remove()
        return self._python

    def cancel(self) -> None:
        """End pip, if it runs."""
        if self._process is not None:
            self._process.end()
        self._remove()

    def _check_free(self) -> None:
        if self.running:
            raise SegmentationError(_("one installation can run at a time; wait for it, or cancel it"))

    def _next(self, steps: list[list[str]]) -> None:
        """Start the first of several commands, and keep the others for later."""
        if self._folder is None:
            raise SegmentationError(_("nothing is being installed; begin first"))
        try:
            self._process, self._steps = self._start(steps[0], self._folder), steps[1:]
        except SegmentationError:
            self._remove()
            raise

    def _remove(self) -> None:
        """Remove temporary files of the installation, and an incomplete environment."""
        for folder in filter(None, (self._folder, self._apart)):
            shutil.rmtree(folder, ignore_errors=True)
        self._process = self._folder = self._apart = None
        self._steps = []
