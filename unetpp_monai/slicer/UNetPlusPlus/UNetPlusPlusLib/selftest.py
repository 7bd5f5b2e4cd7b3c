"""Self-test in the application: Slicer --python-script .../UNetPlusPlusLib/selftest.py [python or unetpp].

It prints JSON, which says what worked on this computer, and ends Slicer with 0, or 1 if a step failed. It clears the
scene. Nothing leaves the computer: the bundle that it downloads is served by itself, on the loopback address.
"""

from __future__ import annotations  # Slicer's Python may be 3.9

import json
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy
import slicer

from UNetPlusPlusLib import BundleDownload, Options, SegmentationLogic, read_settings, show_3d, write_settings
from UNetPlusPlusLib.process import ExternalProcess, program

PATIENCE_S = 900.0  # most time for one process
LOOPBACK = "127.0.0.1"


def _wait(ended: Callable[[], Any], what: str) -> None:
    """Process events of the application until something has ended."""
    until = time.monotonic() + PATIENCE_S
    while not ended():
        slicer.app.processEvents()
        time.sleep(0.05)
        if time.monotonic() > until:
            raise TimeoutError(f"{what} must end within {PATIENCE_S:.0f} s")


def _volume() -> Any:
    node = slicer.vtkMRMLScalarVolumeNode()
    noise = numpy.random.default_rng(0).normal(100, 20, (24, 24, 24)).astype("float32")
    slicer.util.updateVolumeFromArray(node, noise)
    node.SetName("noise")
    return slicer.mrmlScene.AddNode(node)


def panel() -> str:
    """Open the module's panel."""
    slicer.util.selectModule("UNetPlusPlus")
    widget = slicer.util.getModuleWidget("UNetPlusPlus")
    return f"task {widget.ui.taskSelector.currentText}, depth {widget.ui.depthSelector.currentText}"


def segmentation(executable: str) -> str:
    """Segment noise and show it in 3-D."""
    logic = SegmentationLogic()
    logic.apply(_volume(), Options(executable, "hippocampus", "1", "cpu"))
    try:
        _wait(logic.update, "segmenting")
    finally:
        logic.cancel()
    if logic.results is None:
        raise RuntimeError("a segmentation that ended must have results, got none")
    show_3d(logic.results.segmentation)
    segments = logic.results.segmentation.GetSegmentation().GetNumberOfSegments()
    return f"{segments} labels, {len(logic.results.remarks)} remarks"


def settings() -> str:
    """Save settings with the scene and read them again."""
    write_settings(slicer.mrmlScene, {"volume": None, "segmentation": None, "depth": "2"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.mrml"
        slicer.mrmlScene.SetURL(str(path))
        if not slicer.mrmlScene.Commit():
            raise OSError(f"a scene must be writable to {path}")
        slicer.mrmlScene.Clear()
        slicer.mrmlScene.Connect()
    depth = read_settings(slicer.mrmlScene).get("depth")
    if depth != "2":
        raise ValueError(f"the scene must keep depth 2, got {depth}")
    return "kept"


def effect(executable: str) -> str:
    """Segment a box by the Segment Editor's effect, and undo it."""
    volume, node = _volume(), slicer.mrmlScene.AddNode(slicer.vtkMRMLSegmentEditorNode())
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    target.CreateDefaultDisplayNodes()
    target.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    box.SetSize(100, 100, 100)  # mm, more than the volume's
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(node)
    editor.setSegmentationNode(target)
    editor.setSourceVolumeNode(volume)
    editor.setActiveEffectByName("UNet++")
    if editor.activeEffect() is None:
        raise RuntimeError("the Segment Editor must have the effect UNet++, got none")
    ours = editor.activeEffect().self()
    for name, value in {"Task": "hippocampus", "Depth": "1", "Device": "cpu", "Whole": "0"}.items():
        editor.activeEffect().setParameter(name, value)
    ours.updateGUIFromMRML()
    ours.box.setCurrentNode(box)
    ours.executable = executable
    with _errors() as said:
        ours.on_apply()
        _wait(lambda: not ours.logic.running, "segmenting a box")
    if said:
        raise RuntimeError("\n".join(said))
    count = target.GetSegmentation().GetNumberOfSegments()
    editor.undo()
    left, comment = target.GetSegmentation().GetNumberOfSegments(), ours.logic.comment
    editor.setActiveEffect(None)
    if comment != "done" or left:
        raise RuntimeError(f"the effect must end and be undone, got {comment!r} and {left} segments")
    return f"{count} segments, undone"


@contextmanager
def _errors() -> Iterator[list[str]]:
    """Collect errors that would open a window and wait for a user."""
    said: list[str] = []
    shown, slicer.util.errorDisplay = slicer.util.errorDisplay, said.append
    try:
        yield said
    finally:
        slicer.util.errorDisplay = shown


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback only."""
    with ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def download(executable: str) -> str:
    """Pack a bundle, serve it, download it, unpack it, and have it checked."""
    os.environ["no_proxy"] = LOOPBACK  # else a proxy of the network would be used
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = _packed(executable, folder)
        getting = BundleDownload(lambda _question: True, folder / "got", schemes=("http",))
        found: list[Path] = []

        def ended() -> bool:
            found.extend(filter(None, [getting.update()]))
            return bool(found)

        with _served(folder) as address:
            getting.begin(f"{address}/{archive.name}", executable)
            try:
                _wait(ended, "a download")
            finally:
                getting.cancel()
        return f"{archive.stat().st_size / 1e6:.1f} MB, {sum(one.is_file() for one in found[0].rglob('*'))} files"


def _packed(executable: str, folder: Path) -> Path:
    """Write a bundle's zip by `unetpp`."""
    packing, said = ExternalProcess([*program(Options(executable)), "pack", "hippocampus", "-o", "."], folder), []

    def ended() -> bool:
        said.extend(packing.lines())
        return packing.code() is not None

    try:
        _wait(ended, "packing a bundle")
    finally:
        packing.end()
    if packing.code() != 0:
        raise RuntimeError("\n".join(["unetpp pack must end with 0, and said", *said]))
    (archive,) = folder.glob("*.zip")
    return archive


def run(executable: str) -> dict[str, Any]:
    """Run all steps.

    Args:
        executable: python or unetpp; empty: as the module finds it.

    Returns:
        Versions, and of every step whether it worked, what it said, and its seconds.
    """
    steps: dict[str, Callable[[], str]] = {
        "panel": panel,
        "segmentation": lambda: segmentation(executable),
        "effect": lambda: effect(executable),
        "download": lambda: download(executable),
        "settings": settings,
    }
    rows = {}
    for name, step in steps.items():
        begun = time.monotonic()
        try:
            row: dict[str, Any] = {"worked": True, "said": step()}
        except Exception:  # noqa: BLE001 - one step's failure is its row; the others still run
            row = {"worked": False, "said": traceback.format_exc()}
        rows[name] = {**row, "seconds": round(time.monotonic() - begun, 2)}
    versions = {"slicer": slicer.app.applicationVersion, "python": platform.python_version()}
    return {**versions, "platform": platform.platform(), "steps": rows}


if __name__ == "__main__":
    report = run(sys.argv[1] if len(sys.argv) > 1 else "")
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    sys.stdout.flush()
    slicer.util.exit(0 if all(row["worked"] for row in report["steps"].values()) else 1)
