"""3D Slicer's scripted module UNet++: the window; what it does is in UNetPlusPlusLib."""

from __future__ import annotations  # Slicer's Python may be 3.9

import time
from typing import Any

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from UNetPlusPlusLib import Options, SegmentationError, SegmentationLogic

INTERVAL_MS = 100  # between looks at what the process printed
SETTINGS = "UNetPlusPlus/"  # Slicer remembers executable and bundle under it


class UNetPlusPlus(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = "UNet++"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = []
        self.parent.contributors = ["UNet++ for MONAI authors"]
        self.parent.helpText = (
            "Segments a volume with a UNet++ bundle, to a chosen depth, by the command unetpp of the Python "
            "environment in which unetpp_monai is installed. Not a medical device, not for diagnosis."
        )
        self.parent.acknowledgementText = "UNet++: Zhou et al., DLMIA 2018 and IEEE TMI 2020."


class UNetPlusPlusWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:  # noqa: D102 - Slicer's name
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/UNetPlusPlus.ui"))
        self.layout.addWidget(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(panel)
        self.logic = SegmentationLogic()
        self.timer = qt.QTimer()
        self.timer.setInterval(INTERVAL_MS)
        self.timer.connect("timeout()", self.on_timer)
        self.ui.applyButton.connect("clicked()", self.on_apply)
        self.ui.cancelButton.connect("clicked()", self.on_cancel)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.show_state)
        settings = qt.QSettings()
        self.ui.executablePath.currentPath = settings.value(f"{SETTINGS}executable", "")
        self.ui.bundlePath.currentPath = settings.value(f"{SETTINGS}bundle", "")
        self.ui.taskSelector.setCurrentText(settings.value(f"{SETTINGS}task", "hippocampus_head"))
        self.show_state()

    def cleanup(self) -> None:  # noqa: D102 - Slicer's name
        self.timer.stop()
        self.logic.cancel()

    def on_apply(self) -> None:
        """Start to segment the selected volume."""
        options = Options(
            executable=self.ui.executablePath.currentPath,
            bundle=self.ui.bundlePath.currentPath or self.ui.taskSelector.currentText,
            depth=self.ui.depthSelector.currentText,
            device=self.ui.deviceEdit.text.strip() or "auto",
            uncertainty=self.ui.uncertaintyCheckBox.checked,
        )
        settings = qt.QSettings()
        settings.setValue(f"{SETTINGS}executable", options.executable)
        settings.setValue(f"{SETTINGS}bundle", self.ui.bundlePath.currentPath)
        settings.setValue(f"{SETTINGS}task", self.ui.taskSelector.currentText)
        try:
            self.logic.apply(self.ui.volumeSelector.currentNode(), options)
        except SegmentationError as error:
            slicer.util.errorDisplay(str(error))
        else:
            self.timer.start()
        self.show_state()

    def on_cancel(self) -> None:
        """End the process."""
        self.timer.stop()
        self.logic.cancel()
        self.show_state()

    def on_timer(self) -> None:
        """Show progress; at the end, results or what went wrong."""
        try:
            done = self.logic.update()
        except SegmentationError as error:
            self.timer.stop()
            self.show_state()
            slicer.util.errorDisplay(str(error))
            return
        if done:
            self.timer.stop()
            self.show_results()
        self.show_state()

    def show_results(self) -> None:
        """Show the table, and say so if the result calls for a look."""
        results = self.logic.results
        if results is not None:
            self.ui.volumesTable.setMRMLTableNode(results.table)
            self.ui.reviewLabel.text = "Uncertain: please review." if results.review else ""

    def show_state(self, *_: Any) -> None:
        """Enable what can be done now."""
        running = self.logic.running
        self.ui.applyButton.enabled = not running and self.ui.volumeSelector.currentNode() is not None
        self.ui.cancelButton.enabled = running
        self.ui.progressBar.value = round(100 * self.logic.progress)
        self.ui.statusLabel.text = self.logic.comment


class UNetPlusPlusLogic(SegmentationLogic):
    """The name under which Slicer's users and scripts look for a module's logic."""


class UNetPlusPlusTest(ScriptedLoadableModuleTest):
    """Slicer's own test of the module (Reload and Test); needs an environment with unetpp_monai."""

    def setUp(self) -> None:  # noqa: D102 - unittest's name
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:  # noqa: N802, D102 - Slicer's name
        self.setUp()
        self.test_noise()

    def test_noise(self) -> None:
        """Noise becomes a segmentation with the bundle's labels, whatever their voxels, and a row for each."""
        source = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(source, _noise())
        volume = slicer.mrmlScene.AddNode(source)
        logic = UNetPlusPlusLogic()
        logic.apply(volume, Options(bundle="hippocampus", depth="1", device="cpu"))
        while not logic.update():
            time.sleep(INTERVAL_MS / 1000)
        segments = logic.results.segmentation.GetSegmentation()
        self.assertGreater(segments.GetNumberOfSegments(), 0)
        self.assertEqual(logic.results.table.GetNumberOfRows(), segments.GetNumberOfSegments())


def _noise() -> Any:
    import numpy

    return numpy.random.default_rng(0).normal(100, 20, (24, 24, 24)).astype("float32")
