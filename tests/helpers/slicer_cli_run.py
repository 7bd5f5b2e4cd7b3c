"""Run apart from the tests: a command line module as 3D Slicer runs it, by the classes that do so there.

python slicer_cli_run.py PARSER.so SCRIPT.py VOLUME FOLDER EXECUTABLE [cancel]: Slicer's own parser reads the XML, its
logic writes the volume to FOLDER, builds the command line, runs it, watches its progress, and reads the results into
nodes; with "cancel", Slicer cancels once it runs. What came of it is the last line, as JSON; nodes are saved beside
FOLDER. PARSER.so is slicer_description.cpp.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import slicer

PATIENCE_S = 120
CANCEL_S = 3  # after which it is cancelled, in the midst of its work


def application(folder):
    """Logic, scene and what Slicer's application makes for them at its start."""
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    kept = slicer.vtkCacheManager(), slicer.vtkMRMLColorLogic()
    scene.SetCacheManager(kept[0])
    logic.SetMRMLScene(scene)
    kept[1].SetMRMLScene(scene)
    kept[1].AddDefaultColorNodes()
    logic.SetColorLogic(kept[1])
    logic.SetTemporaryPath(str(folder))
    logic.CreateProcessingThread()
    return scene, logic, kept


def save(node, path):
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise SystemExit(f"Slicer cannot write {path}")


def follow(node, logic, cancel):
    """Do what Slicer's main loop does until the module has ended; return (status, progress) as they changed."""
    start, seen = time.monotonic(), []
    while time.monotonic() - start < PATIENCE_S:
        logic.ProcessModified()
        logic.ProcessReadData()
        state = node.GetStatusString(), node.GetProgress()
        if not seen or seen[-1] != state:
            seen.append(state)
        if node.GetStatusString().startswith(("Completed", "Cancelled")):
            return seen
        if cancel and node.GetStatusString() == "Running" and time.monotonic() - start > CANCEL_S:
            node.Cancel()
        time.sleep(0.02)
    raise SystemExit(f"no end in sight: {seen}")


def main(parser, script, image, folder, executable, cancel=""):
    xml = Path(script).with_suffix(".xml").read_text()
    if ctypes.CDLL(parser).register_module(xml.encode(), sys.executable.encode(), script.encode()):
        raise SystemExit("Slicer does not understand the XML")
    scene, application_logic, _ = application(folder)
    logic, storage = slicer.vtkSlicerCLIModuleLogic(), slicer.vtkMRMLVolumeArchetypeStorageNode()
    logic.SetMRMLScene(scene)
    logic.SetMRMLApplicationLogic(application_logic)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    storage.SetFileName(image)
    if not storage.ReadData(volume):
        raise SystemExit(f"Slicer cannot read {image}")
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label")
    uncertainty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "uncertainty")
    node = slicer.vtkMRMLCommandLineModuleNode()
    scene.AddNode(node)
    node.SetModuleDescription("UNet++ Segment")
    nodes = {"inputVolume": volume, "outputLabel": label, "uncertainty": uncertainty}
    values = {"depth": "full", "device": "cpu", "executable": executable, **{k: n.GetID() for k, n in nodes.items()}}
    for name, value in values.items():
        node.SetParameterAsString(name, value)
    logic.Apply(node, False)
    seen = follow(node, application_logic, cancel)
    application_logic.TerminateProcessingThread()
    if label.GetImageData():
        save(label, Path(folder).with_suffix(".label.nrrd"))
        save(uncertainty, Path(folder).with_suffix(".uncertainty.nrrd"))
    outputs = {name: node.GetParameterAsString(name) for name in ("volumes", "review")}
    sys.stdout.write("\n" + json.dumps({"seen": seen, "error": node.GetErrorText(), **outputs}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
