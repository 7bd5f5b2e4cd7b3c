"""Scripted module UNet++ for 3D Slicer: its panel. The work is done in UNetPlusPlusLib."""

from __future__ import annotations  # Slicer's Python may be 3.9

import time
from typing import Any

import numpy
import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from UNetPlusPlusLib import (
    About,
    Environment,
    Options,
    SegmentationError,
    SegmentationLogic,
    read_settings,
    register_samples,
    show_3d,
    write_settings,
)

INTERVAL_MS = 100  # between two reads of what processes printed
LABEL_WIDTH = 180  # pixels of the table's first column: remarks are long and must not hide the volumes
SETTINGS = "UNetPlusPlus/"  # prefix of the settings that Slicer stores on this computer


class UNetPlusPlus(ScriptedLoadableModule):
    """Entry of the module in Slicer's list."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = "UNet++"
        self.parent.categories = ["Segmentation"]
        self.parent.contributors = ["UNet++ for MONAI authors"]
        self.parent.helpText = _(
            "Segments a volume with a UNet++ bundle, to a chosen depth, by the command unetpp of the Python "
            "environment in which unetpp_monai is installed. Not a medical device, not for diagnosis."
        )
        self.parent.acknowledgementText = "UNet++: Zhou et al., DLMIA 2018 and IEEE TMI 2020."
        slicer.app.connect("startupCompleted()", _register_samples)


class UNetPlusPlusWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:  # noqa: D102 - Slicer's name
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/UNetPlusPlus.ui"))
        self.layout.addWidget(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = SegmentationLogic()
        self.environment = Environment(self.ui, slicer.util.confirmOkCancelDisplay)
        self.about = About(self.ui.depthSelector, self.ui.taskAbout)
        self.shown: list[str] = []  # of the log
        self.timer = qt.QTimer()
        self.timer.setInterval(INTERVAL_MS)
        self.timer.connect("timeout()", self.on_timer)
        self._restore()
        for button, slot in (
            (self.ui.applyButton, self.on_apply),
            (self.ui.cancelButton, self.on_cancel),
            (self.ui.show3dButton, self.on_show_3d),
            (self.ui.installButton, lambda: self._try(self.environment.install)),
            (self.ui.apartButton, lambda: self._try(self.environment.install_apart)),
            (self.ui.downloadButton, lambda: self._try(self.environment.download)),
        ):
            button.connect("clicked()", slot)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.show_state)
        self.ui.taskSelector.connect("currentIndexChanged(int)", self.ask)
        self.ui.bundlePath.connect("currentPathChanged(QString)", self.ask)
        self.ui.executablePath.connect("currentPathChanged(QString)", self.ask)
        self.loaded = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, self.on_scene_loaded)
        self.show_state()

    def _restore(self) -> None:
        """Restore the settings that Slicer stores; those of the scene override them."""
        settings = qt.QSettings()
        self.ui.executablePath.currentPath = settings.value(f"{SETTINGS}executable", "")
        self.ui.bundlePath.currentPath = settings.value(f"{SETTINGS}bundle", "")
        self.ui.taskSelector.setCurrentText(settings.value(f"{SETTINGS}task", "hippocampus_head"))
        self.ui.deviceEdit.text = settings.value(f"{SETTINGS}device", "auto")
        self.on_scene_loaded()

    def enter(self) -> None:
        """Query the chosen bundle, the first time that the module is shown."""
        if not self.ui.taskAbout.text:
            self.ask()

    def cleanup(self) -> None:  # noqa: D102 - Slicer's name
        self.timer.stop()
        slicer.mrmlScene.RemoveObserver(self.loaded)
        self._end()

    def _end(self) -> None:
        self.logic.cancel()
        self.environment.cancel()
        self.about.end()

    def on_scene_loaded(self, *_args: Any) -> None:
        """Restore the settings of a scene."""
        kept = read_settings(slicer.mrmlScene)
        if kept:
            shown = {"task": self.ui.taskSelector.currentText, "depth": self.about.depth}
            kept = {"bundle": "", "uncertainty": "true", **shown, **kept}  # another version may not have saved all
            self.ui.volumeSelector.setCurrentNode(kept["volume"])
            self.ui.segmentationSelector.setCurrentNode(kept["segmentation"])
            self.ui.bundlePath.currentPath = kept["bundle"]
            self.ui.taskSelector.setCurrentText(kept["task"])
            self.about.choose(kept["depth"])
            self.ui.uncertaintyCheckBox.checked = kept["uncertainty"] == "true"

    def options(self) -> Options:
        """Read the panel."""
        return Options(
            executable=self.ui.executablePath.currentPath,
            bundle=self.ui.bundlePath.currentPath or self.ui.taskSelector.currentText,
            depth=self.about.depth,
            device=self.ui.deviceEdit.text.strip() or "auto",
            uncertainty=self.ui.uncertaintyCheckBox.checked,
            seg_folder=self.ui.segFolderPath.currentPath,
        )

    def _remember(self, options: Options) -> None:
        """Store settings: those of the computer in Slicer, those of the data in the scene."""
        settings = qt.QSettings()
        bundle, task = self.ui.bundlePath.currentPath, self.ui.taskSelector.currentText
        own = {"executable": options.executable, "bundle": bundle, "task": task, "device": options.device}
        for name, value in own.items():
            settings.setValue(SETTINGS + name, value)
        kept = {
            "volume": self.ui.volumeSelector.currentNode(),
            "segmentation": self.ui.segmentationSelector.currentNode(),
            "bundle": bundle,
            "task": task,
            "depth": options.depth,
            "uncertainty": "true" if options.uncertainty else "false",
        }
        write_settings(slicer.mrmlScene, kept)

    def on_apply(self) -> None:
        """Start to segment the selected volume."""
        options = self.options()
        self._remember(options)
        target = self.ui.segmentationSelector.currentNode()
        self._try(lambda: self.logic.apply(self.ui.volumeSelector.currentNode(), options, target))

    def ask(self, *_args: Any) -> None:
        """Query what the chosen bundle expects and which depths it has."""
        self.about.ask(self.options())
        if self.about.running:
            self.timer.start()

    def on_cancel(self) -> None:
        """End the processes."""
        self.timer.stop()
        self._end()
        self.show_state()

    def on_show_3d(self) -> None:
        """Show the last result in 3-D views, or hide it."""
        results = self.logic.results
        if (
            results is not None and results.segmentation.GetScene() is not None
        ):  # else it was removed, or the scene closed
            show_3d(results.segmentation, shown=self.ui.show3dButton.checked)

    def on_timer(self) -> None:
        """Show progress; at the end, results or an error."""
        self.about.update()
        if self.environment.running:
            self._try(self.environment.update)
        if self.logic.running:
            self._try(lambda: self.show_results() if self.logic.update() else None)
        if not (self.about.running or self._working()):
            self.timer.stop()

    def _working(self) -> bool:
        return any(work.running for work in (self.logic, self.environment))

    def _try(self, step: Any) -> None:
        """Run an action that can fail, then watch its process."""
        try:
            step()
        except SegmentationError as error:
            slicer.util.errorDisplay(str(error))
        if self._working():
            self.timer.start()
        self.show_state()

    def show_results(self) -> None:
        """Show the table, and a note if the result should be reviewed."""
        results = self.logic.results
        if results is not None:
            self.ui.volumesTable.setMRMLTableNode(results.table)
            self.ui.volumesTable.resizeColumnsToContents()
            self.ui.volumesTable.setColumnWidth(0, LABEL_WIDTH)
            self.ui.volumesTable.resizeRowsToContents()
            remarks = "\n".join(results.remarks)
            self.ui.reviewLabel.text = _("Please review. {remarks}").format(remarks=remarks) if results.review else ""
            if self.ui.show3dButton.checked:
                self.on_show_3d()

    def show_state(self, *_args: Any) -> None:
        """Enable the controls that can be used now."""
        segmenting = self.logic.running
        self.ui.applyButton.enabled = not segmenting and self.ui.volumeSelector.currentNode() is not None
        self.ui.cancelButton.enabled = self._working()
        self.ui.show3dButton.enabled = not segmenting and self.logic.results is not None
        self.environment.show_state()
        self.ui.progressBar.maximum = 0 if self.environment.running and not segmenting else 100  # 0: busy
        self.ui.progressBar.value = round(100 * self.logic.progress)
        self.ui.statusLabel.text = self.environment.comment or self.logic.comment
        self._show_log()

    def _show_log(self) -> None:
        """Append new lines only, so that the log can be scrolled and selected meanwhile."""
        log = self.environment.log + self.logic.log
        if log[: len(self.shown)] != self.shown:
            self.ui.logBox.plainText, self.shown = "", []
        for line in log[len(self.shown) :]:
            self.ui.logBox.appendPlainText(line)
        self.shown = log


class UNetPlusPlusLogic(SegmentationLogic):
    """The module's logic, under the name that Slicer's scripts expect."""


class UNetPlusPlusTest(ScriptedLoadableModuleTest):
    """Slicer's own test of the module (Reload and Test); needs an environment with unetpp_monai."""

    def setUp(self) -> None:  # noqa: D102 - unittest's name
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:  # noqa: N802, D102 - Slicer's name
        self.setUp()
        self.test_noise()

    def test_noise(self) -> None:
        """Segment noise: a segmentation with the bundle's labels, and a row per label and remark."""
        source, noise = slicer.vtkMRMLScalarVolumeNode(), numpy.random.default_rng(0).normal(100, 20, (24, 24, 24))
        slicer.util.updateVolumeFromArray(source, noise.astype("float32"))
        volume = slicer.mrmlScene.AddNode(source)
        logic = UNetPlusPlusLogic()
        logic.apply(volume, Options(bundle="hippocampus", depth="1", device="cpu"))
        while not logic.update():
            time.sleep(INTERVAL_MS / 1000)
        count = logic.results.segmentation.GetSegmentation().GetNumberOfSegments()
        self.assertGreater(count, 0)
        self.assertEqual(logic.results.table.GetNumberOfRows(), count + len(logic.results.remarks))


def _register_samples() -> None:
    import SampleData  # a module of Slicer, which is loaded once it has started

    register_samples(SampleData.SampleDataLogic)
