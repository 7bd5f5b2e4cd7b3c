"""The module's logic: segment one volume node at a time, in short steps, so that Slicer stays responsive."""

from __future__ import annotations  # Slicer's Python may be 3.9

import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .nodes import Results, add_results, dicom_files, write_volume
from .process import ExternalProcess, Options, Process, SegmentationError, command
from .words import _

PROGRESS = re.compile(r"progress (\d+)/(\d+)")  # as `unetpp segment --progress` prints
STARTED, SEGMENTED = 0.05, 0.95  # progress at which segmenting begins and ends


class SegmentationLogic:
    """Segments volume nodes by an external process.

    `apply` starts, `update` is called again and again, as by a timer, until it returns True; `cancel` ends it early.

    Args:
        start: starts a command in a folder; what tests replace.
    """

    def __init__(self, start: Callable[[Sequence[str], Path], Process] = ExternalProcess) -> None:
        self._start = start
        self._process: Process | None = None
        self._volume: Any = None
        self._folder: Path | None = None
        self._target: Any = None
        self._seg_folder = ""
        self._said: list[str] = []
        self.progress = 0.0  # 0 ... 1
        self.comment = ""  # present step
        self.results: Results | None = None  # of the last run that finished

    @property
    def running(self) -> bool:
        """Tell whether a volume is being segmented."""
        return self._process is not None

    @property
    def log(self) -> list[str]:
        """Return what the process of the last run printed, besides progress."""
        return self._said

    def apply(self, volume: Any, options: Options, target: Any = None) -> None:
        """Write a volume to a file and start to segment it.

        Args:
            volume: what is segmented.
            options: how.
            target: segmentation node whose segments the result replaces; None: a new one.

        Raises:
            SegmentationError: one is running, or it cannot be started.
        """
        if self.running:
            raise SegmentationError(_("one volume can be segmented at a time; wait for it, or cancel it"))
        self._said, self.results = [], None
        self._folder = Path(tempfile.mkdtemp(prefix="unetpp_slicer_"))
        try:
            image = self._write(volume, options)
            self._process = self._start(command(options, image, self._folder / "results"), self._folder)
        except SegmentationError:
            self._clear()
            raise
        self._volume, self._target, self._seg_folder = volume, target, options.seg_folder
        self.progress, self.comment = 0.0, _("loading the network")

    def update(self) -> bool:
        """Read what the process printed; return True when the results are in the scene.

        Raises:
            SegmentationError: it failed; nothing was added to the scene, and another run can begin.
        """
        if self._process is None or self._folder is None:
            raise SegmentationError(_("nothing is being segmented; apply first"))
        for line in self._process.lines():
            self._note(line)
        code = self._process.code()
        if code is None:
            return False
        try:
            if code != 0:
                raise SegmentationError(self._reason(code))
            self.results = self._import(self._folder / "results")
        finally:
            self._clear()
        self.progress, self.comment = 1.0, _("done")
        return True

    def cancel(self) -> None:
        """End the process, if one runs, and remove its files."""
        if self._process is not None:
            self._process.end()
            self._clear()
            self.progress, self.comment = 0.0, _("cancelled")

    def _write(self, volume: Any, options: Options) -> Path:
        """Write the input: the volume, or its DICOM series to get a DICOM SEG."""
        if self._folder is None:
            raise SegmentationError(_("nothing is being segmented; apply first"))
        if not options.seg_folder:
            write_volume(volume, self._folder / "volume.nrrd")
            return self._folder / "volume.nrrd"
        if not Path(options.seg_folder).is_dir():
            reason = _("the folder for DICOM SEG must exist, got {folder}")
            raise SegmentationError(reason.format(folder=options.seg_folder))
        files, series = dicom_files(volume), self._folder / "series"
        series.mkdir()
        for index, file in enumerate(files):
            shutil.copyfile(file, series / f"{index:05}.dcm")
        return series

    def _keep(self, folder: Path) -> None:
        """Move the DICOM SEG to its folder, under a name that does not exist there."""
        for seg in folder.glob("*_seg.dcm"):
            kept = Path(self._seg_folder) / seg.name
            for number in itertools.count(2):
                if not kept.exists():
                    break
                kept = Path(self._seg_folder) / f"{seg.stem}_{number}.dcm"
            shutil.move(str(seg), kept)
            self._said.append(f"wrote {kept}")

    def _note(self, line: str) -> None:
        if match := PROGRESS.fullmatch(line.strip()):
            done, total = int(match[1]), max(1, int(match[2]))
            self.progress = STARTED + (SEGMENTED - STARTED) * done / total
            self.comment = _("segmenting, part {done} of {total}").format(done=done, total=total)
        elif line.strip():
            self._said.append(line.replace(f"{self._folder}{os.sep}", ""))  # a temporary folder

    def _reason(self, code: int) -> str:
        errors = [line for line in self._said if line.startswith("error: ")] or self._said[-20:]
        said = "\n".join(errors).removeprefix("error: ")
        return said or _("unetpp ended with exit code {code} and no message").format(code=code)

    def _import(self, folder: Path) -> Results | None:
        reports = sorted(folder.glob("*.json"))
        if len(reports) != 1:
            reason = _("unetpp must write one report, got {count}; is its version this module's?")
            raise SegmentationError(reason.format(count=len(reports)))
        return self._add(folder, json.loads(reports[0].read_text(encoding="utf-8")))

    def _add(self, folder: Path, report: Mapping[str, Any]) -> Results | None:
        """Load the results into the scene."""
        target = self._target if self._target is not None and self._target.GetScene() is not None else None
        results = add_results(self._volume, folder, report, target)
        if self._seg_folder:
            self._keep(folder)
        return results

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._folder = self._volume = self._target = None
