"""Tasks that came along, chosen by name."""

import nibabel as nib
import pytest
import torch
from helpers.commands import unetpp
from helpers.reports import valid_report

from unetpp_monai import Segmenter, UNetPlusPlus
from unetpp_monai.bundle import read_bundle, release
from unetpp_monai.errors import BundleError
from unetpp_monai.task import DEFAULT_TASK, base_config, check_task

pytestmark = pytest.mark.slow


def test_the_default_is_a_task_that_came_along():
    named = Segmenter.from_bundle(DEFAULT_TASK, device="cpu", runtime="eager")
    default = Segmenter.from_bundle(device="cpu", runtime="eager")
    assert named.settings() == default.settings()  # weights and configs by their hashes


def test_what_is_no_bundle_is_told(tmp_path, monkeypatch):
    with pytest.raises(BundleError, match="must have trained weights"):
        read_bundle("left_atrium")
    with pytest.raises(BundleError, match=r"a task must be a folder with task.json, or one of .*, got nothing"):
        read_bundle("nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hippocampus").mkdir()
    with pytest.raises(
        BundleError, match="must be unambiguous, got hippocampus, an included task and a file or folder"
    ):
        read_bundle("hippocampus")
    with pytest.raises(BundleError, match=r"a bundle must hold configs/metadata.json, found none in .*/hippocampus"):
        read_bundle(tmp_path / "hippocampus")


def test_weights_of_ones_own_make_a_bundle_of_a_task_without(tmp_path):
    task = check_task("left_atrium")
    values = {**base_config("inference"), **task.values}
    network = UNetPlusPlus(3, 1, values["out_channels"], values["features"], strides=values.get("strides", 2))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    bundle = read_bundle("left_atrium", weights=tmp_path / "model.pt")
    assert bundle.weights == tmp_path / "model.pt" and Segmenter(bundle, device="cpu", runtime="eager").depths


def test_the_command_line_takes_a_task_by_its_name(image_file, tmp_path):
    command = ("segment", image_file, "-o", "out", "--depth", 1, "--runtime", "eager")
    result = unetpp(*command, "--task", "hippocampus", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    report = valid_report(tmp_path / "out" / "case_1.json")
    assert report["bundle"] == "UNet++ hippocampus MRI segmentation" and report["located"] is None
    assert nib.load(tmp_path / "out" / "case_1_seg.nii.gz").shape == nib.load(image_file).shape
    read_bundle(read_bundle("hippocampus").root)  # it lasts as long as the process, unless it is released
    root = read_bundle("hippocampus").root
    release(root)
    assert not root.exists()
    shown = unetpp("info", "--task", "nuclei_2d", folder=tmp_path)
    assert shown.returncode == 0 and "nuclei" in shown.stdout
