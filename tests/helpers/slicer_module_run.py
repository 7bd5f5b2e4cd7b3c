"""Run apart from the tests: the scripted module in a scene of 3D Slicer's own classes (slicer-core).

python slicer_module_run.py TASK IMAGE FOLDER EXECUTABLE prints what came of a task as JSON in the last line. Stand-ins
take the place of what slicer-core lacks: qt, the application, and the three base classes of scripted modules. Widgets
are made from the .ui file by name and class, with no other properties than the real classes have.
"""
# ruff: noqa: N802 - stand-ins are called as what they stand in for

import json
import sys
import types
import unittest
from pathlib import Path
from xml.etree import ElementTree

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy
from waiting import wait_for

MODULE = Path(__file__).parents[2] / "unetpp_monai" / "slicer" / "UNetPlusPlus"
PROPERTIES = {  # of Qt's, CTK's and Slicer's classes, as the module may use them
    "QPushButton": {"enabled": True, "text": "", "checkable": False, "checked": False},
    "QLabel": {"text": "", "wordWrap": False},
    "QPlainTextEdit": {"plainText": "", "readOnly": False},
    "QLineEdit": {"text": ""},
    "QCheckBox": {"checked": False},
    "QComboBox": {"currentText": ""},
    "QProgressBar": {"value": 0, "maximum": 100},
    "ctkPathLineEdit": {"currentPath": "", "filters": ""},
    "ctkCollapsibleButton": {"text": "", "collapsed": False},
    "qMRMLNodeComboBox": {
        **{"nodeTypes": "", "showChildNodeTypes": True, "addEnabled": True, "removeEnabled": True},
        **{"noneEnabled": False, "renameEnabled": False},
    },
    "qMRMLTableView": {},
    "qMRMLWidget": {},
}
METHODS = {
    "qMRMLNodeComboBox": {"currentNode", "setCurrentNode"},
    "qMRMLTableView": {"setMRMLTableNode"},
    "qMRMLWidget": {"setMRMLScene"},
}
IGNORED = {
    "qMRMLTableView": {"setColumnWidth", "resizeColumnsToContents", "resizeRowsToContents"},
    "QComboBox": {"blockSignals"},
}
SIGNALS = {
    "QPushButton": "clicked()",
    "QComboBox": "currentIndexChanged(int)",
    "ctkPathLineEdit": "currentPathChanged(QString)",
    "qMRMLNodeComboBox": "currentNodeChanged(vtkMRMLNode*)",
    "QTimer": "timeout()",
}


class Widget:
    """Stand-in of a widget: properties of its class, one signal, and a node where the class holds one."""

    def __init__(self, kind):
        names = {"kind", "node", "slots", "toolTip", *PROPERTIES.get(kind, {})}
        self.__dict__.update(names=names, kind=kind, node=None, slots=[], items=[], **PROPERTIES.get(kind, {}))

    def __setattr__(self, name, value):
        if name not in self.names:
            raise AttributeError(f"a {self.kind} has no {name}")
        self.__dict__[name] = value

    def __getattr__(self, name):
        if name in IGNORED.get(self.__dict__["kind"], ()):
            return lambda *_: None
        if name in METHODS.get(self.__dict__["kind"], ()):
            return self.hold if name.startswith("set") else lambda: self.node
        raise AttributeError(f"a {self.kind} has no {name}")

    def setCurrentText(self, text):  # of a list that cannot be edited: only what it has
        if text in self.items:
            self.currentText = text

    @property
    def count(self):
        return len(self.items)

    def itemText(self, index):
        return self.items[index]

    def appendPlainText(self, text):
        self.plainText = "\n".join(filter(None, [self.plainText, text]))

    def clear(self):
        self.items.clear()
        self.currentText = ""

    def addItem(self, text):
        self.items.append(text)
        self.currentText = self.currentText or text

    def hold(self, node):
        self.node = node

    def connect(self, signal, slot):
        if SIGNALS.get(self.kind) != signal:
            raise ValueError(f"a {self.kind} has no signal {signal}")
        self.slots.append(slot)

    def emit(self, *values):
        for slot in self.slots:
            slot(*values)


class Timer(Widget):
    running: "Timer | None" = None

    def __init__(self):
        super().__init__("QTimer")

    def setInterval(self, milliseconds):
        assert milliseconds > 0

    def start(self):
        Timer.running = self

    def stop(self):
        Timer.running = None


class Settings:
    kept: dict = {}  # noqa: RUF012 - all of them share it, as Qt's do

    def value(self, name, default):
        return self.kept.get(name, default)

    def setValue(self, name, value):
        self.kept[name] = value


class ModuleBase:
    def __init__(self, parent):
        self.parent = parent


class WidgetBase:
    def __init__(self, parent=None):
        self.parent, self.layout = parent, types.SimpleNamespace(addWidget=lambda widget: None)

    def setup(self):
        pass

    def resourcePath(self, name):
        return str(MODULE / "Resources" / name)


def load_ui(path):
    """Widgets of a .ui file by name."""
    widgets = {}
    for element in ElementTree.parse(path).iter("widget"):
        widget = Widget(element.get("class"))
        for entry in element.findall("property"):
            value = entry[0].text
            setattr(widget, entry.get("name"), {"true": True, "false": False}.get(value, value or ""))
        if element.findall("item"):
            for item in element.findall("item/property/string"):
                widget.addItem(item.text)
        widgets[element.get("name")] = widget
    widgets["UNetPlusPlus"].__dict__["all"] = types.SimpleNamespace(**widgets)
    return widgets["UNetPlusPlus"]


started = []  # what the application calls once it has started


def prepare():
    """Put stand-ins in place; return the module and what errors were shown."""
    shown = []
    sys.modules["qt"] = types.SimpleNamespace(QTimer=Timer, QSettings=Settings)
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    base.ScriptedLoadableModule, base.ScriptedLoadableModuleWidget = ModuleBase, WidgetBase
    base.ScriptedLoadableModuleTest = unittest.TestCase
    sys.modules[base.__name__] = base
    translations = types.ModuleType("slicer.i18n")
    translations.tr = str  # as an application that speaks English
    sys.modules[translations.__name__] = translations
    slicer.mrmlScene = slicer.vtkMRMLScene()
    slicer.app = types.SimpleNamespace(connect=lambda signal, slot: started.append(slot))
    slicer.util.loadUI = load_ui
    slicer.util.childWidgetVariables = lambda panel: panel.all
    slicer.util.errorDisplay = shown.append
    slicer.util.confirmOkCancelDisplay = lambda question: shown.append(question) or False
    colours = slicer.vtkMRMLColorLogic()
    colours.SetMRMLScene(slicer.mrmlScene)
    colours.AddDefaultColorNodes()
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule()
    slicer.vtkSegmentationConverterFactory.GetInstance().RegisterConverterRule(rule)
    shown_by = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    sys.path.insert(0, str(MODULE))
    import UNetPlusPlus

    UNetPlusPlus.keep = colours, shown_by
    return UNetPlusPlus, shown


def read_volume(path, *, moved=False):
    """A volume node in the scene, in the background of the view; moved by 100 mm to the patient's right on wish."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MR größer")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    if not storage.ReadData(volume):
        raise SystemExit(f"Slicer cannot read {path}")
    if moved:
        transform, matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 100)
        transform.SetMatrixTransformToParent(matrix)
        volume.SetAndObserveTransformNodeID(transform.GetID())
    slicer.mrmlScene.GetNthNodeByClass(0, "vtkMRMLSliceCompositeNode").SetBackgroundVolumeID(volume.GetID())
    return volume


def finish(logic):
    """Update until the end; return the shares seen on the way."""
    seen = []

    def ended():
        if logic.update():
            return True
        if not seen or seen[-1] != logic.progress:
            seen.append(logic.progress)
        return False

    wait_for(ended, "the end of the process", every=0.02)
    return seen


def nodes(kind):
    scene = slicer.mrmlScene
    return [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]


def described(results):
    """What the scene holds; segments are saved with their reference geometry by the caller."""
    segmentation, segments = results.segmentation.GetSegmentation(), []
    for index in range(segmentation.GetNumberOfSegments()):
        segment, terms = segmentation.GetNthSegment(index), vtk.mutable("")
        segment.GetTag("TerminologyEntry", terms)
        segments.append({"name": segment.GetName(), "colour": segment.GetColor(), "terms": str(terms)})
    table, view = results.table.GetTable(), nodes("vtkMRMLSliceCompositeNode")[0]
    found = {"segments": segments, "review": results.review, "names": [results.segmentation.GetName()]}
    found["remarks"] = list(results.remarks)
    found["rows"] = [
        [table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]
    found["columns"] = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    found["transformed"] = results.segmentation.GetTransformNodeID() is not None
    if results.uncertainty is not None:
        display = results.uncertainty.GetDisplayNode()
        voxels = vtk_to_numpy(results.uncertainty.GetImageData().GetPointData().GetScalars())
        found["uncertainty"] = {
            "range": [float(voxels.min()), float(voxels.max())],
            "window": [display.GetWindowLevelMin(), display.GetWindowLevelMax()],
            "threshold": [display.GetLowerThreshold(), display.GetUpperThreshold(), display.GetApplyThreshold()],
            "colours": display.GetColorNode().GetName(),
            "over": view.GetForegroundVolumeID() == results.uncertainty.GetID(),
            "opacity": view.GetForegroundOpacity(),
            "transformed": results.uncertainty.GetTransformNodeID() is not None,
        }
    return found


def save_labels(results, volume, path):
    """All segments as one label volume on the grid of the volume, as Slicer exports them."""
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ExportAllSegmentsToLabelmapNode(results.segmentation, labels, 0):
        raise SystemExit("Slicer cannot export the segments")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(labels):
        raise SystemExit(f"Slicer cannot write {path}")


def counts():
    return {kind: len(nodes(f"vtkMRML{kind}Node")) for kind in ("Segmentation", "ScalarVolume", "Table")}


def task_logic(module, image, folder, executable):
    volume, logic = read_volume(image, moved=True), module.UNetPlusPlusLogic()
    logic.apply(volume, module.Options(executable=executable, bundle="hippocampus", depth="full", device="cpu"))
    seen = finish(logic)
    save_labels(logic.results, volume, folder / "labels.nrrd")
    return {"seen": seen, "running": logic.running, **described(logic.results)}


def task_table(module, image, folder, executable):
    """A report of a result that is unlike the training cases, as a table."""
    from UNetPlusPlusLib.nodes import _table

    report = {"ml": {"a": 1.5, "b": 0.0}, "scores": {"a": 0.25, "b": None}, "plausibility": ["brain is 310 mL"]}
    table = _table(slicer.mrmlScene, report, "volumes").GetTable()
    return {"rows": [[table.GetValue(row, column).ToString() for column in range(3)] for row in range(3)]}


def task_samples(module, image, folder, executable):
    """What a checkout, whose address is not known, gives Slicer's Sample Data once the application has started."""
    sources = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: sources.append(source))
    sys.modules["SampleData"] = types.SimpleNamespace(SampleDataLogic=logic)
    module.UNetPlusPlus(types.SimpleNamespace())
    for slot in started:
        slot()
    return {"started": len(started), "sources": sources}


def task_head(module, image, folder, executable):
    """A whole head in the panel, at its defaults but for the depth."""
    panel, volume = module.UNetPlusPlusWidget(), read_volume(image)
    panel.setup()
    panel.ui.volumeSelector.hold(volume)
    panel.ui.executablePath.currentPath = executable
    panel.ui.uncertaintyCheckBox.checked = False
    panel.ui.depthSelector.addItem("1")
    panel.ui.depthSelector.setCurrentText("1")
    panel.ui.applyButton.emit()
    wait_for(lambda: Timer.running.emit() or not Timer.running, "the end of the process", every=0.05)
    save_labels(panel.logic.results, volume, folder / "labels.nrrd")
    asked = [panel.ui.taskSelector.currentText, panel.ui.reviewLabel.text]
    panel.cleanup()
    return {"asked": asked, **described(panel.logic.results)}


def task_cancel(module, image, folder, executable):
    volume, logic = read_volume(image), module.UNetPlusPlusLogic()
    logic.apply(volume, module.Options(executable=executable, bundle="hippocampus", device="cpu"))
    wait_for(lambda: logic.update() or logic.progress, "the network's progress", every=0.02)
    before = logic.progress
    logic.cancel()
    return {"before": before, "running": logic.running, **counts()}


def task_errors(module, image, folder, executable):
    volume, empty = read_volume(image), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    logic, said = module.UNetPlusPlusLogic(), []

    def attempt(node, **options):
        try:
            logic.apply(
                node,
                module.Options(
                    **{"executable": executable, "bundle": "hippocampus", "device": "cpu", "depth": "1", **options}
                ),
            )
            finish(logic)
        except module.SegmentationError as error:
            said.append(str(error))

    attempt(volume, executable="/nowhere/unetpp")
    attempt(empty)
    attempt(volume, executable="/bin/true")
    attempt(volume, bundle=str(folder / "no bundle"))
    logic.apply(volume, module.Options(executable=executable, bundle="hippocampus", depth="1", device="cpu"))
    attempt(volume)  # a second one at the same time
    slicer.mrmlScene.RemoveNode(volume)
    attempt_end(module, logic, said)
    return {"said": said, "running": logic.running, **counts()}


def attempt_end(module, logic, said):
    try:
        finish(logic)
    except module.SegmentationError as error:
        said.append(str(error))


def task_window(module, image, folder, executable):
    module.UNetPlusPlus(types.SimpleNamespace())
    panel, states = module.UNetPlusPlusWidget(), []
    panel.setup()
    ui, volume = panel.ui, read_volume(image)

    def note():
        states.append([ui.applyButton.enabled, ui.cancelButton.enabled, Timer.running is not None])

    def run():
        ui.applyButton.emit()
        note()
        bar = []

        def ended():
            if Timer.running:
                Timer.running.emit()
                bar.append(ui.progressBar.value)
            return not Timer.running

        wait_for(ended, "the end of the process", every=0.02)
        note()
        return sorted(set(bar)) == list(dict.fromkeys(bar)) and len(set(bar)) > 3

    note()
    ui.volumeSelector.hold(volume)
    ui.volumeSelector.emit(volume)
    note()
    ui.executablePath.currentPath = executable
    ui.taskSelector.setCurrentText("hippocampus")
    panel.enter()
    wait_for(lambda: Timer.running.emit() or not Timer.running, "what the bundle says", every=0.02)
    about = [ui.taskAbout.text, *ui.depthSelector.items]
    ui.depthSelector.setCurrentText(ui.depthSelector.items[1])
    rising = run()
    ui.show3dButton.checked = True
    ui.show3dButton.emit()
    segmentation = panel.logic.results.segmentation
    surfaces = (
        segmentation.GetDisplayNode().GetVisibility3D()
        and segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    )
    again = module.UNetPlusPlusWidget()
    again.setup()
    kept = [again.ui.depthSelector.currentText, again.ui.volumeSelector.node is volume]
    again.cleanup()
    ui.installButton.emit()
    ui.downloadButton.emit()
    ui.bundleUrlEdit.text = "https://example.org/a.zip"
    ui.downloadButton.emit()
    table, results = ui.volumesTable.node.GetNumberOfRows(), panel.logic.results
    ui.applyButton.emit()
    note()
    ui.cancelButton.emit()
    note()
    ui.executablePath.currentPath = "/nowhere/unetpp"
    ui.applyButton.emit()
    note()
    panel.cleanup()
    new = {"about": about, "surfaces": surfaces, "again": kept, "log": ui.logBox.plainText}
    old = {"states": states, "rising": rising, "kept": Settings.kept}
    return {**new, **old, **described(results), **counts(), "rows": table}


def task_dicom(module, series, folder, executable):
    """A volume of a DICOM series, under a study: its DICOM SEG, the place of the results, a chosen output."""
    paths = sorted(Path(series).iterdir())
    files = {path.stem: str(path) for path in paths}
    slicer.dicomDatabase = types.SimpleNamespace(fileForInstance=lambda uid: files.get(uid, ""))
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient"), "study")
    hierarchy.CreateItem(study, volume)
    logic, target = module.UNetPlusPlusLogic(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    kept, said = folder / "kept", []
    kept.mkdir()
    options = module.Options(executable, "hippocampus", "1", "cpu", uncertainty=False, seg_folder=str(kept))

    def attempt():
        try:
            logic.apply(volume, options, target)
        except module.SegmentationError as error:
            said.append(str(error))

    attempt()
    volume.SetAttribute("DICOM.instanceUIDs", " ".join([*files, "1.2.3"]))
    attempt()
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    for _ in range(2):
        logic.apply(volume, options, target)
        finish(logic)
    results = logic.results
    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (target, results.table)]
    segments = target.GetSegmentation().GetNumberOfSegments()
    same = results.segmentation is target
    return {
        **{"said": said, "kept": sorted(path.name for path in kept.iterdir()), "segments": segments, "log": logic.log},
        **{"under_study": parents == [study, study], "same": same, **counts()},
    }


def task_selftest(module, image, folder, executable):
    result = unittest.TestResult()
    module.UNetPlusPlusTest("runTest").run(result)
    return {"ran": result.testsRun, "problems": [text for _, text in result.failures + result.errors]}


def task_picture(module, image, folder, executable):
    """A slice view through the middle: image, uncertainty, segments."""
    import slicer_view

    scene, application = slicer.mrmlScene, slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    volume, logic = slicer_view.add_volume(scene, image, None), module.UNetPlusPlusLogic()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(*volume.GetImageData().GetScalarRange())
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    middle = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    view = slicer_view.show(scene, application, volume, middle)
    logic.apply(volume, module.Options(executable=executable, bundle="hippocampus", device="cpu"))
    finish(logic)
    display = logic.results.segmentation.GetDisplayNode()
    display.SetOpacity2DFill(0)  # outlines, so that the map is seen
    display.SetSliceIntersectionThickness(3)
    slicer_view.draw(view, application, str(folder / "slicer_module.png"))
    return described(logic.results)


def main(task, image, folder, executable):
    module, shown = prepare()
    found = globals()[f"task_{task}"](module, image, Path(folder), executable)
    sys.stdout.write("\n" + json.dumps({**found, "shown": shown}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
