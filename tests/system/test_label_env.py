"""The environment of `make label`: MONAI Label 0.8.5 beside pydicom 3, without torchvision, in child processes too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.label_server import environment, label_python

pytestmark = pytest.mark.server

SHIM = ROOT / "unetpp_monai" / "annotation" / "shim"


def run(script, *, shim=True, python=None):
    paths = {"PYTHONPATH": str(SHIM)} if shim else {}
    command = [str(python or label_python()), "-W", "ignore", "-c", script]
    return subprocess.run(command, env={**environment(), **paths}, capture_output=True, text=True)


def test_server_imports_with_the_shim_only():
    script = "import monailabel.app, pydicom, torchvision; print(pydicom.__version__, torchvision.__version__)"
    assert run(script, shim=False).returncode != 0
    done = run(script)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "3.0.2 0.0.0+stub", done.stderr
    child = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {script!r}]).returncode)"
    assert run(child).returncode == 0


def test_shim_gives_what_is_missing_and_nothing_else():
    script = (
        "import importlib.util\n"
        "from pydicom._storage_sopclass_uids import SegmentationStorage\n"
        "assert SegmentationStorage == '1.2.840.10008.5.1.4.1.1.66.4'\n"
        "assert importlib.util.find_spec('pydicom._nothing') is None and importlib.util.find_spec('sam2') is None\n"
        "from torchvision.utils import make_grid\n"
        "try: make_grid([])\n"
        "except NotImplementedError as error: assert 'torchvision must be installed' in str(error)\n"
        "else: raise SystemExit('a stub that draws')\n"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    here = run("import json, typing; import sitecustomize; print(sitecustomize.__file__)", python=sys.executable)
    assert Path(here.stdout.strip()).parent == SHIM


def test_versions_are_those_of_the_constraints():
    lines = [line.split(";")[0].strip() for line in (ROOT / "constraints-label.txt").read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    script = (
        "import importlib.metadata, json, sys\n"
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    command = [str(label_python()), "-c", script, *pins]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    found = {name: value.split("+")[0] for name, value in json.loads(done.stdout).items()}
    assert found == pins
    common = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    shared = {line.split(";")[0].split("==")[0].strip(): line.split(";")[0].split("==")[1].strip() for line in common}
    assert {name: pins[name] for name in pins.keys() & shared.keys()} == {
        name: shared[name] for name in pins.keys() & shared.keys()
    }


def test_without_monai_label_one_sentence_says_so(tmp_path):
    """In the environment of the command line alone."""
    (tmp_path / "studies").mkdir()
    script = (
        "import sys; sys.modules['monailabel'] = None\n"
        "from unetpp_monai.annotation.server import ServerOptions, serve\n"
        "from unetpp_monai.errors import InputError\n"
        f"try: serve(ServerOptions({str(tmp_path / 'studies')!r}, port=50417))\n"
        "except InputError as error: print(error)\n"
    )
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environ, capture_output=True, text=True)
    assert "run `make label`" in done.stdout and len(done.stdout.splitlines()) == 1, done.stderr
