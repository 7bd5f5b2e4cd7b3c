"""What pip gives people: a wheel with the default bundle, and a core that runs with pydicom 2.4."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.dicom_phantoms import axial_affine, make_series


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


def test_wheel_carries_bundle_and_sample(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "eval", "demo_output")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip("wheel", "--no-deps", "--wheel-dir", tmp_path, ".", cwd=source)
    pip("install", "--no-deps", "--target", site, next(tmp_path.glob("*.whl")))
    shutil.rmtree(source)
    result = unetpp(site, "info", folder=tmp_path)
    assert result.returncode == 0 and str(site / "unetpp_monai" / "default_bundle") in result.stdout, result.stderr
    result = unetpp(site, "demo", folder=tmp_path)
    assert result.returncode == 0 and (tmp_path / "demo_output" / "mni_hippocampus_right.json").exists(), result.stderr


def test_segments_with_pydicom_2_4(tmp_path):
    """MONAI Label's environment holds this version."""
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, "pydicom==2.4.5")
    make_series(tmp_path / "series", axial_affine())
    result = unetpp(site, "segment", "series", "-o", "out", "--depth", 1, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert '"pydicom": "2.4.5"' in (tmp_path / "out" / "series.json").read_text()
