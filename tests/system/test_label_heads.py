"""A label server that is started without a word serves whole heads, and a shipped task beside them by its name."""

import shutil

import numpy as np
import pytest
from helpers import HEAD, phantom, save_nifti
from helpers.label_server import label_python, run_label, serving

from unetpp_monai import read_volume
from unetpp_monai.bundle import read_bundle

pytestmark = [pytest.mark.server, pytest.mark.long]

MODEL = "unetpp_hippocampus_mri_segmentation_of_whole_heads"
LABELS = {label.name: label.index for label in read_bundle().labels}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    label_python()
    folder = tmp_path_factory.mktemp("studies")
    shutil.copy(HEAD, folder / "head.nii.gz")
    save_nifti(folder / "crop.nii.gz", phantom()[0])
    return folder


@pytest.fixture(scope="module")
def server(studies, tmp_path_factory):
    options = ("--task", "hippocampus_head", "--task", "hippocampus")
    with serving(studies, tmp_path_factory.mktemp("server"), *options) as running:
        yield running


def test_a_whole_head_gives_the_voxels_of_the_command_line(server, studies, tmp_path):
    run_label("segment", studies / "head.nii.gz", "-o", tmp_path, "--device", "cpu", folder=tmp_path)
    expected = read_volume(tmp_path / "head_seg.nii.gz")
    file, report = server.call("infer", MODEL, "head", {})
    found = read_volume(file, labels=True)
    assert found.same_grid(expected) and np.array_equal(found.array, expected.array)
    assert set(np.unique(found.array)) == {0, 1, 2, 3, 4} and report["label_names"] == LABELS
    assert set(report["ml"]) == set(LABELS)


def test_each_task_takes_its_own_images(server):
    assert set(server.call("info")["models"]) == {MODEL, "unetpp_hippocampus_mri_segmentation"}
    (answer,) = server.calls([["infer", MODEL, "crop", {}]])
    assert "a crop around one hippocampus is for the hippocampus task" in answer["refused"]
    _, report = server.call("infer", "unetpp_hippocampus_mri_segmentation", "crop", {})
    assert set(report["label_names"]) == {"anterior hippocampus", "posterior hippocampus"}


def test_two_networks_are_not_trained_as_one(server):
    assert set(server.call("info")["trainers"]) == {"unetpp_hippocampus_mri_segmentation"}
    (answer,) = server.calls([["train_start", MODEL, {"max_epochs": 1}]])
    assert "refused" in answer
