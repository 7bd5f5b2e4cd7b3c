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
from UNetPlusPlusLib import SHIPPED, Options, RegionLogic, SegmentationError, roi_region, view_region

INTERVAL_MS = 100  # between looks at what the process printed
SETTINGS = "UNetPlusPlus/"  # where the module keeps the executable
BOX = "UNetPlusPlus.Box"  # reference of the editor's node to the ROI
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
        self.timer = qt.QTimer()
        self.timer.setInterval(INTERVAL_MS)
        self.timer.connect("timeout()", self.on_timer)

    def clone(self) -> Any:
        """Return the effect anew, as every editor has its own."""
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
            "names of its labels are replaced; those that lack are added. Masking is kept to. Not for diagnosis."
        )
        return text

    def setupOptionsFrame(self) -> None:
        """Make the widgets."""
        self.box = slicer.qMRMLNodeComboBox()
        self.box.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self.box.noneEnabled = True
        self.box.setMRMLScene(slicer.mrmlScene)
        self.box.toolTip = _("Only its inside changes; none: what all slice views show.")
        self.task = qt.QComboBox()
        self.task.editable = True
        self.task.addItems(list(SHIPPED))
        self.task.toolTip = _("Task, or the folder of a bundle.")
        self.whole = qt.QCheckBox(_("Whole volume to the network"))
        self.whole.toolTip = _("As tasks for whole heads need; only the region changes all the same.")
        self.start, self.stop, self.status = qt.QPushButton(_("Apply")), qt.QPushButton(_("Cancel")), qt.QLabel()
        self.status.wordWrap = True
        self.scriptedEffect.addLabeledOptionsWidget(_("Box:"), self.box)
        self.scriptedEffect.addLabeledOptionsWidget(_("Task:"), self.task)
        for widget in (self.whole, self.start, self.stop, self.status):
            self.scriptedEffect.addOptionsWidget(widget)
        self.box.connect("currentNodeChanged(vtkMRMLNode*)", self.updateMRMLFromGUI)
        self.task.connect("currentTextChanged(QString)", self.updateMRMLFromGUI)
        self.whole.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.start.connect("clicked()", self.on_apply)
        self.stop.connect("clicked()", self.on_cancel)
        self.show_state()

    def createCursor(self, _widget: Any) -> Any:
        """Keep the arrow."""
        return slicer.util.mainWindow().cursor

    def setMRMLDefaults(self) -> None:
        """Give the editor's node what it lacks."""
        self.scriptedEffect.setParameterDefault("Task", "hippocampus")
        self.scriptedEffect.setParameterDefault("Whole", "0")

    def updateGUIFromMRML(self) -> None:
        """Show what the editor's node keeps."""
        widgets = (self.box, self.task, self.whole)
        blocked = [widget.blockSignals(True) for widget in widgets]
        self.box.setCurrentNode(self.scriptedEffect.parameterSetNode().GetNodeReference(BOX))
        self.task.setCurrentText(self.scriptedEffect.parameter("Task"))
        self.whole.checked = self.scriptedEffect.parameter("Whole") == "1"
        for widget, before in zip(widgets, blocked):  # noqa: B905 - Python 3.9
            widget.blockSignals(before)

    def updateMRMLFromGUI(self, *_args: Any) -> None:
        """Keep what the widgets show."""
        box = self.box.currentNode()
        self.scriptedEffect.parameterSetNode().SetNodeReferenceID(BOX, box.GetID() if box is not None else None)
        self.scriptedEffect.setParameter("Task", self.task.currentText)
        self.scriptedEffect.setParameter("Whole", "1" if self.whole.checked else "0")

    def deactivate(self) -> None:
        """End what runs, as the user chose another effect."""
        self.on_cancel()

    def cleanup(self) -> None:
        """End what runs before Slicer deletes the effect."""
        self.timer.stop()
        self.logic.cancel()

    def on_apply(self) -> None:
        """Start to segment."""
        kept, box = self.scriptedEffect.parameterSetNode(), self.box.currentNode()
        views = [view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode") if view.IsMappedInLayout()]
        self.target = kept.GetSegmentationNode()
        options = Options(
            executable=qt.QSettings().value(f"{SETTINGS}executable", ""),
            bundle=self.scriptedEffect.parameter("Task"),
            uncertainty=False,
        )
        self._try(
            lambda: self.logic.begin(
                kept.GetSourceVolumeNode(),
                options,
                self.target,
                roi_region(box) if box is not None else view_region(views),
                self,
                whole=self.scriptedEffect.parameter("Whole") == "1",
            )
        )

    def on_cancel(self) -> None:
        """End the process."""
        self.timer.stop()
        self.logic.cancel()
        self.show_state()

    def on_timer(self) -> None:
        """Show progress; at the end, the result is merged."""
        self._try(self._update)

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
        if self.logic.running:
            self.timer.start()
        else:
            self.timer.stop()
        self.show_state()

    def show_state(self) -> None:
        """Enable what can be done now."""
        self.start.enabled, self.stop.enabled = not self.logic.running, self.logic.running
        self.status.text = self.logic.comment

    # What UNetPlusPlusLib's merge asks of the editor

    def save(self) -> None:
        """Keep the segmentation for undo."""
        self.scriptedEffect.saveStateForUndo()

    def blank(self) -> Any:
        """Return an empty labelmap on the grid that is edited."""
        return self.scriptedEffect.defaultModifierLabelmap()

    def add(self, segment: str, labels: Any) -> None:
        """Add voxels, where masking lets."""
        self._modify(segment, labels, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd)

    def remove(self, segment: str, labels: Any) -> None:
        """Take voxels, where masking lets."""
        self._modify(segment, labels, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeRemove)

    def _modify(self, segment: str, labels: Any, mode: Any) -> None:
        self.scriptedEffect.modifySegmentByLabelmap(self.target, segment, labels, mode)
