"""The extension's installation and list of tasks, apart from Slicer."""

import importlib
import json
import subprocess
import sys
import types

import pytest
from helpers import ROOT
from helpers.slicer_cases import tiny_wheel
from helpers.waiting import wait_for

LIB = ROOT / "unetpp_monai" / "slicer" / "UNetPlusPlus" / "UNetPlusPlusLib"


@pytest.fixture
def lib(monkeypatch):
    """The library's modules that know nothing of Slicer."""
    package = types.ModuleType("slicer_lib")
    package.__path__ = [str(LIB)]
    monkeypatch.setitem(sys.modules, "slicer_lib", package)
    names = ("process", "install", "tasks")
    modules = {name: importlib.import_module(f"slicer_lib.{name}") for name in names}
    yield types.SimpleNamespace(**modules)
    for name in names:
        sys.modules.pop(f"slicer_lib.{name}", None)


class Said:
    """A process that has ended."""

    def __init__(self, code, lines):
        self._code, self._lines = code, lines

    def lines(self):
        lines, self._lines = self._lines, []
        return lines

    def code(self):
        return self._code

    def end(self):
        pass


def recorded(code, lines):
    """A start of processes that ended so, and what was started: command and constraints."""
    started = []

    def start(parts, folder):
        pins = folder / "constraints.txt"
        started.append((list(parts), pins.read_text().splitlines() if pins.exists() else []))
        return Said(code, lines)

    return start, started


def test_pip_leaves_installed_packages_alone(lib):
    start, started = recorded(0, ["Collecting unetpp_monai", "Successfully installed"])
    installation = lib.install.Installation(start)
    installation.begin("/slicer/PythonSlicer", "a.whl", version=(3, 12))
    assert installation.running
    assert installation.update() == "/slicer/PythonSlicer"
    (((*parts, package), pins),) = started
    assert parts[:4] == ["/slicer/PythonSlicer", "-m", "pip", "install"]
    assert package == "a.whl"
    assert f"numpy=={importlib.metadata.version('numpy')}" in pins
    assert not [pin for pin in pins if pin.startswith("unetpp")]
    assert installation.log == ["Collecting unetpp_monai", "Successfully installed"]
    assert not installation.running


def test_pip_refuses_a_change_of_an_installed_package(lib, tmp_path):
    """The real pip, which needs no network to see that."""
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("numpy==1.0\n")
    pins = tmp_path / "pins.txt"
    pins.write_text("\n".join(lib.install.own_packages(importlib.metadata.distributions())))
    parts = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "-c", str(pins), "-r", str(wanted)]
    child = lib.process.ExternalProcess(parts, tmp_path)
    said = []
    wait_for(lambda: said.extend(child.lines()) or child.code() is not None, "pip")
    assert child.code() != 0
    assert "numpy" in "\n".join(said + child.lines())


def test_failed_and_refused_installations(lib):
    start, started = recorded(1, ["Collecting x", "ERROR: Cannot install numpy 1 and 2"])
    installation = lib.install.Installation(start)
    with pytest.raises(
        lib.process.SegmentationError, match=r"needs Python 3\.11 or later, Slicer has 3\.9; install into"
    ):
        installation.begin("python", version=(3, 9))
    assert started == []
    installation.begin("python", version=(3, 12))
    with pytest.raises(lib.process.SegmentationError, match="one installation can run at a time"):
        installation.begin("python", version=(3, 12))
    with pytest.raises(lib.process.SegmentationError, match=r"ERROR: Cannot install numpy 1 and 2\nNothing of Slicer"):
        installation.update()
    assert not installation.running


@pytest.mark.slow
def test_an_environment_apart(lib, tmp_path):
    """The real venv and pip, without a network; what fails leaves no half environment."""
    apart, installation = tmp_path / "apart", lib.install.Installation()
    installation.begin_apart(sys.executable, tiny_wheel(tmp_path), apart)
    python = wait_for(installation.update, "the environment")
    assert python == str(apart / "bin" / "python")
    found = subprocess.run([python, "-c", "import tiny; print(tiny.__file__)"], capture_output=True, text=True)
    assert found.stdout.startswith(str(apart))
    assert subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode != 0, "nothing of others"
    with pytest.raises(lib.process.SegmentationError, match="the separate environment must be new"):
        installation.begin_apart(sys.executable, "x", apart)
    assert not installation.running


@pytest.mark.parametrize("ends", ["by itself", "by the user"])
def test_an_environment_that_is_not_whole_is_removed(lib, tmp_path, ends):
    apart = tmp_path / "apart"
    start, started = recorded(1, ["Error: no venv here"])
    installation = lib.install.Installation(start)
    installation.begin_apart("/usr/bin/python3", "a.whl", apart)
    apart.mkdir()
    if ends == "by the user":
        installation.cancel()
    else:
        with pytest.raises(lib.process.SegmentationError, match=r"^Error: no venv here") as raised:
            installation.update()
        assert "Nothing of Slicer's" not in str(raised.value), "which was not at stake"
    assert not apart.exists()
    assert not installation.running
    assert [parts for parts, _ in started] == [["/usr/bin/python3", "-m", "venv", str(apart)]]


def test_which_python_makes_an_environment(lib, monkeypatch, tmp_path):
    broken, named = tmp_path / "python3.13", tmp_path / "python3.12"  # the first as pyenv leaves one that is not chosen
    for path, code in ((broken, "exit 127"), (named, f'exec {sys.executable} "$@"')):
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)
    assert lib.install.base_python(str(named)) == str(named)
    monkeypatch.setenv("PATH", str(tmp_path))
    for given in ("", "/slicer/bin/PythonSlicer", "/env/bin/unetpp"):
        assert lib.install.base_python(given) == str(named), "that of the PATH"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(lib.process.SegmentationError, match=r"needs Python 3\.11 or later on this computer, none"):
        lib.install.base_python("")


def test_slicers_python_keeps_slicers_variables(lib, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/slicer")
    assert lib.process.environment("/slicer/bin/PythonSlicer.exe")["PYTHONHOME"] == "/slicer"
    assert "PYTHONHOME" not in lib.process.environment("/usr/bin/python3")


@pytest.mark.parametrize("name", ["hippocampus", "hippocampus_head"])
def test_tasks_that_are_shown_exist(lib, name):
    assert name in lib.tasks.SHIPPED
    assert (ROOT / "configs" / name / "model.pt").is_file()


@pytest.mark.slow
def test_a_task_is_described_by_its_bundle(lib):
    options = lib.process.Options(sys.executable, "hippocampus")
    question, found = lib.tasks.Question(options), []
    wait_for(lambda: found.append(question.update()) or found[-1] is not None, "unetpp info")
    task = found[-1]
    assert task.labels == ("anterior hippocampus", "posterior hippocampus")
    assert task.expects == "T1-weighted MRI (MR)"
    assert [key for key, _ in task.depths] == ["full", "1", "2", "3", "auto"]
    assert dict(task.depths)["1"] == "1 (time x 0.29)"


def test_bundles_that_do_not_fit_are_refused(lib):
    program = lib.process.Options(sys.executable)
    info = {"name": "nuclei", "input": {"spatial_dims": 2, "channels": 3}}
    for code, lines, message in (
        (0, [json.dumps(info)], "a bundle must take volumes of one channel, nuclei is 2-D with 3 channels"),
        (0, ["usage"], "unetpp info must print JSON"),
        (2, ["error: a bundle must hold configs/metadata.json"], "a bundle must hold"),
    ):
        question = lib.tasks.Question(program, recorded(code, lines)[0])
        with pytest.raises(lib.process.SegmentationError, match=f"^{message}"):
            question.update()
