"""A fold's validation says what the commands say of the same files."""

import json

import numpy as np
import pytest
from helpers.commands import read, unetpp
from helpers.own_task import bundle_of, leave_run, make_own_task

from unetpp_monai import read_volume
from unetpp_monai.errors import InputError
from unetpp_monai.files import sha256
from unetpp_monai.pieces import largest_component
from unetpp_monai.workflows.metrics import dice
from unetpp_monai.workflows.validation import VALIDATION, read_validation, validate_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    task = make_own_task(tmp_path_factory.mktemp("own"))
    leave_run(task, "fold0", steps=25)
    return task


def test_each_depth_is_what_segment_and_evaluate_give(task, tmp_path):
    content = read(task / "runs" / "fold0" / VALIDATION)
    assert (content["schema"], content["task"], content["fold"], content["unit"]) == (1, "organ", 0, "mm")
    assert content["labels"] == {"1": "front", "2": "back"} and list(content["depths"]) == ["1", "2"]
    assert content["weights"] == sha256(task / "runs" / "fold0" / "model.pt")
    assert all(seconds > 0 for seconds in content["seconds"].values())
    found = read_validation(task / "runs" / "fold0" / VALIDATION)
    data = task.parent / "data"
    held_out = ["patient_ann", "patient_cid", "patient_eve"]
    bundle = bundle_of(task, "fold0", tmp_path / "bundle")
    (tmp_path / "references").mkdir()
    for name in held_out:
        (tmp_path / "references" / f"{name}.nii.gz").symlink_to(data / f"{name}.nii.gz")
    for depth in (1, 2):
        out = tmp_path / f"out{depth}"
        cases = [data / f"{name}_0000.nii.gz" for name in held_out]
        options = ("--bundle", bundle.root, "--depth", depth, "-o", out)
        assert unetpp("segment", *cases, *options).returncode == 0
        values = ("--reference-values", "0,7,9", "--bundle", bundle.root, "-o", tmp_path / f"{depth}.json")
        done = unetpp("evaluate", out, tmp_path / "references", *values)
        assert done.returncode == 0, done.stderr
        rows = read(tmp_path / f"{depth}.json")["rows"]
        assert [(row.case, row.label) for row in found.depths[depth]] == [(row["case"], row["label"]) for row in rows]
        for key in ("dice", "iou", "hd95", "surface_dice", "volume_error", "volume_error_percent"):
            ours = [getattr(row, key) for row in found.depths[depth]]
            theirs = [row[key] for row in rows]
            np.testing.assert_allclose(np.array(ours, float), np.array(theirs, float), atol=5e-5, rtol=0)


def test_the_largest_component_is_measured_beside(task, tmp_path):
    found = read_validation(task / "runs" / "fold0" / VALIDATION)
    bundle = bundle_of(task, "fold0", tmp_path / "bundle")
    data = task.parent / "data"
    image = data / "patient_cid_0000.nii.gz"
    done = unetpp("segment", image, "-o", tmp_path, "--bundle", bundle.root, "--depth", 1)
    assert done.returncode == 0, done.stderr
    labels = read_volume(tmp_path / "patient_cid_seg.nii.gz", labels=True).array[0]
    reference = read_volume(data / "patient_cid.nii.gz", labels=True).array[0]
    kept = {row.label: row.dice for row in found.largest_component[1] if row.case == "patient_cid"}
    for index, (name, value) in enumerate([("front", 7), ("back", 9)], 1):
        expected = dice(largest_component(labels == index).numpy(), reference == value)
        assert kept[name] == pytest.approx(expected, abs=5e-5)
    assert found.largest_component[1] != found.depths[1]  # a network that has seen little leaves several pieces


def test_a_validation_is_made_once_and_again_for_other_weights_or_values(task, tmp_path):
    folder = task / "runs" / "fold0"
    path, whole = folder / VALIDATION, (folder / VALIDATION).read_text()
    before = path.stat().st_mtime_ns
    assert validate_run(task, folder, fold=0, device="cpu") == path and path.stat().st_mtime_ns == before
    path.write_text(json.dumps({**json.loads(whole), "weights": "0" * 64}))
    validate_run(task, folder, fold=0, device="cpu")
    assert json.loads(path.read_text())["depths"] == json.loads(whole)["depths"]
    path.write_text("{")
    validate_run(task, folder, fold=0, device="cpu", overrides={"overlap": 0.25})
    assert json.loads(path.read_text())["config"] != json.loads(whole)["config"]
    path.write_text(whole)


def test_a_fold_without_cases_is_refused(task):
    with pytest.raises(InputError, match="must have cases to validate, got none for fold 5"):
        validate_run(task, task / "runs" / "fold0", fold=5, overrides={"overlap": 0.1})


def test_what_is_no_validation_is_refused(tmp_path):
    path = tmp_path / VALIDATION
    path.write_text(json.dumps({"schema": 2}))
    with pytest.raises(InputError, match=r"must be of version 1, got 2"):
        read_validation(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="must be a validation that train wrote"):
        read_validation(path)
