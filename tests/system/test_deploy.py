"""The MONAI Deploy application: on the real SDK where it is installed, its recipe everywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import numpy as np
import pytest
from helpers import ROOT

from unetpp_monai.dicom.seg import read_dicom_seg

APP = ROOT / "deploy"
SERIES = "Study3_26401-T1prereg-52906"
sdk = pytest.mark.skipif(
    find_spec("holoscan") is None, reason="needs monai-deploy-app-sdk and holoscan, see docs/deploy.md"
)


def run(*command):
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places}
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)


@sdk
@pytest.mark.long
def test_application_gives_the_voxels_of_the_command_line(shared_data, tmp_path):
    series = shared_data / "dicom" / SERIES
    ran = run(APP / "app.py", "-i", series, "-o", tmp_path / "app")
    assert ran.returncode == 0, ran.stderr
    (seg,), (report,) = (tmp_path / "app").glob("*_seg.dcm"), (tmp_path / "app").glob("*_sr.dcm")
    assert seg.name.removesuffix("_seg.dcm") == report.name.removesuffix("_sr.dcm")
    assert run("-m", "unetpp_monai", "segment", series, "-o", tmp_path / "cli", "--format", "dicomseg").returncode == 0
    ours, labels = read_dicom_seg(seg)
    theirs, other = read_dicom_seg(tmp_path / "cli" / f"{SERIES}_seg.dcm")
    assert ours.array.any() and labels == other
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_array_equal(ours.affine, theirs.affine)


@sdk
@pytest.mark.long
def test_application_refuses_a_choice(shared_data, tmp_path):
    """Two series of a study are listed, and nothing is written."""
    import pydicom
    from pydicom.uid import generate_uid

    uid = generate_uid()
    shutil.copytree(shared_data / "dicom" / SERIES, tmp_path / "in" / "one")
    for path in sorted((tmp_path / "in" / "one").iterdir()):
        copy = pydicom.dcmread(path)
        copy.SeriesInstanceUID = uid
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        copy.save_as(tmp_path / "in" / f"two_{path.name}")
    ran = run(APP / "app.py", "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert ran.returncode == 1 and "one series of a study must be selected, got 'T1pre_reg'" in ran.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [line for line in (APP / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert stated == project["dependencies"] + project["optional-dependencies"]["dicom"]


def test_recipe_states_the_version_of_the_package():
    yaml = pytest.importorskip("yaml")
    from unetpp_monai import __version__

    content = yaml.safe_load((APP / "app.yaml").read_text())
    assert content["application"]["version"] == __version__ and set(content) == {"application", "resources"}
