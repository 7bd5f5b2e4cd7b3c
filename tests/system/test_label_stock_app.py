"""Our packed bundle in MONAI Label's own `monaibundle` app, from a local folder."""

import hashlib
import shutil
import subprocess
from contextlib import contextmanager

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import ROOT, SHARED, phantom, save_nifti
from helpers.files import geometry_fields, save_forms
from helpers.label_server import LabelServer, environment, label_python, run_cli
from helpers.learning import idle
from helpers.orthanc import free_port
from helpers.waiting import wait_for

from unetpp_monai import pack, read_volume

pytestmark = pytest.mark.server

NAME = "unetpp_hippocampus_mri_segmentation"
REAL = SHARED / "data" / "Task04_Hippocampus"
CASES = ("hippocampus_001", "hippocampus_003", "hippocampus_004")
DEPTHS = ("full", "1", "auto")
SHIM = ROOT / "unetpp_monai" / "annotation" / "shim"


@contextmanager
def stock_app(folder, *options):
    """The app as MONAI Label hands it out, with our bundle copied into it."""
    variables = {"PYTHONPATH": str(SHIM), "MONAI_ZOO_SOURCE": "local"}
    if not (folder / "apps").exists():
        command = [label_python(), "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
        command += ["--output", folder / "apps"]
        subprocess.run(list(map(str, command)), env={**environment(), **variables}, check=True, capture_output=True)
        shutil.copytree(
            pack(folder / "dist", task="hippocampus").folder, folder / "apps" / "monaibundle" / "model" / NAME
        )
    port = free_port()
    start = ["start_server", "--app", folder / "apps" / "monaibundle", "--studies", folder / "studies"]
    start += ["--conf", "models", NAME, "--host", "127.0.0.1", "--port", port, *options]
    server = LabelServer(folder, [label_python(), "-W", "ignore", "-m", "monailabel.main", *start], port, **variables)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Studies with three images, and their label maps beside, real where there are any."""
    label_python()
    root = tmp_path_factory.mktemp("stock")
    for part in ("studies", "references", "forms"):
        (root / part).mkdir()
    for seed, case in enumerate(CASES):
        if REAL.is_dir():
            shutil.copy(REAL / "imagesTr" / f"{case}.nii.gz", root / "studies")
            shutil.copy(REAL / "labelsTr" / f"{case}.nii.gz", root / "references")
        else:
            image, labels = phantom(seed=seed)
            save_nifti(root / "studies" / f"{case}.nii.gz", image)
            save_nifti(root / "references" / f"{case}.nii.gz", labels)
    return root


@pytest.fixture(scope="module")
def server(folder):
    with stock_app(folder) as running:
        yield running


def test_depth_is_an_option(server):
    model = server.call("info")["models"][NAME]
    assert model["config"]["depth"] == "full" and model["config"]["model_filename"] == ["model.pt"]
    assert model["labels"] == {"anterior hippocampus": 1, "posterior hippocampus": 2}


def test_voxels_at_each_depth_are_those_of_the_command_line(server, folder):
    """One network is cached for all depths: going back and forth must not mix them up."""
    image = str(folder / "studies" / f"{CASES[0]}.nii.gz")
    run_cli(
        *(
            ["segment", "--task", "hippocampus", image, "-o", str(folder / d), "--depth", d, "--device", "cpu"]
            for d in DEPTHS
        )
    )
    order = [*DEPTHS, *reversed(DEPTHS)]
    answers = server.calls([["infer", NAME, CASES[0], {"depth": depth}] for depth in order])
    for depth, answer in zip(order, answers, strict=True):
        found = read_volume(answer["result"][0], labels=True)
        expected = read_volume(folder / depth / f"{CASES[0]}_seg.nii.gz")
        assert found.same_grid(expected) and np.array_equal(found.array, expected.array), depth


def test_results_have_the_headers_of_the_command_line(server, folder):
    kinds = ("bare", "metre", "micron", "turned")
    cases = [str(save_forms(folder / "forms" / f"{kind}.nii.gz", kind, phantom()[0])) for kind in kinds]
    run_cli(
        *(["segment", "--task", "hippocampus", case, "-o", str(folder / "forms"), "--device", "cpu"] for case in cases)
    )
    answers = server.calls([["infer", NAME, case, {"result_extension": ".nii.gz"}] for case in cases])
    for kind, answer in zip(kinds, answers, strict=True):
        ours, theirs = (nib.load(path) for path in (folder / "forms" / f"{kind}_seg.nii.gz", answer["result"][0]))
        assert geometry_fields(ours.header) == geometry_fields(theirs.header), kind
        assert np.array_equal(ours.dataobj, theirs.dataobj), kind


def test_training_of_one_epoch_ends_well(server, folder):
    """It goes on from the bundle's weights, and what it saves is served."""
    steps = [["save_label", case, str(folder / "references" / f"{case}.nii.gz")] for case in CASES]
    assert all("result" in answer for answer in server.calls(steps))
    weights = folder / "apps" / "monaibundle" / "model" / NAME / "models" / "model.pt"
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    server.call("train_start", NAME, {"max_epochs": 1, "val_split": 0.34, "multi_gpu": False})
    assert idle(server, "train")["status"] == "DONE", server.log.read_text()[-3000:]
    assert f"Restored all variables from {weights}" in server.log.read_text()
    assert sorted(path.name for path in weights.parent.iterdir()) == ["model.pt"]  # another would be served instead
    assert hashlib.sha256(weights.read_bytes()).hexdigest() != before
    assert read_volume(server.call("infer", NAME, CASES[0], {})[0], labels=True).array.any()


def test_wrong_weights_are_refused(server, folder):
    """The app itself would only warn, and segment with random ones."""
    weights = folder / "apps" / "monaibundle" / "model" / NAME / "models" / "model.pt"
    right = weights.read_bytes()
    torch.save({"state_dict": torch.load(weights, weights_only=True)}, weights)
    try:
        answer = server.calls([["infer", NAME, CASES[0], {}]])[0]
    finally:
        weights.write_bytes(right)
    assert "result" not in answer
    wait_for(lambda: "must hold every parameter" in server.log.read_text(), "the reason in the server's log")
