"""3D Slicer's scripted module: from volume node to nodes by the real `unetpp`, and what Slicer needs to load it."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK
from helpers import BUNDLE, HEAD, HELPERS, ROOT, phantom, save_nifti
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.slicer_cases import SAMPLE, read, segment_oblique, tiny_wheel
from helpers.slicer_processes import wait_until_gone, working_in
from helpers.waiting import DEADLINE, wait_for
from PIL import Image
from pydicom import dcmread

pytestmark = pytest.mark.slow

SLICER = ROOT / "unetpp_monai" / "slicer"
MODULE = SLICER / "UNetPlusPlus"
INTERFACE = MODULE / "Resources" / "UI" / "UNetPlusPlus.ui"
IN_SLICER = ("SampleData", "SegmentEditorEffects", "qSlicerSegmentationsEditorEffectsPythonQt")
IN_QT = ("slicer_effect_run.py", "slicer_panel_run.py")
SCRIPTS = sorted(path for path in SLICER.rglob("*.py"))


def in_slicer(task, image, folder, *more, printed=False, script="slicer_module_run.py"):
    """Run a task of a script in Slicer's classes, with folders for temporary files that tell what was left."""
    if importlib.util.find_spec("slicer") is None:
        pytest.skip("needs Slicer's classes: pip install slicer-core")
    if script in IN_QT and importlib.util.find_spec("PySide6") is None:
        pytest.skip("needs Qt: pip install PySide6-Essentials")
    temporary = folder / "temporary"
    temporary.mkdir()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    run = subprocess.run(
        [sys.executable, HELPERS / script, task, image, folder, sys.executable, *more],
        env={**os.environ, "TMPDIR": str(temporary), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    wait_until_gone(working_in(temporary))
    assert [path.name for path in temporary.iterdir() if path.name.startswith("unetpp")] == []
    found = json.loads(run.stdout.splitlines()[-1])
    return (found, run.stdout) if printed else found


@pytest.mark.slow
@pytest.mark.long
def test_from_a_volume_node_to_nodes(tmp_path):
    segment_oblique(tmp_path)
    found = in_slicer("logic", tmp_path / "case.nrrd", tmp_path)
    labels = json.loads((BUNDLE / "configs" / "metadata.json").read_text())["label_codes"]
    report = json.loads((tmp_path / "case.json").read_text())
    assert [one["name"] for one in found["segments"]] == list(report["ml"])
    for one, code in zip(found["segments"], labels.values(), strict=True):
        assert np.rint(np.multiply(one["colour"], 255)).tolist() == code["colour"]
        terms = [
            "^".join(code[key][part] for part in ("scheme", "value", "meaning")) for key in code if key != "colour"
        ]
        assert one["terms"].split("~")[1:4] == terms
    assert found["names"] == ["MR größer segmentation"]
    assert found["columns"] == ["Label", "Volume (mL)", "Uncertainty score"]
    assert found["remarks"] == report["plausibility"]
    labels_rows = found["rows"][: len(report["ml"])]
    assert [row[0] for row in found["rows"][len(report["ml"]) :]] == [f"Check: {one}" for one in found["remarks"]]
    for row, (name, ml) in zip(labels_rows, report["ml"].items(), strict=True):
        assert row[0] == name
        assert [float(value) for value in row[1:]] == pytest.approx([ml, report["scores"][name]], rel=1e-4)
    assert found["review"] == report["review"]
    assert found["seen"][0] < 0.1 < found["seen"][-1] < 1
    assert not found["running"]
    assert_places_agree(read(tmp_path / "labels.nrrd"), read(tmp_path / "case.seg.nrrd"))
    assert found["transformed"], "results move with the volume"


@pytest.mark.long
def test_a_whole_head_gives_four_labels(tmp_path):
    """The shipped sample head, in the panel, as by the command line."""
    command = [sys.executable, "-m", "unetpp_monai", "segment", str(HEAD), "-o", ".", "--format", "nifti"]
    options = ["--task", "hippocampus_head", "--depth", "1", "--device", "auto"]
    subprocess.run([*command, *options], check=True, capture_output=True, cwd=tmp_path)
    report = json.loads((tmp_path / "mni_head.json").read_text())
    found = in_slicer("head", HEAD, tmp_path)
    assert [one["name"] for one in found["segments"]] == list(report["ml"])
    assert len(report["ml"]) == 4
    assert min(report["ml"].values()) > 0.5
    assert [row[0] for row in found["rows"]] == [*report["ml"], *(f"Check: {one}" for one in report["plausibility"])]
    review = "\n".join(report["plausibility"])
    assert found["asked"] == ["hippocampus_head", f"Please review. {review}" if report["review"] else ""]
    ours = SimpleITK.GetArrayFromImage(read(tmp_path / "labels.nrrd"))
    theirs = SimpleITK.GetArrayFromImage(read(tmp_path / report["outputs"]["nifti"]["file"]))
    assert np.bincount(ours.ravel(), minlength=5)[1:].tolist() == np.bincount(theirs.ravel(), minlength=5)[1:].tolist()


def test_what_is_implausible_is_a_row_of_the_table(tmp_path):
    assert in_slicer("table", "none", tmp_path)["rows"] == [
        ["a", "1.5", "0.25"],
        ["b", "0", "nan"],
        ["Check: brain is 310 mL", "nan", "nan"],
    ]


def test_a_checkout_registers_no_samples(tmp_path):
    assert in_slicer("samples", "none", tmp_path) == {"started": 1, "sources": [], "shown": []}


def assert_places_agree(image, other):
    """Every label's voxels lie at the same places, whatever the images' extents."""
    for value in (1, 2):
        ours, theirs = (in_order(one, value) for one in (image, other))
        assert len(theirs) > 500
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def in_order(image, value):
    voxels = SimpleITK.GetArrayFromImage(image).T
    indices = np.argwhere(voxels == value)
    direction = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return indices[np.lexsort(indices.T)] @ direction.T + image.GetOrigin()


def test_uncertainty_lies_over_the_volume(tmp_path):
    """In the module's window: rising progress, buttons that fit, a table; then cancel, then an error."""
    found = in_slicer("window", SAMPLE, tmp_path)
    assert found["states"] == [  # apply enabled, cancel enabled, timer running
        [False, False, False],  # no volume
        [True, False, False],  # chosen
        [False, True, True],  # applied
        [True, False, False],  # done
        [False, True, True],  # again
        [True, False, False],  # cancelled
        [True, False, False],  # an executable that is none
    ]
    assert found["rising"]
    assert found["about"][0].startswith("UNet++ hippocampus MRI segmentation ")
    assert found["about"][1:] == [
        "full (time x 1.00)",
        *(
            f"{depth} (time x {share})"
            for depth, share in (("1", "0.29"), ("2", "0.62"), ("3", "1.00"), ("auto", "0.87"))
        ),
    ]
    assert found["surfaces"], "Show 3D"
    assert found["again"] == ["1", True], "the scene keeps the settings"
    assert (found["rows"] - len(found["remarks"]), found["Segmentation"]) == (2, 1)
    assert (found["ScalarVolume"], found["Table"]) == (2, 1)
    assert found["kept"] == {
        "UNetPlusPlus/executable": "/nowhere/unetpp",
        "UNetPlusPlus/bundle": "",
        "UNetPlusPlus/task": "hippocampus",
        "UNetPlusPlus/device": "auto",
    }
    question, no_url, download, message = found["shown"]
    assert no_url == "a bundle's URL must begin with https://, got "
    assert download.startswith("Download https://example.org/a.zip to ")
    assert question.startswith("Install unetpp_monai[dicom] into Slicer's Python? pip downloads")
    assert message.startswith("/nowhere/unetpp is not a program that can be run; give the path of python or unetpp")
    display = found["uncertainty"]
    assert display["range"][0] >= 0
    assert 0.1 < display["range"][1] <= 1
    assert (display["window"], display["threshold"]) == ([0, 1], [0.2, 1, 1])
    assert (display["colours"], display["over"], display["opacity"]) == ("Iron", True, 0.5)


@pytest.mark.long
def test_panel_in_real_qt(tmp_path):
    """Its buttons by clicks: depths of the bundle, table, log, surfaces, and the picture of the documentation."""
    found = in_slicer("hippocampus", SAMPLE, tmp_path, "1", script="slicer_panel_run.py")
    installs = ["installButton", "apartButton", "downloadButton"]
    assert found["before"] == ["applyButton", *installs]
    assert found["running"] == ["cancelButton", *installs]
    assert found["after"] == ["applyButton", "show3dButton", *installs]
    assert [depth.split(" ")[0] for depth in found["depths"]] == ["full", "1", "2", "3", "auto"]
    assert found["about"].endswith("Labels: anterior hippocampus, posterior hippocampus.")
    assert [row[0] for row in found["rows"][:2]] == ["anterior hippocampus", "posterior hippocampus"]
    assert found["status"] == "done"
    assert found["log"].startswith("volume: anterior hippocampus ")
    assert "unetpp_slicer" not in found["log"], "the temporary folder is gone"
    slicers, apart = found["shown"]
    assert slicers.startswith("Install unetpp_monai[dicom] into Slicer's Python?")
    assert re.match(r"Make the environment \S+UNetPlusPlus_environment by \S+python\S* and install unetpp_monai", apart)
    picture = np.asarray(Image.open(tmp_path / "slicer_panel.png").convert("RGB"))
    assert picture.shape == (900, 1370, 3)
    surfaces = picture[10:440, 930:1360].reshape(-1, 3)
    for red, green, blue in ((0, 1, 2), (1, 0, 2)):  # both labels' surfaces: mostly red, mostly green
        assert (
            (surfaces[:, red] > 1.2 * surfaces[:, green]) & (surfaces[:, red] > 1.2 * surfaces[:, blue])
        ).sum() > 900


@pytest.mark.long
def test_panel_installs_into_an_environment_apart(tmp_path):
    """The real venv and pip, offline; the bar is busy meanwhile, and its python is named in the end."""
    found = in_slicer("install", tiny_wheel(tmp_path), tmp_path, script="slicer_panel_run.py")
    environment = tmp_path / "UNetPlusPlus_environment"
    assert found["during"] == [["cancelButton", "downloadButton"], "installing", 0]
    assert found["after"] == [["installButton", "apartButton", "downloadButton"], 100]
    assert found["executable"] == str(environment / "bin" / "python")
    assert list(environment.rglob("site-packages/tiny.py"))
    assert "Successfully installed tiny-1.0" in found["log"]
    (question,) = found["shown"]
    assert question.startswith(f"Make the environment {environment} by ")


@pytest.mark.long
def test_dicom_volumes_are_segmented_from_their_series(tmp_path):
    """The SEG refers to the series, results lie under its study, and a chosen output is filled."""
    headers = make_series(tmp_path / "series", axial_affine((1.0, 1.0, 1.0)), (32, 36, 30))
    for path in (tmp_path / "series").iterdir():
        path.rename(path.with_name(f"{dcmread(path, stop_before_pixels=True).SOPInstanceUID}.dcm"))
    found = in_slicer("dicom", tmp_path / "series", tmp_path)
    none, missing = found["said"]
    assert none.startswith("a DICOM SEG needs a volume loaded from DICOM, got 'T1'; leave")
    assert missing == "all 31 files of 'T1' must be there, 1 are not; import them again"
    assert (found["same"], found["under_study"], found["Segmentation"]) == (True, True, 1)
    assert found["Table"] == 1, "the second run's in the place of the first's"
    assert found["segments"] == 2
    assert len(found["kept"]) == 2, "nothing that was there is written over"
    for name in found["kept"]:
        seg = dcmread(tmp_path / "kept" / name)
        assert seg.StudyInstanceUID == headers[0].StudyInstanceUID
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == headers[0].SeriesInstanceUID
        assert f"wrote {tmp_path / 'kept' / name}" in found["log"] or name == found["kept"][0]


def test_cancel_ends_the_process(tmp_path):
    image = save_nifti(tmp_path / "case.nii.gz", phantom((160, 160, 128))[0])
    found = in_slicer("cancel", image, tmp_path)
    assert 0 < found["before"] < 1, "in the midst of the network"
    assert not found["running"]
    assert (found["Segmentation"], found["ScalarVolume"], found["Table"]) == (0, 1, 0)


@pytest.mark.slow
@pytest.mark.long
def test_errors_are_told_and_leave_the_scene_alone(tmp_path):
    found = in_slicer("errors", SAMPLE, tmp_path)
    for message, expected in zip(
        found["said"],
        (
            "/nowhere/unetpp is not a program that can be run",
            "a volume must have voxels, got none in 'empty'",
            "unetpp must write one report, got 0",
            "a bundle must hold configs/metadata.json",
            "one volume can be segmented at a time",
            "the volume must be in the scene, got none; it was removed while it was segmented",
        ),
        strict=True,
    ):
        assert message.startswith(expected)
    assert not found["running"]
    assert (found["Segmentation"], found["ScalarVolume"], found["Table"]) == (0, 1, 0), "only the empty volume is left"


def test_slicers_own_test_of_the_module(tmp_path):
    assert in_slicer("selftest", SAMPLE, tmp_path) == {"ran": 1, "problems": [], "shown": []}


@pytest.mark.long
@pytest.mark.parametrize(("image", "code"), [(SAMPLE, 0), ("none", 1)])
def test_selftest_of_the_application(tmp_path, image, code):
    """Scene, editor and Qt are real, the application is not; without an executable only what needs none works."""
    found, printed = in_slicer("script", image, tmp_path, printed=True, script="slicer_effect_run.py")
    report = json.loads(printed[printed.index("{") : printed.rindex("}", 0, printed.rindex("{")) + 1])
    assert found["ended"] == [code]
    assert {name: row["worked"] for name, row in report["steps"].items()} == {
        "panel": True,
        "segmentation": code == 0,
        "effect": code == 0,
        "download": code == 0,
        "settings": True,
    }
    if code == 0:
        assert re.fullmatch(r"[1-9] segments, undone", report["steps"]["effect"]["said"])
        assert re.fullmatch(r"\d+\.\d MB, \d{2,} files", report["steps"]["download"]["said"])
    assert found["shown"] == [], "no window waits for somebody"


def load(name, path):
    """A module of the library, outside Slicer."""
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [str(MODULE / "UNetPlusPlusLib")]
    specification = importlib.util.spec_from_file_location(f"{name}.{path.stem}", path)
    module = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def process():
    return load("slicer_process", MODULE / "UNetPlusPlusLib" / "process.py")


def test_process_is_free_of_slicers_environment(tmp_path, process, monkeypatch):
    for name in process.SLICERS_OWN:
        if not name.startswith(("LD_", "DYLD_")):  # those would act on this very process's children at once
            monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setenv("KEPT", "größer")
    script = "import os, sys; print(sorted(os.environ)); sys.stderr.write(os.environ['KEPT']); sys.exit(3)"
    child = process.ExternalProcess([sys.executable, "-X", "utf8", "-c", script], tmp_path)
    lines = []
    wait_for(lambda: lines.extend(child.lines()) or child.code() is not None, "the end of the process")
    lines += child.lines()
    assert child.code() == 3
    assert "größer" in "".join(lines)
    assert not [name for name in process.SLICERS_OWN if f"'{name}'" in lines[0] + lines[-1]]
    child.end()  # of what has ended


def test_process_ends_with_what_it_started(tmp_path, process):
    """A wrapper script's child too; one that does not listen is killed."""
    script = tmp_path / "wrapper"
    script.write_text("#!/bin/sh\ntrap '' TERM\necho started\nsleep 6000\nsleep 6000\n")
    script.chmod(0o755)
    child = process.ExternalProcess([str(script)], tmp_path)
    wait_for(child.lines, "its first line")
    assert working_in(tmp_path)
    child.end()
    wait_until_gone(working_in(tmp_path))
    assert child.code() != 0


@pytest.mark.parametrize(("name", "start"), [("unetpp", []), ("python3", ["-m", "unetpp_monai"])])
def test_command_line_of_the_options(tmp_path, process, name, start):
    program = tmp_path / name
    program.touch(mode=0o755)
    options = process.Options(str(program), "/b", "2", "cpu", True)
    plain = process.Options(str(program), uncertainty=False)
    parts = [str(program), *start, "segment", "/a.nrrd", "-o", str(tmp_path), "--format", "segnrrd", "--progress"]
    wanted = ["--depth", "2", "--device", "cpu", "--bundle", "/b", "--uncertainty"]
    assert process.command(options, Path("/a.nrrd"), tmp_path) == parts + wanted
    assert process.command(plain, Path("/a.nrrd"), tmp_path) == [*parts, "--depth", "full", "--device", "auto"]


def test_finds_the_environment_that_it_lies_in(tmp_path):
    for place in ("bin/unetpp", ".venv/bin/unetpp"):
        root = tmp_path / place.split("/")[0]
        copy = root / "lib" / "python3.11" / "site-packages" / "unetpp_monai" / "slicer" / "process.py"
        copy.parent.mkdir(parents=True)
        shutil.copy(MODULE / "UNetPlusPlusLib" / "process.py", copy)
        (root / place).parent.mkdir(parents=True)
        (root / place).touch(mode=0o755)
        assert load(f"process_in_{root.name.strip('.')}", copy).find_executable("") == root / place


def test_the_documentation_names_the_folder():
    """The commands that install are left out: this environment is what they make."""
    (block,) = re.findall(r"```bash\n(.*?)\n *```", (ROOT / "docs" / "slicer.md").read_text(), re.DOTALL)
    (command,) = [line.strip() for line in block.splitlines() if "pip install" not in line]
    here = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    ended = subprocess.run(here, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert MODULE.samefile(Path(ended.stdout.strip()) / "UNetPlusPlus")


def cmake(path):
    """Commands of a CMake list: (name, arguments), variables filled in, comments left out."""
    text = re.sub(r"#.*", "", path.read_text())
    variables, commands = {}, []
    for name, arguments in re.findall(r"(\w+)\s*\(([^)]*)\)", text):
        for variable, value in variables.items():
            arguments = arguments.replace(f"${{{variable}}}", value)
        words = re.findall(r'"[^"]*"|\S+', arguments)
        if name == "set":
            variables[words[0]] = " ".join(words[1:])
        commands.append((name, words))
    return commands, variables


def test_cmake_lists_name_every_file():
    """What they leave out is missing in a built extension."""
    commands, variables = cmake(SLICER / "CMakeLists.txt")
    folders = [words[0] for name, words in commands if name == "add_subdirectory"]
    assert sorted(folders) == sorted(path.parent.name for path in SLICER.glob("*/CMakeLists.txt"))
    for part in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert f"EXTENSION_{part}" in variables
    assert [name for name, _ in commands].count("find_package") == 1
    for folder in (SLICER / name for name in folders):
        _, variables = cmake(folder / "CMakeLists.txt")
        named = {*variables["MODULE_PYTHON_SCRIPTS"].split(), *variables.get("MODULE_PYTHON_RESOURCES", "").split()}
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert named == {name for name in files if not name.endswith(".pyc")} - {"CMakeLists.txt"}


def test_interface_is_whole():
    """Custom classes are declared, connections end at widgets, and code asks for widgets that exist."""
    root = ElementTree.parse(INTERFACE).getroot()
    kinds = {element.get("name"): element.get("class") for element in root.iter("widget")}
    assert len(kinds) == len(list(root.iter("widget")))
    custom = {kind for kind in kinds.values() if not kind.startswith("Q")}
    assert custom == {element.text for element in root.findall("customwidgets/customwidget/class")}
    for connection in root.findall("connections/connection"):
        assert {connection.findtext("sender"), connection.findtext("receiver")} <= set(kinds)
    scene_users = {name for name, kind in kinds.items() if kind in ("qMRMLNodeComboBox", "qMRMLTableView")}
    assert {connection.findtext("receiver") for connection in root.findall("connections/connection")} == scene_users
    code = [MODULE / "UNetPlusPlus.py", MODULE / "UNetPlusPlusLib" / "environment.py"]
    asked = set(re.findall(r"\bui\.(\w+)|_ui\.(\w+)", "".join(path.read_text() for path in code)))
    asked = {name for names in asked for name in names if name}
    assert asked <= set(kinds)
    depths = [item.text for item in root.findall(".//widget[@name='depthSelector']/item/property/string")]
    assert depths == ["full", "auto"], "until the bundle has said which it has"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_slicers_python_can_read_it(path):
    """3.9 or later, which knows `X | None` only as text; and no module that it lacks."""
    text = path.read_text()
    allowed = {*sys.stdlib_module_names, "slicer", "vtk", "qt", "numpy", "UNetPlusPlusLib", *IN_SLICER}
    tree = ast.parse(text, feature_version=(3, 9))
    assert "from __future__ import annotations" in text or "|" not in text
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] in allowed
    without_slicer = path.name in ("process.py", "logic.py")
    assert not (without_slicer and re.search(r"^\s*(import|from) (qt|ctk|slicer|vtk)\b", text, re.MULTILINE))
