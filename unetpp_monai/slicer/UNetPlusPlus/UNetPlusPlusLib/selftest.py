"""Self-test in the application: Slicer --python-script .../UNetPlusPlusLib/selftest.py [python or unetpp].

It prints JSON, which says what worked on this computer, and ends Slicer with 0, or 1 if a step failed. It clears the
scene; nothing is sent anywhere.
"""

from __future__ import annotations  # Slicer's Python may be 3.9

import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import slicer

from UNetPlusPlusLib import Options, SegmentationLogic, read_settings, show_3d, write_settings

PATIENCE_S = 900.0  # for one segmentation of a small volume


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
    logic, until = SegmentationLogic(), time.monotonic() + PATIENCE_S
    logic.apply(_volume(), Options(executable, "hippocampus", "1", "cpu"))
    while not logic.update():
        slicer.app.processEvents()
        time.sleep(0.05)
        if time.monotonic() > until:
            logic.cancel()
            raise TimeoutError(f"segmenting must end within {PATIENCE_S:.0f} s")
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
