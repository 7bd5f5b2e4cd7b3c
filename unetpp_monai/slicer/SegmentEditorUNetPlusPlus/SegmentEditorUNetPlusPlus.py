"""3D Slicer's scripted module that registers the Segment Editor effect UNet++; it has no window."""

from __future__ import annotations  # Slicer's Python may be 3.9

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

EFFECT = Path(__file__).parent / "SegmentEditorUNetPlusPlusLib" / "SegmentEditorEffect.py"


class SegmentEditorUNetPlusPlus(ScriptedLoadableModule):
    """What Slicer loads; hidden from its module list."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = "SegmentEditorUNetPlusPlus"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = ["Segmentations", "UNetPlusPlus"]
        self.parent.contributors = ["UNet++ for MONAI authors"]
        self.parent.hidden = True
        self.parent.helpText = _("Registers the Segment Editor effect UNet++.")
        self.parent.acknowledgementText = "UNet++: Zhou et al., DLMIA 2018 and IEEE TMI 2020."
        qt.QTimer.singleShot(0, self.register)  # once the application has the effects' factory

    def register(self) -> None:
        """Give the effect to the Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects  # noqa: N813 - exists in the application only

        instance = effects.qSlicerSegmentEditorScriptedEffect(None)
        instance.setPythonSource(EFFECT.as_posix())
        instance.self().register()
