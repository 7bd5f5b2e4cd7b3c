"""Tasks that came along, chosen by name."""

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import unetpp
from helpers.reports import valid_report

from unetpp_monai import Segmenter, read_volume, task_bundle
from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import BundleError

pytestmark = pytest.mark.slow


def test_the_task_of_the_bundle_that_came_along_is_that_bundle(image_file):
    with task_bundle("hippocampus") as bundle:
        named = Segmenter(bundle, device="cpu", runtime="eager")
    default = Segmenter(read_bundle(), device="cpu", runtime="eager")
    assert named.settings() == default.settings()  # weights and configs by their hashes
    image = read_volume(image_file)
    np.testing.assert_array_equal(named(image).labels.array, default(image).labels.array)


def test_a_task_without_weights_or_name_is_told():
    with pytest.raises(BundleError, match="must have trained weights to be packed"), task_bundle("left_atrium"):
        pass
    with pytest.raises(BundleError, match=r"a task must be a folder with task.json, or one of .*, got nothing"):  # noqa: SIM117
        with task_bundle("nothing"):
            pass


def test_the_command_line_takes_a_task_by_its_name(image_file, tmp_path):
    command = ("segment", image_file, "-o", "out", "--depth", 1, "--runtime", "eager")
    result = unetpp(*command, "--task", "hippocampus", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    report = valid_report(tmp_path / "out" / "case_1.json")
    assert report["bundle"] == "UNet++ hippocampus MRI segmentation" and report["located"] is None
    assert nib.load(tmp_path / "out" / "case_1_seg.nii.gz").shape == nib.load(image_file).shape
    both = unetpp(*command, "--task", "hippocampus", "--bundle", ".", folder=tmp_path)
    assert both.returncode == 1 and "a bundle or a task must be chosen, got both, . and hippocampus" in both.stderr
