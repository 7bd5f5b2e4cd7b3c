"""3D Slicer's scripted module UNet++: the window; what it does is in UNetPlusPlusLib."""

from __future__ import annotations  # Slicer's Python may be 3.9

import shutil
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
    PACKAGE,
    BundleDownload,
    Installation,
    Options,
    Question,
    SegmentationError,
    SegmentationLogic,
    read_settings,
    register_samples,
    show_3d,
    write_settings,
)

INTERVAL_MS = 100  # between looks at what processes printed
SETTINGS = "UNetPlusPlus/"  # Slicer remembers executable and bundle under it
NATIVE = "PythonSlicer"  # Slicer's own interpreter, on the PATH within Slicer


class UNetPlusPlus(ScriptedLoadableModule):
    """What Slicer's module list shows."""

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
        self.installation = Installation()
        self.download = BundleDownload(slicer.util.confirmOkCancelDisplay)
        self.question: Question | None = None
        self.timer = qt.QTimer()
        self.timer.setInterval(INTERVAL_MS)
        self.timer.connect("timeout()", self.on_timer)
        self._restore()
        for button, slot in (
            (self.ui.applyButton, self.on_apply),
            (self.ui.cancelButton, self.on_cancel),
            (self.ui.show3dButton, self.on_show_3d),
            (self.ui.installButton, self.on_install),
            (self.ui.downloadButton, self.on_download),
        ):
            button.connect("clicked()", slot)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.show_state)
        self.ui.taskSelector.connect("currentIndexChanged(int)", self.ask)
        self.ui.bundlePath.connect("currentPathChanged(QString)", self.ask)
        self.ui.executablePath.connect("currentPathChanged(QString)", self.ask)
        self.loaded = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, self.on_scene_loaded)
        self.show_state()

    def _restore(self) -> None:
        """Take the settings that Slicer remembers, and those of the scene over them."""
        settings = qt.QSettings()
        self.ui.executablePath.currentPath = settings.value(f"{SETTINGS}executable", "")
        self.ui.bundlePath.currentPath = settings.value(f"{SETTINGS}bundle", "")
        self.ui.taskSelector.setCurrentText(settings.value(f"{SETTINGS}task", "hippocampus_head"))
        self.ui.packageEdit.text = PACKAGE
        self.on_scene_loaded()

    def enter(self) -> None:
        """Ask what the chosen bundle is, the first time that the module is shown."""
        if not self.ui.taskAbout.text:
            self.ask()

    def cleanup(self) -> None:  # noqa: D102 - Slicer's name
        self.timer.stop()
        slicer.mrmlScene.RemoveObserver(self.loaded)
        self._end()

    def _end(self) -> None:
        for work in (self.logic, self.installation, self.download):
            work.cancel()
        if self.question is not None:
            self.question.end()
            self.question = None

    def on_scene_loaded(self, *_args: Any) -> None:
        """Take the settings that a scene keeps."""
        kept = read_settings(slicer.mrmlScene)
        if kept:
            self.ui.volumeSelector.setCurrentNode(kept["volume"])
            self.ui.segmentationSelector.setCurrentNode(kept["segmentation"])
            self.ui.bundlePath.currentPath = kept["bundle"]
            self.ui.taskSelector.setCurrentText(kept["task"])
            if self.ui.depthSelector.findText(kept["depth"]) < 0:
                self.ui.depthSelector.addItem(kept["depth"])  # until the bundle has said which it has
            self.ui.depthSelector.setCurrentText(kept["depth"])
            self.ui.uncertaintyCheckBox.checked = kept["uncertainty"] == "true"

    def options(self) -> Options:
        """Read the panel."""
        return Options(
            executable=self.ui.executablePath.currentPath,
            bundle=self.ui.bundlePath.currentPath or self.ui.taskSelector.currentText,
            depth=self.ui.depthSelector.currentText.split(" ")[0],  # without the time behind it
            device=self.ui.deviceEdit.text.strip() or "auto",
            uncertainty=self.ui.uncertaintyCheckBox.checked,
            seg_folder=self.ui.segFolderPath.currentPath,
        )

    def _remember(self, options: Options) -> None:
        """Keep settings: the computer's in Slicer, the data's in the scene."""
        settings = qt.QSettings()
        bundle, task = self.ui.bundlePath.currentPath, self.ui.taskSelector.currentText
        for name, value in (("executable", options.executable), ("bundle", bundle), ("task", task)):
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

    def on_install(self) -> None:
        """Install the package into Slicer's Python, once the user has said yes."""
        package = self.ui.packageEdit.text.strip() or PACKAGE
        question = _(
            "Install {package} into Slicer's Python? pip downloads what it needs, which can be several gigabytes. "
            "Packages that are installed keep their versions."
        )
        if slicer.util.confirmOkCancelDisplay(question.format(package=package)):
            self._try(lambda: self.installation.begin(shutil.which(NATIVE) or NATIVE, package))

    def on_download(self) -> None:
        """Get a bundle from a URL; what is asked, the download asks."""
        self._try(lambda: self.download.begin(self.ui.bundleUrlEdit.text.strip(), self.ui.executablePath.currentPath))

    def ask(self, *_args: Any) -> None:
        """Ask what the chosen bundle expects and which depths it has."""
        if self.question is not None:
            self.question.end()
            self.question = None
        try:
            self.question = Question(self.options())
        except SegmentationError as error:
            self.ui.taskAbout.text = str(error)
        else:
            self.timer.start()

    def on_cancel(self) -> None:
        """End the processes."""
        self.timer.stop()
        self._end()
        self.show_state()

    def on_show_3d(self) -> None:
        """Show the last result in 3-D views, or hide it."""
        if self.logic.results is not None:
            show_3d(self.logic.results.segmentation, shown=self.ui.show3dButton.checked)

    def on_timer(self) -> None:
        """Show progress; at the end, results or what went wrong."""
        if self.question is not None:
            self._answer()
        if self.installation.running:
            self._try(self._installed)
        if self.download.running:
            self._try(self._downloaded)
        if self.logic.running:
            self._try(lambda: self.show_results() if self.logic.update() else None)
        if self.question is None and not self._working():
            self.timer.stop()

    def _working(self) -> bool:
        return any(work.running for work in (self.logic, self.installation, self.download))

    def _try(self, step: Any) -> None:
        """Do something that can fail, and look on while a process runs."""
        try:
            step()
        except SegmentationError as error:
            slicer.util.errorDisplay(str(error))
        if self._working():
            self.timer.start()
        self.show_state()

    def _installed(self) -> None:
        if self.installation.update():
            self.ui.executablePath.currentPath = shutil.which(NATIVE) or NATIVE

    def _downloaded(self) -> None:
        if bundle := self.download.update():
            self.ui.bundlePath.currentPath = str(bundle)

    def _answer(self) -> None:
        """Show what a bundle says of itself."""
        try:
            task = self.question.update() if self.question is not None else None
        except SegmentationError as error:
            self.question, self.ui.taskAbout.text = None, str(error)
            return
        if task is None:
            return
        self.question, chosen = None, self.ui.depthSelector.currentText.split(" ")[0]
        self.ui.taskAbout.text = _("{name}. Expects {expects}. Labels: {labels}.").format(
            name=task.name, expects=task.expects, labels=", ".join(task.labels)
        )
        self.ui.depthSelector.clear()
        for _key, shown in task.depths:
            self.ui.depthSelector.addItem(shown)
        self.ui.depthSelector.setCurrentText(dict(task.depths).get(chosen, task.depths[0][1]))

    def show_results(self) -> None:
        """Show the table, and say so if the result calls for a look."""
        results = self.logic.results
        if results is not None:
            self.ui.volumesTable.setMRMLTableNode(results.table)
            remarks = "\n".join(results.remarks)
            self.ui.reviewLabel.text = _("Please review. {remarks}").format(remarks=remarks) if results.review else ""

    def show_state(self, *_args: Any) -> None:
        """Enable what can be done now."""
        segmenting, installing = self.logic.running, self.installation.running
        self.ui.applyButton.enabled = not segmenting and self.ui.volumeSelector.currentNode() is not None
        self.ui.cancelButton.enabled = self._working()
        self.ui.downloadButton.enabled = not self.download.running
        self.ui.installButton.enabled = not installing
        self.ui.show3dButton.enabled = not segmenting and self.logic.results is not None
        self.ui.progressBar.value = round(100 * self.logic.progress)
        others = _("installing") if installing else _("downloading") if self.download.running else ""
        self.ui.statusLabel.text = others or self.logic.comment
        self.ui.logBox.plainText = "\n".join(self.installation.log + self.logic.log)


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
        """Noise becomes a segmentation with the bundle's labels, and a row for each and for each remark."""
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
