"""Download a bundle if the user agrees, unpack it and check it by `unetpp info`. Does not need Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import hashlib
import os
import re
import shutil
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .process import Options, SegmentationError
from .tasks import Question
from .unpack import CHUNK, MAX_BYTES, unpack
from .words import _

BUNDLES = Path.home() / "UNetPlusPlus_bundles"  # folder of downloaded bundles
TIMEOUT_S = 60.0  # without a byte received
SECURE = ("https",)


class _Transfer(threading.Thread):
    """Writes a download to a file, and computes its SHA-256."""

    def __init__(self, url: str, archive: Path, max_bytes: int, schemes: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self._url, self._max_bytes, self._schemes = url, max_bytes, schemes
        self.archive, self.stopped = archive, threading.Event()
        self.size = 0  # bytes received
        self.sha256 = self.failed = ""

    def run(self) -> None:
        """Download."""
        try:
            self.sha256 = self._fetch()
        except (OSError, ValueError, HTTPException, SegmentationError) as error:
            self.failed = str(error) or type(error).__name__
        if self.stopped.is_set():
            self.archive.unlink(missing_ok=True)

    def _fetch(self) -> str:
        opener, sums = urllib.request.build_opener(_Redirections(self._schemes)), hashlib.sha256()
        with opener.open(self._url, timeout=TIMEOUT_S) as source, self.archive.open("wb") as target:
            while not self.stopped.is_set() and (chunk := source.read(CHUNK)):
                self.size += len(chunk)
                if self.size > self._max_bytes:
                    raise SegmentationError(_("it is larger than {most} MiB").format(most=self._max_bytes >> 20))
                sums.update(chunk)
                target.write(chunk)
        return sums.hexdigest()


class BundleDownload:
    """One bundle at a time: `begin`, then `update` until it returns its folder; `cancel` ends it early.

    Args:
        confirm: asks the user.
        folder: where bundles go.
        max_bytes: of the zip.
        schemes: of URLs, redirections included; what tests replace.
    """

    def __init__(
        self,
        confirm: Callable[[str], bool],
        folder: Path = BUNDLES,
        *,
        max_bytes: int = MAX_BYTES,
        schemes: tuple[str, ...] = SECURE,
    ) -> None:
        self._confirm, self._folder, self._max_bytes, self._schemes = confirm, folder, max_bytes, schemes
        self._transfer: _Transfer | None = None
        self._question: Question | None = None
        self._executable = ""
        self._bundle = folder  # of the unpacked bundle

    @property
    def running(self) -> bool:
        """Tell whether a bundle is being downloaded or checked."""
        return self._transfer is not None or self._question is not None

    def begin(self, url: str, executable: str = "") -> None:
        """Ask the user, then start to download.

        Args:
            url: of a zip.
            executable: python or unetpp, which checks the bundle.

        Raises:
            SegmentationError: one is downloaded already, or the URL or folder cannot be used.
        """
        if self.running:
            raise SegmentationError(_("one bundle can be downloaded at a time; wait for it, or cancel it"))
        _check(url, self._schemes)
        bundle = self._folder / (
            re.sub(r"[^A-Za-z0-9_-]+", "_", Path(urlsplit(url).path).stem)[:60].strip("_") or "bundle"
        )
        if bundle.exists():
            raise SegmentationError(
                _("the bundle must be new, {folder} is there; use or remove it").format(folder=bundle)
            )
        question = _("Download {url} to {folder}? The server learns your address. At most {most} MiB are taken.")
        if not self._confirm(question.format(url=url, folder=bundle, most=self._max_bytes >> 20)):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, archive = tempfile.mkstemp(prefix=".downloading_", suffix=".zip", dir=self._folder)
        except OSError as error:
            reason = _("{folder} must be a folder for bundles ({why})")
            raise SegmentationError(reason.format(folder=self._folder, why=error.strerror)) from error
        os.close(handle)
        self._bundle, self._executable = bundle, executable
        self._transfer = _Transfer(url, Path(archive), self._max_bytes, self._schemes)
        self._transfer.start()

    def update(self) -> Path | None:
        """Return the bundle's folder once it is checked, else None.

        Raises:
            SegmentationError: it cannot be had, or is not what can be run unread; then nothing of it is left.
        """
        if self._transfer is not None and not self._transfer.is_alive():
            came, self._transfer = self._transfer, None
            try:
                self._unpack(came)
            finally:
                came.archive.unlink(missing_ok=True)
        if self._question is None:
            return None
        try:
            task = self._question.update()
            if task is not None and task.foreign:
                reason = _("a bundle must run only what is listed as harmless, this one would run {what}; not taken")
                raise SegmentationError(reason.format(what=", ".join(task.foreign[:3])))
        except SegmentationError:
            self._question = None
            shutil.rmtree(self._bundle, ignore_errors=True)
            raise
        if task is None:
            return None
        self._question = None
        return self._bundle

    def cancel(self) -> None:
        """Cancel the download and remove its files."""
        if self._transfer is not None:
            self._transfer.stopped.set()
            if not self._transfer.is_alive():
                self._transfer.archive.unlink(missing_ok=True)
        if self._question is not None:
            self._question.end()
            shutil.rmtree(self._bundle, ignore_errors=True)
        self._transfer = self._question = None

    def _unpack(self, came: _Transfer) -> None:
        """Show the SHA-256 of the download; unpack it if the user agrees, and run `unetpp info` on it."""
        if came.failed:
            raise SegmentationError(_("the bundle was not downloaded: {why}").format(why=came.failed))
        question = _("{size:.1f} MB downloaded. Compare with the author's sum:\n\nSHA-256 {sum}\n\nUse this bundle?")
        if not self._confirm(question.format(size=came.size / 1e6, sum=came.sha256)):
            return
        unpack(came.archive, self._bundle)
        try:
            self._question = Question(Options(self._executable, str(self._bundle)))
        except SegmentationError:
            shutil.rmtree(self._bundle, ignore_errors=True)
            raise


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def __init__(self, schemes: tuple[str, ...]) -> None:
        self._schemes = schemes

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Check the new URL first."""
        _check(newurl, self._schemes)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, schemes: tuple[str, ...]) -> None:
    if urlsplit(url).scheme not in schemes or not urlsplit(url).hostname:
        reason = _("a bundle's URL must begin with {scheme}://, got {url}")
        raise SegmentationError(reason.format(scheme=schemes[0], url=url[:200]))
