# ruff: noqa: N802, N999 - Slicer's names
"""Segment Editor effect: segment the box of an ROI, or what the slice views show, with a UNet++ bundle."""

from __future__ import annotations  # Slicer's Python may be 3.9

from pathlib import Path
from typing import Any

import qt
import slicer
import UNetPlusPlusLib
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from UNetPlusPlusLib import SHIPPED, About, Options, RegionLogic, SegmentationError, roi_region, view_region

INTERVAL_MS = 100  # between two reads of what the process printed
SETTINGS = "UNetPlusPlus/"  # prefix of the module's settings, such as the executable
BOX = "UNetPlusPlus.Box"  # reference of the editor's node to the ROI
DEFAULTS = {"Task": "hippocampus", "Whole": "0", "Depth": "full", "Device": "auto"}  # parameters of the editor's node
ICON = Path(UNetPlusPlusLib.__file__).parents[1] / "Resources" / "Icons" / "UNetPlusPlus.png"


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """The effect's options and what its buttons do."""

    def __init__(self, scriptedEffect: Any) -> None:  # noqa: N803 - Slicer's name
        scriptedEffect.name = "UNet++"
        scriptedEffect.perSegment = False  # one result changes several segments
        scriptedEffect.requireSegments = False  # those that lack are added
        super().__init__(scriptedEffect)
        self.logic = RegionLogic()
        self.target: Any = None  # the segmentation that was edited when it began
        self.executable = ""  # python or unetpp; empty: that of the module's panel
        self.active = False  # whether the user sees it
        self.timer = qt.QTimer()
        self.timer.setInterval(INTERVAL_MS)
        self.timer.connect("timeout()", self.on_timer)

    def clone(self) -> Any:
        """Return a new effect; every editor has its own."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects  # noqa: N813 - exists in the application only

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(Path(__file__).as_posix())
        return cloned

    def icon(self) -> Any:
        """Return the module's icon."""
        return qt.QIcon(str(ICON))

    def helpText(self) -> str:
        """Say what the effect does."""
        text: str = _(
            "Segments the box of an ROI, or what all slice views show, with a UNet++ bundle. There, segments with the "
            "names of its labels are replaced; missing ones are added. Masking is respected. Not for diagnosis."
        )
        return text

    def setupOptionsFrame(self) -> None:
        """Create the widgets."""
        self.box = slicer.qMRMLNodeComboBox()
        self.box.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self.box.noneEnabled = True
        self.box.setMRMLScene(slicer.mrmlScene)
        self.box.toolTip = _("Only voxels inside of it change; without a box: the region that all slice views show.")
        self.task = qt.QComboBox()
        self.task.editable = True
        self.task.addItems(list(SHIPPED))
        self.task.toolTip = _("Task, or the folder of a bundle.")
        self.depth, self.device = qt.QComboBox(), qt.QLineEdit()
        self.depth.addItems(["full", "auto"])
        self.depth.toolTip = _("1 is fastest, full most accurate; auto goes as deep as each part of the image needs.")
        self.device.toolTip = _("auto, cpu or cuda:N.")
        self.whole = qt.QCheckBox(_("Whole volume to the network"))
        self.whole.toolTip = _("Needed by tasks for whole heads. Only the region changes nevertheless.")
        self.start, self.stop = qt.QPushButton(_("Apply")), qt.QPushButton(_("Cancel"))
        self.expects, self.status = qt.QLabel(), qt.QLabel()
        self.expects.wordWrap = self.status.wordWrap = True
        self.about = About(self.depth, self.expects)
        self.scriptedEffect.addLabeledOptionsWidget(_("Box:"), self.box)
        self.scriptedEffect.addLabeledOptionsWidget(_("Task:"), self.task)
        self.scriptedEffect.addLabeledOptionsWidget(_("Depth:"), self.depth)
        self.scriptedEffect.addLabeledOptionsWidget(_("Device:"), self.device)
        for widget in (self.whole, self.expects, self.start, self.stop, self.status):
            self.scriptedEffect.addOptionsWidget(widget)
        self._connect()
        self.show_state()

    def _connect(self) -> None:
        """Store the user's choices in the editor's node."""
        self.box.connect("currentNodeChanged(vtkMRMLNode*)", self.updateMRMLFromGUI)
        self.task.connect("currentTextChanged(QString)", self.updateMRMLFromGUI)
        self.task.connect("activated(int)", self.on_task)  # not with each letter that is typed
        self.depth.connect("currentTextChanged(QString)", self.updateMRMLFromGUI)
        self.device.connect("textChanged(QString)", self.updateMRMLFromGUI)
        self.whole.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.start.connect("clicked()", self.on_apply)
        self.stop.connect("clicked()", self.on_cancel)

    def createCursor(self, _widget: Any) -> Any:
        """Keep the arrow."""
        return slicer.util.mainWindow().cursor

    def setMRMLDefaults(self) -> None:
        """Set missing parameters of the editor's node to their defaults."""
        for name, value in DEFAULTS.items():
            self.scriptedEffect.setParameterDefault(name, value)

    def updateGUIFromMRML(self) -> None:
        """Show the parameters of the editor's node."""
        widgets = (self.box, self.task, self.depth, self.device, self.whole)
        blocked = [widget.blockSignals(True) for widget in widgets]
        self.box.setCurrentNode(self.scriptedEffect.parameterSetNode().GetNodeReference(BOX))
        self.task.setCurrentText(self.scriptedEffect.parameter("Task"))
        self.about.choose(self.scriptedEffect.parameter("Depth"))
        if self.device.text != self.scriptedEffect.parameter("Device"):  # else the cursor would jump
            self.device.text = self.scriptedEffect.parameter("Device")
        self.whole.checked = self.scriptedEffect.parameter("Whole") == "1"
        for widget, before in zip(widgets, blocked):  # noqa: B905 - Python 3.9
            widget.blockSignals(before)

    def updateMRMLFromGUI(self, *_args: Any) -> None:
        """Store the state of the widgets in the editor's node."""
        box = self.box.currentNode()
        self.scriptedEffect.parameterSetNode().SetNodeReferenceID(BOX, box.GetID() if box is not None else None)
        self.scriptedEffect.setParameter("Task", self.task.currentText)
        self.scriptedEffect.setParameter("Depth", self.about.depth)
        self.scriptedEffect.setParameter("Device", self.device.text.strip() or DEFAULTS["Device"])
        self.scriptedEffect.setParameter("Whole", "1" if self.whole.checked else "0")

    def activate(self) -> None:
        """Describe the bundle when the user chooses the effect."""
        self.active = True
        self.ask()

    def deactivate(self) -> None:
        """End running processes when the user chooses another effect."""
        self.executable = ""  # python or unetpp; empty: that of the module's panel
        self.active = False
        self.about.end()
        self.on_cancel()

    def on_task(self, *_args: Any) -> None:
        """Store the chosen task, and query its depths."""
        self.updateMRMLFromGUI()
        self.ask()

    def ask(self) -> None:
        """Query the depths of the bundle, if the effect is visible."""
        if self.active:
            self.about.ask(self.options())
            self.timer.start()

    def options(self) -> Options:
        """Read options from the editor's node, and the executable from the module's settings."""
        return Options(
            executable=self.executable or qt.QSettings().value(f"{SETTINGS}executable", ""),
            bundle=self.scriptedEffect.parameter("Task"),
            depth=self.scriptedEffect.parameter("Depth"),
            device=self.scriptedEffect.parameter("Device"),
            uncertainty=False,
        )

    def cleanup(self) -> None:
        """End running processes before Slicer deletes the effect."""
        self.timer.stop()
        self.about.end()
        self.logic.cancel()

    def on_apply(self) -> None:
        """Start to segment."""
        kept, box = self.scriptedEffect.parameterSetNode(), self.box.currentNode()
        views = [view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode") if view.IsMappedInLayout()]
        self.target = kept.GetSegmentationNode()
        self._try(
            lambda: self.logic.begin(
                kept.GetSourceVolumeNode(),
                self.options(),
                self.target,
                roi_region(box) if box is not None else view_region(views),
                self,
                whole=self.scriptedEffect.parameter("Whole") == "1",
            )
        )

    def on_cancel(self) -> None:
        """End the process."""
        self.logic.cancel()
        self.show_state()

    def on_timer(self) -> None:
        """Show progress; at the end, the result is merged."""
        if self.about.update():
            self.updateMRMLFromGUI()  # a depth that the bundle lacks became another
        if self.logic.running:
            self._try(self._update)
        elif not self.about.running:
            self.timer.stop()

    def _update(self) -> None:
        if self.scriptedEffect.parameterSetNode().GetSegmentationNode() is not self.target:
            self.logic.cancel()
            raise SegmentationError(_("The segmentation must stay the same until the end, another was chosen."))
        self.logic.update()

    def _try(self, step: Any) -> None:
        try:
            step()
        except SegmentationError as error:
            slicer.util.errorDisplay(str(error))
        if self.logic.running or self.about.running:
            self.timer.start()
        else:
            self.timer.stop()
        self.show_state()

    def show_state(self) -> None:
        """Enable the controls that can be used now."""
        self.start.enabled, self.stop.enabled = not self.logic.running, self.logic.running
        self.status.text = self.logic.comment

    # interface that UNetPlusPlusLib needs for merging

    def save(self) -> None:
        """Save the segmentation for undo."""
        self.scriptedEffect.saveStateForUndo()

    def blank(self) -> Any:
        """Return an empty labelmap on the grid that is edited."""
        return self.scriptedEffect.defaultModifierLabelmap()

    def add(self, segment: str, labels: Any) -> None:
        """Add voxels where masking allows it."""
        self._modify(segment, labels, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd)

    def remove(self, segment: str, labels: Any) -> None:
        """Remove voxels where masking allows it."""
        self._modify(segment, labels, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeRemove)

    def _modify(self, segment: str, labels: Any, mode: Any) -> None:
        self.scriptedEffect.modifySegmentByLabelmap(self.target, segment, labels, mode)
