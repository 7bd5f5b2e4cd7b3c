"""The command line as a user runs it: real processes, exit codes, files."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import BUNDLE, phantom, save_nifti
from helpers.commands import UNETPP, unetpp
from helpers.files import broken_files
from helpers.reports import valid_report
from helpers.waiting import DEADLINE
from typer.testing import CliRunner

from unetpp_monai import Segmenter, read_volume
from unetpp_monai._version import __version__
from unetpp_monai.cli import app
from unetpp_monai.files import sha256

pytestmark = pytest.mark.slow
TASK = ("--task", "hippocampus")


def test_segment_writes_labels_and_report(image_file, tmp_path):
    result = unetpp("segment", image_file, "-o", "out", "--depth", 2, "--device", "cpu", *TASK, folder=tmp_path)
    assert result.returncode == 0
    first, last = result.stdout.splitlines()
    assert first.startswith("case_1: anterior hippocampus ") and first.endswith(" mL")
    assert last == "1 case written to out"
    assert result.stderr.startswith(f"review {image_file}: intensity") and result.stderr.count("\n") == 1
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["case_1.json", "case_1_seg.nii.gz", "case_1_seg.tsv"]
    labels, source = nib.load(tmp_path / "out" / "case_1_seg.nii.gz"), nib.load(image_file)
    np.testing.assert_array_equal(labels.affine, source.affine)
    assert labels.shape == source.shape and labels.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(labels.affine) == nib.aff2axcodes(source.affine) == ("L", "P", "S")
    assert labels.header.get_xyzt_units()[0] == "mm"
    expected = Segmenter.from_bundle("hippocampus", device="cpu")(read_volume(image_file), depth=2)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), expected.labels.array[0])
    report = valid_report(tmp_path / "out" / "case_1.json")
    assert report["input"] == str(image_file) and report["input_sha256"] == sha256(image_file)
    assert report["weights_sha256"] == sha256(BUNDLE / "models" / "model.pt")
    assert (report["depth"], report["device"], report["version"]) == (2, "cpu", expected.version)
    assert report["ml"] == pytest.approx(expected.ml, abs=5e-4)
    assert set(report["seconds"]) == {"reading", "preprocessing", "network", "postprocessing", "writing"}
    assert {"torch", "monai", "unetpp_monai", "python"} <= set(report["software"])


def test_a_cohort_keeps_what_worked_and_names_what_failed(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    broken_files(data)
    save_nifti(data / "constant.nii", np.full((8, 8, 8), 3, np.int16))
    save_nifti(data / "series.nii", np.zeros((8, 8, 8, 4), np.float32))
    for name in ("good_1", "good_2"):
        save_nifti(data / f"{name}.nii.gz", phantom((20, 20, 20))[0])
    (tmp_path / "empty").mkdir()
    result = unetpp(
        "segment", data, tmp_path / "missing", tmp_path / "empty", "-o", tmp_path / "out", "--depth", 1, *TASK
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"good_{n}{end}" for n in (1, 2) for end in (".json", "_seg.nii.gz", "_seg.tsv")]
    table = "".join(result.stderr.replace("│", "").split())
    for word in ("truncated", "nan.nii", "constant", "series", "singular", "zero", "missing", "empty"):
        assert word in table, word
    for reason in ("NaNorinfinite", "takes1channel", "mustnotbeconstant", "mustnotbesingular", "atleast1voxel"):
        assert reason in table, reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.nii"], "input must exist, got nothing.nii"),
        (["{image}", "--depth", "deep"], "depth must be a number >= 1, auto or full, got deep"),
        (["{image}", "--mirror", "0,3"], "axes to mirror must be of 0, 1, 2, got 0, 3"),
        (["{image}", "--mirror", "x"], "axes to mirror must be numbers as in 0,1,2, got 'x'"),
        (["{image}", "--runtime", "tflite"], "runtime must be auto, eager"),
        (["{image}", "--depth", "9"], "depth must be from 1 to 3, got 9"),
        (["{image}", "--device", "cuda:77"], "device must exist, got 'cuda:77'"),
        (["{image}", "--bundle", "."], "a bundle must hold configs/metadata.json"),
        (["{image}", "-o", "{image}"], "must be a writable folder, got a file;"),
        (["{image}", "--format", "dicomseg"], "give the images as DICOM, or choose nifti"),
    ],
)
def test_bad_input_is_one_line(image_file, tmp_path, arguments, message):
    arguments = [argument.format(image=image_file) for argument in arguments]
    arguments += [] if "-o" in arguments else ["-o", "out"]
    result = unetpp("segment", *TASK, *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="root may write anywhere")
def test_unwritable_output(image_file):
    result = unetpp("segment", image_file, "-o", "/proc/unetpp", *TASK)
    assert result.returncode == 1 and "must be a writable folder" in result.stderr


def test_results_are_replaced_only_when_asked(image_file, tmp_path):
    arguments = ("segment", image_file, "-o", tmp_path, *TASK, "--depth", 1)
    assert unetpp(*arguments).returncode == 0
    before = (tmp_path / "case_1.json").read_bytes()
    other = unetpp(*arguments[:-1], 2)
    assert other.returncode == 1 and "choose another folder or allow overwriting (--overwrite)" in other.stderr
    assert unetpp(*arguments).returncode == 0  # done before
    assert (tmp_path / "case_1.json").read_bytes() == before
    assert unetpp(*arguments, "--overwrite").returncode == 0
    assert (tmp_path / "case_1.json").read_bytes() != before


def test_two_cases_of_one_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_nifti(tmp_path / folder / "case.nii", phantom((10, 10, 10))[0])
    result = unetpp("segment", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--depth", 1, *TASK)
    assert result.returncode == 1 and "results are named after cases" in result.stderr
    assert (tmp_path / "out" / "case_seg.nii.gz").exists()  # the first one


def test_a_terminated_run_leaves_nothing_half_written(tmp_path):
    save_nifti(tmp_path / "big.nii.gz", phantom((160, 160, 120))[0])
    command = [*UNETPP, "segment", tmp_path / "big.nii.gz", "-o", tmp_path / "out", "--progress", *TASK]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("progress ")  # in the midst of the network
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    assert list((tmp_path / "out").glob("*")) == []


def test_info_names_labels_codes_and_depths():
    result = unetpp("info", *TASK, environment={**os.environ, "COLUMNS": "200"})
    assert result.returncode == 0
    for word in (
        "anterior hippocampus",
        "SCT 5366008",
        "T1-weighted MRI",
        "depth",
        "1,599,929",
        sha256(BUNDLE / "models/model.pt"),
    ):
        assert word in result.stdout, word


def test_demo_shows_both_hippocampi(tmp_path):
    pytest.importorskip("matplotlib")
    result = unetpp("demo", folder=tmp_path)
    assert result.returncode == 0 and all(
        f"{side} anterior hippocampus: " in result.stdout for side in ("left", "right")
    )
    names = {path.name for path in (tmp_path / "demo_output").iterdir()}
    assert names == {f"mni_head{suffix}" for suffix in (".json", ".png", "_seg.nii.gz", "_seg.tsv")}


def test_demo_without_matplotlib_says_so_and_succeeds(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["unetpp_monai.cli.segment"], "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo"), "--depth", "1"])
    assert result.exit_code == 0 and "no picture, which needs matplotlib; pip install" in result.stdout
    assert "anterior hippocampus: " in result.stdout and not list((tmp_path / "demo").glob("*.png"))


def test_version_names_package_and_bundle():
    result = unetpp("--version")
    assert result.returncode == 0 and result.stdout.startswith(f"unetpp_monai {__version__}, UNet++ hippocampus")


def test_pack_and_segment_with_the_packed_bundle(tmp_path, image_file):
    result = unetpp("pack", *TASK, "-o", tmp_path / "dist")
    folder, archive = result.stdout.split()
    assert result.returncode == 0 and Path(archive).exists()
    assert unetpp("segment", image_file, "-o", tmp_path, "--bundle", folder, "--depth", 1).returncode == 0
    assert unetpp("pack", *TASK, "-o", tmp_path / "dist").returncode == 1


def test_real_dicom_series(shared_data, tmp_path):
    for name in ("Study1_13_HCropVolume", "Study3_11_HCropVolume"):
        shutil.copytree(shared_data / "dicom" / name, tmp_path / "in" / name)
    assert unetpp("segment", tmp_path / "in", "-o", tmp_path / "out", *TASK).returncode == 0
    for name in ("Study1_13_HCropVolume", "Study3_11_HCropVolume"):
        report = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert all(0.8 <= ml <= 3.0 for ml in report["ml"].values()), report["ml"]
        labels, source = read_volume(tmp_path / "out" / f"{name}_seg.nii.gz"), read_volume(tmp_path / "in" / name)
        assert labels.same_grid(source)
        # anterior lies in front of posterior; the axes are L, P, S
        anterior, posterior = (np.argwhere(labels.array[0] == index).mean(axis=0) for index in (1, 2))
        assert (labels.affine[:3, :3] @ (anterior - posterior))[1] > 10


def test_depth_auto_uncertainty_and_mirroring(image_file, tmp_path):
    """What is asked for is what the API gives; the map lies on the grid of the source."""
    options = ["--depth", "auto", "--uncertainty", "--mirror", "0", "--runtime", "eager"]
    result = unetpp("segment", image_file, "-o", tmp_path / "out", *options, *TASK)
    assert result.returncode == 0 and result.stderr.startswith("review ")  # it is a phantom
    report = json.loads((tmp_path / "out" / "case_1.json").read_text())
    segmenter = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")
    expected = segmenter(read_volume(image_file), depth="auto", mirror_axes=(0,), uncertainty=True)
    assert report["depth"] == "auto" and report["runtime"] == "eager" and report["precision"] == "float32"
    assert report["windows"] == {str(depth): count for depth, count in expected.windows.items()}
    assert report["mirror_axes"] == [0] and report["exit_thresholds"] == list(expected.exit_thresholds) != []
    assert report["scores"] == pytest.approx(expected.scores) and report["score"] == pytest.approx(expected.score)
    assert report["review"] is expected.review
    doubts, source = nib.load(tmp_path / "out" / "case_1_uncertainty.nii.gz"), nib.load(image_file)
    np.testing.assert_array_equal(doubts.affine, source.affine)
    np.testing.assert_allclose(np.asarray(doubts.dataobj), expected.uncertainty.array[0], atol=1e-6)
    other = unetpp("segment", image_file, "-o", tmp_path / "out", *options[:2], *options[3:], *TASK)
    assert other.returncode == 1 and "by other settings" in other.stderr


def test_export_from_another_folder(tmp_path):
    result = unetpp("export", "--to", "torchscript", *TASK, "--depth", 1, "-o", "net.ts", folder=tmp_path)
    assert result.returncode == 0 and "largest difference of logits from PyTorch 0.0e+00" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.ts", "net.ts.json"]
    again = unetpp("export", "--to", "torchscript", *TASK, "-o", "net.ts", folder=tmp_path)
    assert again.returncode == 1 and "net.ts exists" in again.stderr


def test_other_weights_of_the_same_network(image_file, tmp_path):
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    weights["outputs.x_0_3.bias"] += torch.tensor([0.0, 0.0, 100.0])  # everything becomes label 2
    torch.save(weights, tmp_path / "model.pt")
    result = unetpp("segment", image_file, "-o", tmp_path / "out", "--weights", tmp_path / "model.pt", *TASK)
    assert result.returncode == 0, result.stderr
    assert (read_volume(tmp_path / "out" / "case_1_seg.nii.gz").array == 2).all()
    report = json.loads((tmp_path / "out" / "case_1.json").read_text())
    assert report["weights_sha256"] == sha256(tmp_path / "model.pt")
    result = unetpp("segment", image_file, "-o", tmp_path / "none", "--weights", tmp_path / "absent.pt", *TASK)
    assert result.returncode == 1 and "weights must be a file" in result.stderr
