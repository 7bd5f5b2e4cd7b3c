"""Run apart from the tests: the Segment Editor effect with 3D Slicer's own editor logic (slicer-core) and real Qt.

python slicer_effect_run.py TASK IMAGE FOLDER EXECUTABLE prints JSON in the last line. Stand-ins take the place of the
application and the adaptor `scriptedEffect`, which hands on to Slicer's own vtkSlicerSegmentEditorLogic.
"""
# ruff: noqa: N802 - stand-ins are called as what they stand in for

import importlib
import json
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import slicer
import slicer_module_run as module_run
import slicer_qt
import vtk
from vtk.util.numpy_support import vtk_to_numpy
from waiting import wait_for

EFFECT = Path(__file__).parents[2] / "unetpp_monai" / "slicer" / "SegmentEditorUNetPlusPlus"
LOGIC = slicer.vtkSlicerSegmentEditorLogic
SHAPE = (24, 20, 16)  # K, J, I of the volume without a network


class Adaptor:
    """Stand-in of qSlicerSegmentEditorScriptedEffect: Slicer's own logic, its parameters in the editor's node."""

    def __init__(self, volume, segmentation, node=None):
        self.node = node or slicer.mrmlScene.AddNode(slicer.vtkMRMLSegmentEditorNode())
        self.logic = LOGIC()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetSegmentEditorNode(self.node)
        self.logic.SetSegmentationNode(segmentation)
        self.logic.SetSourceVolumeNode(volume)
        self.widgets = []

    def parameterSetNode(self):
        return self.node

    def setParameter(self, name, value):
        self.node.SetAttribute(f"UNet++.{name}", value)

    def setParameterDefault(self, name, value):
        if self.node.GetAttribute(f"UNet++.{name}") is None:
            self.setParameter(name, value)

    def parameter(self, name):
        return self.node.GetAttribute(f"UNet++.{name}")

    def addOptionsWidget(self, widget):
        self.widgets.append(widget)

    def addLabeledOptionsWidget(self, _label, widget):
        self.widgets.append(widget)

    def saveStateForUndo(self):
        self.logic.SaveStateForUndo()

    def defaultModifierLabelmap(self):
        return self.logic.GetModifierLabelmap() if self.logic.ResetModifierLabelmapToDefault() else None

    def modifySegmentByLabelmap(self, node, segment, labels, mode):
        self.logic.ModifySegmentByLabelmap(node, segment, labels, mode, self.perSegment, False)


def prepare(volume, segmentation, folder, node=None):
    """Load the effect in real Qt; return it, its adaptor and what goes on with events."""
    application, sys.modules["qt"] = slicer_qt.prepare(folder)
    slicer.qSlicerSegmentEditorAbstractEffect = LOGIC
    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = Base
    sys.modules[base.__name__] = base
    sys.path.insert(0, str(EFFECT / "SegmentEditorUNetPlusPlusLib"))
    adaptor = Adaptor(volume, segmentation, node)
    effect = importlib.import_module("SegmentEditorEffect").SegmentEditorEffect(adaptor)
    adaptor.self = lambda: effect
    effect.setMRMLDefaults()
    effect.setupOptionsFrame()
    effect.updateGUIFromMRML()
    return effect, adaptor, application.processEvents


class Base:
    def __init__(self, adaptor):
        self.scriptedEffect = adaptor


def box(low, high):
    """An ROI between two corners, in mm."""
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(*np.add(low, high) / 2)
    roi.SetSize(*np.subtract(high, low))
    return roi


def voxels(segmentation, name, grid):
    """A segment on a volume's grid, as K, J, I."""
    segments = segmentation.GetSegmentation()
    image, placed = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segments.GetSegmentIdBySegmentName(name), image)
    if image.IsEmpty():
        return np.zeros(grid.GetDimensions()[::-1], bool)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, placed)
    return vtk_to_numpy(placed.GetPointData().GetScalars()).reshape(grid.GetDimensions()[::-1]) != 0


def grid_of(volume):
    """A volume's grid in the world."""
    return slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(volume)


def add(segmentation, name, array, grid):
    """A segment of an array on a grid."""
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(grid)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
    own = segmentation.GetSegmentation().AddEmptySegment("", name)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, segmentation, own)
    return own


def edited(volume):
    """A segmentation to edit, on the volume's grid."""
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return segmentation


def block(*ranges):
    found = np.zeros(SHAPE, bool)
    found[tuple(slice(*one) for one in ranges)] = True
    return found


def task_merge(image, folder, executable):
    """A result that is known, merged into a box: what changes, with and without masking; undo."""
    from UNetPlusPlusLib.here import merge
    from UNetPlusPlusLib.region import roi_region

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.util.updateVolumeFromArray(volume, np.zeros(SHAPE, np.float32))
    volume.SetSpacing(1, 2, 1.5)
    volume.CreateDefaultDisplayNodes()
    grid = grid_of(volume)
    target, found = edited(volume), edited(volume)
    result = block((4, 20), (4, 16), (4, 12))
    named = add(found, "label", result, grid)
    found.GetSegmentation().GetSegment(named).SetTag("TerminologyEntry", "terms")
    other = add(found, "new", block((0, 4), (0, 20), (0, 16)), grid)
    found.GetSegmentation().GetSegment(other).SetColor(0.2, 0.4, 0.6)
    found.GetSegmentation().GetSegment(other).SetTag("TerminologyEntry", "terms")
    old, locked = block((0, 24), (0, 2), (0, 16)), block((8, 12), (8, 12), (4, 12))
    effect, adaptor, _ = prepare(volume, target, folder)
    effect.target = target
    wanted = block((0, 12), (0, 20), (0, 16))  # K below 12: 16.5 mm is between 11 and 12
    region = roi_region(box((-1, -1, -1), (100, 100, 17)))
    rows = {}
    for mode, overwrite in (
        ("EditAllowedEverywhere", "OverwriteAllSegments"),
        ("EditAllowedOutsideAllSegments", "OverwriteAllSegments"),
        ("EditAllowedEverywhere", "OverwriteNone"),
    ):
        target.GetSegmentation().RemoveAllSegments()
        add(target, "label", old, grid)
        add(target, "locked", locked, grid)
        adaptor.node.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, mode))
        adaptor.node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, overwrite))
        merge(found, target, np.eye(4), region, effect)
        free, taken = mode == "EditAllowedEverywhere", mode == "EditAllowedEverywhere" and overwrite != "OverwriteNone"
        label = (old & ~wanted) | (result & wanted) if free else old | (result & wanted & ~locked)
        new = wanted & block((0, 4), (0, 20), (0, 16)) & ~(old & (not free))
        segment = target.GetSegmentation().GetSegment(target.GetSegmentation().GetSegmentIdBySegmentName("new"))
        terms = vtk.mutable("")
        segment.GetTag("TerminologyEntry", terms)
        row = {
            "label": bool((voxels(target, "label", grid) == label).all()),
            "new": bool((voxels(target, "new", grid) == new).all()),
            "locked": bool((voxels(target, "locked", grid) == (locked & ~(label & taken))).all()),
            "colour": list(segment.GetColor()),
            "terms": str(terms),
        }
        adaptor.logic.Undo()
        segments = target.GetSegmentation()
        rows[f"{mode} {overwrite}"] = row
        row["undone"] = segments.GetNumberOfSegments() == 2 and bool(
            (voxels(target, "label", grid) == old).all() and (voxels(target, "locked", grid) == locked).all()
        )
    return rows


def task_network(image, folder, executable):
    """The effect's buttons on a moved volume: a box of it, then a region that holds nothing of it."""
    volume = module_run.read_volume(image, moved=True)
    volume.CreateDefaultDisplayNodes()
    target, bounds = edited(volume), [0.0] * 6
    volume.GetRASBounds(bounds)
    effect, adaptor, go_on = prepare(volume, target, folder)
    middle = (bounds[2] + bounds[3]) / 2
    effect.box.setCurrentNode(box((bounds[0], bounds[2], bounds[4]), (bounds[1], middle, bounds[5])))
    sys.modules["qt"].QSettings().setValue("UNetPlusPlus/executable", executable)
    chosen = choose(effect, adaptor, go_on, folder)
    effect.start.click()
    running = [effect.start.enabled, effect.stop.enabled]
    wait_for(lambda: go_on() or not effect.logic.running, "the end of the process", every=0.02)
    segments = target.GetSegmentation()
    names = [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]
    grid, matrix, counts = grid_of(volume), vtk.vtkMatrix4x4(), {}
    grid.GetImageToWorldMatrix(matrix)
    far = 0
    for name in names:
        places = np.argwhere(voxels(target, name, grid))
        counts[name] = len(places)
        along = [matrix.MultiplyPoint((*place[::-1].tolist(), 1))[1] for place in places]
        far += sum(place > middle for place in along)
    after = [effect.start.enabled, effect.stop.enabled, effect.status.text]
    adaptor.logic.Undo()
    undone = segments.GetNumberOfSegments()
    effect.box.setCurrentNode(box((900, 900, 900), (950, 950, 950)))
    effect.start.click()
    adaptor.node.SetAndObserveSourceVolumeNode(None)
    effect.start.click()
    effect.cleanup()
    left = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    found = {"running": running, "counts": counts, "far": far, "after": after, "undone": undone, "volumes": left}
    return {**found, **chosen}


def choose(effect, adaptor, go_on, folder):
    """Choose depth and device as a user does; what the editor's node keeps, and a later effect takes from it."""
    effect.activate()
    wait_for(lambda: go_on() or not effect.about.running, "what the bundle says", every=0.02)
    depths = [effect.depth.itemText(index) for index in range(effect.depth.count)]
    effect.depth.setCurrentText(depths[2])
    effect.device.text = "cpu"
    kept = [adaptor.parameter(name) for name in ("Depth", "Device", "Task", "Whole")]
    node = adaptor.node
    again, _, _ = prepare(node.GetSourceVolumeNode(), node.GetSegmentationNode(), folder, node)
    shown = [again.about.depth, again.device.text]
    asked = []
    for index in range(2):  # as from the list
        effect.task.setCurrentIndex(index)
        effect.task.own.activated.emit(index)
        asked.append([effect.about.running, adaptor.parameter("Task")])
    wait_for(lambda: go_on() or not effect.about.running, "what the bundle says", every=0.02)
    return {"depths": depths, "kept": kept, "again": shown, "asked": asked, "chosen": effect.about.depth}


class Editor:
    """Stand-in of qMRMLSegmentEditorWidget with one effect."""

    folder = Path()

    def setMRMLScene(self, scene):
        self.effect = None

    def setMRMLSegmentEditorNode(self, node):
        self.node = node

    def setSegmentationNode(self, segmentation):
        self.segmentation = segmentation

    def setSourceVolumeNode(self, volume):
        self.volume = volume

    def setActiveEffectByName(self, name):
        if name == "UNet++":
            self.effect, self.adaptor, _ = prepare(self.volume, self.segmentation, self.folder, self.node)
            self.effect.activate()

    def activeEffect(self):
        return self.effect and self.adaptor

    def setActiveEffect(self, effect):
        self.effect.deactivate()
        self.effect.cleanup()

    def undo(self):
        self.adaptor.logic.Undo()


def task_script(image, folder, executable):
    """The self-test of the application, as Slicer runs it, but for the application: scene, editor and Qt are real."""
    import slicer_panel_run
    import UNetPlusPlus

    window, ended = slicer_panel_run.Window(UNetPlusPlus, folder), []
    slicer.app = types.SimpleNamespace(processEvents=window.application.processEvents, applicationVersion="none")
    slicer.util.selectModule = lambda name: window.widget.enter()
    slicer.util.getModuleWidget = lambda name: window.widget
    slicer.util.exit = ended.append
    Editor.folder = folder
    slicer.qMRMLSegmentEditorWidget = Editor
    sys.argv = ["selftest.py", executable if image != "none" else "/nowhere/unetpp"]
    runpy.run_path(str(module_run.MODULE / "UNetPlusPlusLib" / "selftest.py"), run_name="__main__")
    window.widget.cleanup()
    return {"ended": ended}


def task_views(image, folder, executable):
    """What three slice views show of a turned and moved volume is what lies in all of them."""
    from UNetPlusPlusLib.region import crop, view_region

    volume = module_run.read_volume(image, moved=True)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    bounds, views = [0.0] * 6, []
    volume.GetRASBounds(bounds)
    centre = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    for name in ("Axial", "Sagittal", "Coronal"):
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
        view.SetOrientation(name)
        view.SetFieldOfView(20, 16, 1)
        view.JumpSliceByCentering(*centre)
        views.append(view)
    part = crop(volume, view_region(views))
    inner, first, whole = [0.0] * 6, vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    part.GetRASBounds(inner)
    sizes = [high - low for low, high in zip(inner[::2], inner[1::2], strict=True)]
    part.GetIJKToRASMatrix(first)
    volume.GetRASToIJKMatrix(whole)
    start = [round(one) for one in whole.MultiplyPoint([first.GetElement(axis, 3) for axis in range(3)] + [1])[:3]]
    image = volume.GetImageData()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    shape = part.GetImageData().GetDimensions()
    cut = array[tuple(slice(at, at + n) for at, n in zip(start[::-1], shape[::-1], strict=True))]
    own = vtk_to_numpy(part.GetImageData().GetPointData().GetScalars()).reshape(shape[::-1])
    return {"sizes": sizes, "spacing": list(volume.GetSpacing()), "same": bool((cut == own).all())}


def main(task, image, folder, executable):
    _, shown = module_run.prepare()
    found = globals()[f"task_{task}"](image, Path(folder), executable)
    sys.stdout.write("\n" + json.dumps({**found, "shown": shown}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
