"""Install unetpp_monai into a Python, as Slicer's, by pip in a process apart. Knows nothing of Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from .process import ExternalProcess, Process, SegmentationError
from .words import _

PACKAGE = "unetpp_monai[dicom]"  # or a wheel's path or URL
NEEDED = (3, 11)  # Python, as the package says
APART = _("make an environment with such a Python, install there, and name its python under Environment")


def own_packages(found: Iterable[Distribution]) -> list[str]:
    """Pin every installed package to its version, so that pip leaves them alone or refuses.

    Args:
        found: what is installed.

    Returns:
        Lines of a constraints file.
    """
    pins = {(one.metadata["Name"], one.version) for one in found if one.metadata["Name"] and one.version}
    return sorted(f"{name}=={version}" for name, version in pins if not name.lower().startswith("unetpp"))


class Installation:
    """One installation by pip: `begin`, then `update` until it returns True; `cancel` ends it early.

    Args:
        start: starts a command in a folder; what tests replace.
    """

    def __init__(self, start: Callable[[Sequence[str], Path], Process] = ExternalProcess) -> None:
        self._start = start
        self._process: Process | None = None
        self._folder: Path | None = None
        self.log: list[str] = []  # what pip said

    @property
    def running(self) -> bool:
        """Whether pip runs."""
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
        if self.running:
            raise SegmentationError(_("one installation can run at a time; wait for it, or cancel it"))
        had = version or (sys.version_info.major, sys.version_info.minor)
        if had < NEEDED:
            need, have = (".".join(map(str, one)) for one in (NEEDED, had))
            reason = _("unetpp_monai needs Python {need} or later, Slicer has {have}; {advice}")
            raise SegmentationError(reason.format(need=need, have=have, advice=APART))
        self.log = []
        self._folder = Path(tempfile.mkdtemp(prefix="unetpp_install_"))
        pins = self._folder / "constraints.txt"
        pins.write_text("\n".join(own_packages(distributions())) + "\n", encoding="utf-8")
        command = [python, "-m", "pip", "install", "--progress-bar", "off", "--no-input", "-c", str(pins), package]
        try:
            self._process = self._start(command, self._folder)
        except SegmentationError:
            self._clear()
            raise

    def update(self) -> bool:
        """Take note of what pip said; return True once it has installed.

        Raises:
            SegmentationError: pip failed, or does not run.
        """
        if self._process is None:
            raise SegmentationError(_("nothing is being installed; begin first"))
        self.log += [line for line in self._process.lines() if line.strip()]
        code = self._process.code()
        if code is None:
            return False
        self._clear()
        if code != 0:
            said = [line for line in self.log if line.startswith("ERROR: ")] or self.log[-5:]
            kept = _("Nothing of Slicer's was changed. If versions conflict, {advice}").format(advice=APART)
            raise SegmentationError("\n".join([*said, kept]))
        return True

    def cancel(self) -> None:
        """End pip, if it runs."""
        if self._process is not None:
            self._process.end()
        self._clear()

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._folder = None
