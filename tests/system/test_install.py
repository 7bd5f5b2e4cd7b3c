"""What pip gives people: a wheel with the default bundle, and a core that runs with pydicom 2.4."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers import BUNDLE, ROOT
from helpers.dicom_phantoms import axial_affine, make_series

pytestmark = [pytest.mark.slow, pytest.mark.long]

HIPPOCAMPUS = "unetpp_hippocampus_mri_segmentation"


def pip(*arguments, cwd=None):
    """Run pip; skip where it cannot reach what it needs."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    if result.returncode != 0 and "No matching distribution" in result.stderr + result.stdout:
        pytest.skip(f"pip cannot get what it needs: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr


def unetpp(site, *arguments, folder):
    """Run the command line with `site` before everything else on the path."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-W", "ignore", "-m", "unetpp_monai", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds what the wheel installs, and nothing of the checkout beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "eval", "demo_output")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip("wheel", "--no-deps", "--wheel-dir", folder, ".", cwd=source)
    pip("install", "--no-deps", "--target", folder / "site", next(folder.glob("*.whl")))
    shutil.rmtree(source)
    return folder / "site"


def test_wheel_carries_bundle_and_sample(site, tmp_path):
    result = unetpp(site, "info", folder=tmp_path)
    assert result.returncode == 0 and str(site / "unetpp_monai" / "default_bundle") in result.stdout, result.stderr
    result = unetpp(site, "demo", folder=tmp_path)
    assert result.returncode == 0 and (tmp_path / "demo_output" / "mni_head.json").exists(), result.stderr


def test_wheel_trains_and_packs(site, tmp_path, msd_folder):
    """Tasks by name and in a folder of one's own, where there is no checkout."""
    shutil.copytree(site / "unetpp_monai" / "tasks" / "hippocampus", tmp_path / "own")
    quick = ["max_epochs=1", "features=[4,8,8,8]", "num_folds=3", "val_interval=1"]
    options = [part for value in quick for part in ("--set", value)]
    result = unetpp(site, "train", "own", "--dataset", msd_folder, *options, folder=tmp_path)
    assert result.returncode == 0 and (tmp_path / "own" / "runs" / "fold0" / "model.pt").is_file(), result.stderr
    for name, task in (("unetpp_nuclei_microscopy_segmentation", "nuclei_2d"), (HIPPOCAMPUS, "own")):
        result = unetpp(site, "pack", "--task", task, folder=tmp_path)
        assert result.returncode == 0 and (tmp_path / "dist" / f"{name}.zip").is_file(), result.stderr
    found, wanted = tmp_path / "dist" / HIPPOCAMPUS / "configs", BUNDLE / "configs"
    assert all((found / path.name).read_bytes() == path.read_bytes() for path in wanted.iterdir())
    result = unetpp(site, "train", "nowhere", folder=tmp_path)
    assert (
        result.returncode == 1
        and "one of hippocampus, hippocampus_head, hippocampus_interactive, nuclei_2d" in result.stderr
    )
    assert "`unetpp train NAME`: em_membrane_2d, left_atrium" in result.stderr


def test_segments_with_pydicom_2_4(tmp_path):
    """MONAI Label's environment holds this version."""
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, "pydicom==2.4.5")
    make_series(tmp_path / "series", axial_affine())
    result = unetpp(site, "segment", "series", "-o", "out", "--task", "hippocampus", "--depth", 1, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert '"pydicom": "2.4.5"' in (tmp_path / "out" / "series.json").read_text()
