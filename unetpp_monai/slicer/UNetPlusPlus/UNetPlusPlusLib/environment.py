"""The panel's section Environment: install the package, and get bundles from a URL."""

from __future__ import annotations  # Slicer's Python may be 3.9

import shutil
from collections.abc import Callable
from typing import Any

from .download import BundleDownload
from .install import ENVIRONMENT, PACKAGE, Installation, base_python
from .words import _

NATIVE = "PythonSlicer"  # Slicer's own interpreter, on the PATH within Slicer


class Environment:
    """What the buttons of the section do: one of them at a time begins, `update` is called until nothing runs.

    Args:
        ui: the panel's widgets.
        confirm: asks the user.
    """

    def __init__(self, ui: Any, confirm: Callable[[str], bool]) -> None:
        self._ui, self._confirm = ui, confirm
        self._installation = Installation()
        self._download = BundleDownload(confirm)
        ui.packageEdit.text = PACKAGE

    @property
    def running(self) -> bool:
        """Whether something is installed or downloaded."""
        return any(work.running for work in (self._installation, self._download))

    @property
    def comment(self) -> str:
        """What it does at the moment."""
        what: str = _("installing") if self._installation.running else _("downloading")
        return what if self.running else ""

    @property
    def log(self) -> list[str]:
        """What pip said."""
        return self._installation.log

    def install(self) -> None:
        """Install the package into Slicer's Python, once the user has said yes.

        Raises:
            SegmentationError: it cannot begin.
        """
        question = _(
            "Install {package} into Slicer's Python? pip downloads what it needs, which can be several gigabytes. "
            "Packages that are installed keep their versions."
        )
        if self._confirm(question.format(package=self._package)):
            self._installation.begin(shutil.which(NATIVE) or NATIVE, self._package)

    def install_apart(self) -> None:
        """Install the package into an environment of its own, once the user has said yes.

        Raises:
            SegmentationError: it cannot begin.
        """
        python = base_python(self._ui.executablePath.currentPath)
        question = _(
            "Make the environment {folder} by {python} and install {package} there? pip downloads what it needs, which "
            "can be several gigabytes. Slicer's Python stays as it is."
        )
        if self._confirm(question.format(folder=ENVIRONMENT, python=python, package=self._package)):
            self._installation.begin_apart(python, self._package)

    @property
    def _package(self) -> str:
        return str(self._ui.packageEdit.text).strip() or PACKAGE

    def download(self) -> None:
        """Get a bundle from a URL; what is asked, the download asks.

        Raises:
            SegmentationError: it cannot begin.
        """
        self._download.begin(self._ui.bundleUrlEdit.text.strip(), self._ui.executablePath.currentPath)

    def update(self) -> None:
        """Take note of what goes on; at the end, the panel names what was got.

        Raises:
            SegmentationError: pip failed, or the bundle is none.
        """
        if self._installation.running and (python := self._installation.update()):
            self._ui.executablePath.currentPath = python
        if self._download.running and (bundle := self._download.update()):
            self._ui.bundlePath.currentPath = str(bundle)

    def cancel(self) -> None:
        """End what runs."""
        self._installation.cancel()
        self._download.cancel()

    def show_state(self) -> None:
        """Enable what can be done now."""
        self._ui.downloadButton.enabled = not self._download.running
        self._ui.installButton.enabled = self._ui.apartButton.enabled = not self._installation.running
