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
    """Actions of the section's buttons: one runs at a time; call `update` until it has ended.

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
        """Tell whether an installation or download is running."""
        return any(work.running for work in (self._installation, self._download))

    @property
    def comment(self) -> str:
        """Return the present step."""
        what: str = _("installing") if self._installation.running else _("downloading")
        return what if self.running else ""

    @property
    def log(self) -> list[str]:
        """Return the output of pip."""
        return self._installation.log

    def install(self) -> None:
        """Install the package into Slicer's Python, if the user agrees.

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
        """Install the package into a separate environment, if the user agrees.

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
        """Download a bundle from a URL, which asks the user first.

        Raises:
            SegmentationError: it cannot begin.
        """
        self._download.begin(self._ui.bundleUrlEdit.text.strip(), self._ui.executablePath.currentPath)

    def update(self) -> None:
        """Follow what runs; at the end, enter the new Python or bundle into the panel.

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
        """Enable the buttons that can be used now."""
        self._ui.downloadButton.enabled = not self._download.running
        self._ui.installButton.enabled = self._ui.apartButton.enabled = not self._installation.running
