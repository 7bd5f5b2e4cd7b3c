"""3D Slicer's command line module: as Slicer describes, starts, follows and cancels it, with the real `unetpp`."""

import ast
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import HELPERS, ROOT, phantom, save_nifti
from helpers.slicer_cases import OPTIONS, SAMPLE, assert_same, read, segment_oblique
from helpers.slicer_processes import children, gone, working_in

FOLDER = ROOT / "unetpp_monai" / "slicer" / "UNetPlusPlusSegment"
SCRIPT, XML = FOLDER / "UNetPlusPlusSegment.py", FOLDER / "UNetPlusPlusSegment.xml"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return segment_oblique(tmp_path_factory.mktemp("expected"))


@pytest.fixture
def slicers_environment(tmp_path):
    """What Slicer puts into the environment of its modules, which would keep another Python from starting."""
    (tmp_path / "poison" / "unetpp_monai").mkdir(parents=True)
    (tmp_path / "poison" / "unetpp_monai" / "__init__.py").write_text("raise SystemExit('this is not the package')")
    return {
        **os.environ,
        "PYTHONHOME": str(tmp_path / "poison"),
        "PYTHONPATH": str(tmp_path / "poison"),
        "LD_LIBRARY_PATH": str(tmp_path / "poison"),
    }


def start(arguments, environment=None):
    """Start the module by a Python that has its standard library and nothing else, as Slicer's own may."""
    command = [sys.executable, "-I", "-S", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def run(arguments, environment=None):
    process = start(arguments, environment)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.mark.parametrize(("ending", "file"), [(".nrrd", "case.seg.nrrd"), (".nii.gz", "case_seg.nii.gz")])
def test_as_slicer_runs_it(tmp_path, slicers_environment, expected, ending, file):
    work = tmp_path / "Slicer's temporary folder, größer"
    work.mkdir()
    volume = shutil.copy(expected / "case.nrrd", work / "DFGH_vtkMRMLScalarVolumeNodeB.nrrd")
    label, uncertainty, parameters = work / f"label{ending}", work / "uncertainty.nii.gz", work / "1_a.params"
    arguments = ["--returnparameterfile", parameters, "--uncertainty", uncertainty, *OPTIONS]
    code, output, errors = run([*arguments, "--executable", sys.executable, volume, label], slicers_environment)
    assert (code, errors) == (0, "")
    assert_same(read(label), read(expected / file))
    assert_same(read(uncertainty), read(expected / "case_uncertainty.nii.gz"))
    assert sorted(path.name for path in work.iterdir()) == sorted(
        path.name for path in map(Path, (volume, label, uncertainty, parameters))
    )
    tags = re.findall(r"<(filter-[a-z]+)>", output)
    assert tags[0] == "filter-start"
    assert tags[-2:] == ["filter-end", "filter-name"]
    shares = [float(share) for share in re.findall(r"<filter-progress>([^<]*)</filter-progress>", output)]
    assert shares == sorted(shares)
    assert len(shares) >= 4, "the network's progress, then writing and the end"
    assert shares[-1] == 1
    assert "<filter-comment>segmenting, part 8 of 8</filter-comment>" in output
    ElementTree.fromstring(f"<all>{output}</all>")
    report = json.loads((expected / "case.json").read_text())
    lines = dict(line.split(" = ", 1) for line in parameters.read_text().splitlines())
    assert lines["volumes"] == "; ".join(f"{name}: {ml:.3f} mL" for name, ml in report["ml"].items())
    assert lines["review"] == ("yes" if report["review"] else "no")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_ends_with_its_child(tmp_path, number, code):
    """In the midst of the network; when Slicer kills the module alone, only its working folder is left."""
    image = save_nifti(tmp_path / "case.nii.gz", phantom((160, 160, 128))[0])
    process = start(("--executable", sys.executable, "--device", "cpu", image, tmp_path / "label.nrrd"))
    for line in process.stdout:
        if "<filter-progress>" in line:
            break
    descendants = children(process.pid)
    assert descendants, "a process segments"
    asked = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert time.monotonic() - asked < 8
    assert gone(descendants)
    assert process.returncode == code, errors
    assert "<filter-end>" not in output
    left = sorted(path.name for path in tmp_path.iterdir() if path != image)
    assert left == [] if number == signal.SIGTERM else [name[:15] for name in left] == ["unetpp_segment_"]


def test_what_killed_runs_left_is_removed_later(tmp_path):
    old, young = tmp_path / "unetpp_segment_old", tmp_path / "unetpp_segment_young"
    for folder in (old, young):
        (folder / "results").mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    load().sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


def load():
    specification = importlib.util.spec_from_file_location("module", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--executable": "/nowhere/bin/unetpp"}, r"/nowhere/bin/unetpp is not a program that can be run; give the pa"),
        ({"--executable": str(SAMPLE)}, r"is not a program that can be run"),
        ({"--executable": "/bin/false"}, r"false ended with exit code 1 and no message"),
        ({"--executable": "/bin/true"}, r"unetpp must write one \*\.json, got 0; is its version this module's\?"),
        ({"label": "label.vtk"}, r"must end in \.nrrd or \.nii\.gz, got label\.vtk"),
        ({"--uncertainty": "u.nrrd"}, r"the uncertainty volume must end in \.nii\.gz, got u\.nrrd"),
        ({"--uncertainty": "u.nii"}, r"must end in \.nii\.gz, got u\.nii"),
        ({"input": "missing.nrrd"}, r"the input volume must exist, got .*missing\.nrrd"),
        ({"label": "missing/label.nrrd"}, r"No such file or directory"),
        ({"--bundle": "nothing"}, r"nothing"),
        ({"--depth": "5"}, r"depth must be"),
    ],
)
def test_errors_can_be_read(tmp_path, change, message):
    image = save_nifti(tmp_path / "case.nii.gz", phantom()[0])
    values = {"--executable": sys.executable, "--device": "cpu", "input": "case.nii.gz", "label": "label.nrrd"}
    values.update(change)
    options = [part for name, value in values.items() if name.startswith("--") for part in (name, value)]
    before = sorted(tmp_path.iterdir())
    process = subprocess.run(
        [sys.executable, SCRIPT, *options, values["input"], values["label"]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert re.search(message, process.stderr), process.stderr
    assert process.stderr.startswith("error: ")
    assert "Traceback" not in process.stderr
    assert "<filter-end>" not in process.stdout
    assert sorted(tmp_path.iterdir()) == before
    assert image.exists()


def test_finds_the_environment_that_it_lies_in(tmp_path):
    for place in ("bin/unetpp", ".venv/bin/unetpp"):
        root = tmp_path / place.split("/")[0]
        module = root / "lib" / "python3.11" / "site-packages" / "unetpp_monai" / "slicer" / SCRIPT.name
        module.parent.mkdir(parents=True)
        shutil.copy(SCRIPT, module)
        (root / place).parent.mkdir(parents=True)
        (root / place).write_text("#!/bin/sh\necho error: this one is meant; exit 3\n")
        (root / place).chmod(0o755)
        image = save_nifti(tmp_path / "case.nii.gz", phantom()[0])
        ended = subprocess.run([sys.executable, module, image, tmp_path / "label.nrrd"], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (1, "error: this one is meant\n")


def test_describes_itself_at_once():
    started = time.monotonic()
    code, output, errors = run(["--xml"])
    assert time.monotonic() - started < 1
    assert (code, errors) == (0, "")
    assert output == XML.read_text(encoding="utf-8")
    assert output.splitlines()[0] == '<?xml version="1.0" encoding="utf-8"?>'


def test_is_what_slicer_takes_for_a_module():
    """A `.py` that starts with #!, an `.xml` of its name, and nothing that Slicer's Python, 3.9 or later, lacks."""
    text = SCRIPT.read_text()
    assert text.startswith("#!")
    tree = ast.parse(text, feature_version=(3, 9))
    assert "from __future__ import annotations" in text
    for node in ast.walk(tree):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_description_is_understood_by_ctk_cli(caplog):
    ctk_cli = pytest.importorskip("ctk_cli", reason="needs ctk-cli: pip install ctk-cli")
    with caplog.at_level(logging.WARNING):
        module = ctk_cli.CLIModule(str(XML))
        arguments, options, outputs = module.classifyParameters()
    unset = "cannot be passed (missing one of flag, longflag, or index)!"  # true of what only comes out
    assert caplog.messages == [f"Parameter {name} {unset}" for name in ("volumes", "review")]
    assert [one.name for one in arguments] == ["inputVolume", "outputLabel"]
    assert [one.longflag.lstrip("-") for one in options] == ["uncertainty", "bundle", "depth", "device", "executable"]
    assert [one.name for one in outputs] == ["volumes", "review"]
    assert [one.text for one in ElementTree.parse(XML).findall(".//element")] == ["full", "auto", *"12345"]
    parsed = load().parse(["in.nrrd", "out.nrrd"])
    for one in options:
        assert str(one.parseValue(one.default) if one.default else "") == str(getattr(parsed, one.name) or "")


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """Slicer's own parser of module descriptions, as a library to call."""
    specification = importlib.util.find_spec("slicer_core")
    compiler = shutil.which("g++")
    if specification is None or compiler is None:
        pytest.skip("needs Slicer's classes and a compiler: pip install slicer-core, apt-get install g++")
    libraries = Path(specification.submodule_search_locations[0])
    if not (libraries / "libMRMLCLI.so").is_file():
        pytest.skip("needs slicer-core for Linux")
    library = tmp_path_factory.mktemp("parser") / "description.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-D_GLIBCXX_USE_CXX11_ABI=0",
        HELPERS / "slicer_description.cpp",
    ]
    command += ["-o", library, f"-L{libraries}", f"-L{libraries / 'third_party.libs'}", "-lMRMLCLI"]
    command += ["-lModuleDescriptionParser", "-Wl,--allow-shlib-undefined"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def in_slicer(parser, image, folder, *options):
    command = [
        sys.executable,
        HELPERS / "slicer_cli_run.py",
        parser,
        SCRIPT,
        image,
        folder,
        sys.executable,
    ]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=150)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_in_slicers_own_machinery(tmp_path, parser, expected):
    work = tmp_path / "slicer"
    work.mkdir()
    found = in_slicer(parser, expected / "case.nrrd", work)
    assert found["error"] == ""
    assert [state for state, _ in found["seen"]][-1] == "Completed"
    assert max(progress for state, progress in found["seen"] if state == "Running") > 40
    assert_same(read(work.with_suffix(".label.nrrd")), read(expected / "case.seg.nrrd"), mm=1e-5)
    uncertainty = read(expected / "case_uncertainty.nii.gz")
    assert_same(read(work.with_suffix(".uncertainty.nrrd")), uncertainty, mm=1e-5, value=1e-5)
    assert re.fullmatch(r"anterior hippocampus: \d\.\d+ mL; posterior hippocampus: \d\.\d+ mL", found["volumes"])
    assert found["review"] in ("yes", "no")
    assert list(work.iterdir()) == []


def test_slicer_cancels_it(tmp_path, parser):
    """Slicer kills the module and what it started."""
    image = save_nifti(tmp_path / "image.nii.gz", phantom((160, 160, 128))[0])
    work = tmp_path / "slicer"
    work.mkdir()
    found = in_slicer(parser, image, work, "cancel")
    assert found["seen"][-1][0] == "Cancelled"
    assert gone(working_in(work))
    assert not work.with_suffix(".label.nrrd").exists()


def test_slicers_parser_sees_mistakes(parser):
    """So that its silence above means something."""
    script = (
        "import ctypes, json, sys, slicer; parse = ctypes.CDLL(sys.argv[1]).register_module; "
        "print([parse(xml.encode(), b'python', b'script') for xml in json.load(sys.stdin)])"
    )
    text = XML.read_text()
    mistakes = (
        ("</image>", "</imag>"),
        ("<?xml", " <?xml"),
        ("<name>depth</name>", "<name>de pth</name>"),
        ('type="label"', 'type="lable"'),
    )
    broken = json.dumps([text, *(text.replace(right, wrong) for right, wrong in mistakes)])
    ended = subprocess.run([sys.executable, "-c", script, parser], input=broken, text=True, capture_output=True)
    assert ended.stdout.splitlines()[-1] == "[0, 1, 1, 1, 1]", ended.stdout + ended.stderr


def test_the_documentations_command(tmp_path):
    """Those that install are left out: this environment is what they make."""
    blocks = re.findall(r"```bash\n(.*?)\n *```", (ROOT / "docs" / "slicer.md").read_text(), re.DOTALL)
    commands = [line.strip() for block in blocks for line in block.splitlines() if "pip install" not in line]
    assert len(commands) == 2
    (tmp_path / "unetpp_monai").symlink_to(ROOT / "unetpp_monai")
    for command in commands:
        here = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        ended = subprocess.run(here, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        if "print(" in command:
            assert {"UNetPlusPlus", "UNetPlusPlusSegment"} <= {
                path.name for path in Path(ended.stdout.strip()).iterdir()
            }
    assert read(tmp_path / "label.nrrd").GetSize() == read(SAMPLE).GetSize()
    assert (tmp_path / "uncertainty.nii.gz").exists()
