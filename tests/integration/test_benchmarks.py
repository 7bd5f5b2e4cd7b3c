"""The comparison trains, judges, resumes and prints; its networks are built as they are named."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import BUNDLE, ROOT, TASKS
from helpers.commands import python
from helpers.tiny import TINY
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

sys.path.insert(0, str(ROOT))
from benchmarks.compare import NETWORKS, parsed
from benchmarks.tables import paired, pooled_iou, read_rows
from unetpp_monai import Volume, write_nifti
from unetpp_monai.words import counted


class Options:
    dataset_dir, overrides = BUNDLE, ()

    def __init__(self, task="hippocampus"):
        self.task = task


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("task", [task.name for task in TASKS])
def test_networks_take_a_window_and_give_logits(task):
    for name in NETWORKS:
        parser = parsed(Options(task), name)
        parser["features"] = [4, 8, 16, 32, 64][: len(parser["features"])]
        network = parser.get_parsed_content("network_def").eval()
        shape = (32,) * parser["spatial_dims"]
        with torch.no_grad():
            logits = network(torch.rand(1, parser["in_channels"], *shape))
        logits = logits if torch.is_tensor(logits) else logits[0]
        assert logits.shape == (1, parser["out_channels"], *shape), name


@pytest.mark.parametrize("task", ["hippocampus", "nuclei_2d"])
def test_the_matched_unet_has_as_many_parameters(task):
    ours, matched = (
        count(parsed(Options(task), name).get_parsed_content("network_def")) for name in ("unetpp", "unet_matched")
    )
    assert matched == pytest.approx(ours, rel=0.005)


@pytest.mark.slow
@pytest.mark.long
def test_one_row_end_to_end(msd_folder, tmp_path):
    values = {**TINY, "max_epochs": 1, "head_weights": "[0.4,0.3,0.3]"}
    overrides = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    places = ("--dataset_dir", msd_folder, "-o", tmp_path)
    command = ("compare", *places, "--networks", "unetpp", "dynunet", "--rounds", "1", *overrides)
    first = benchmark(*command)
    assert "training unetpp, fold 0, seed 0" in first and "training dynunet" in first
    table = json.loads((tmp_path / "table.json").read_text())
    assert [entry["network"] for entry in table] == ["unetpp", "unetpp L2", "unetpp L1", "dynunet"]
    assert all(
        entry["parameters"] and float(entry["seconds"]) > 0 and 0 <= float(entry["Dice 1"]) <= 1 for entry in table
    )
    assert float(table[0]["GFLOPs"]) > float(table[2]["GFLOPs"])
    rows = read_rows(tmp_path / "unetpp")
    assert len(rows) == 2 * 2 * 3  # cases of the fold, labels, depths
    assert all(pooled_iou([row]) == pytest.approx(row["iou"], abs=1e-6) for row in rows)
    first_label = [row for row in rows if row["label"] == "1" and row["depth"] == "3"]
    assert float(table[0]["pooled IoU 1"]) == pytest.approx(pooled_iou(first_label), abs=0.0005)
    assert (tmp_path / "depths.png").exists()
    assert "training" not in benchmark(*command)  # what is complete is not repeated


def test_pooled_iou_counts_a_case_by_its_size():
    small, large = {"intersection": "1", "union": "2"}, {"intersection": "90", "union": "98"}
    assert pooled_iou([small, large]) == 0.91
    assert pooled_iou([{"intersection": "0", "union": "0"}]) == 1


def test_the_paired_test_pairs_cases():
    def rows(shift):
        return [{"case": str(index), "dice": 0.8 + index / 100 + shift * (1 + index % 3)} for index in range(12)]

    assert paired(rows(0.0), rows(0.0)) == 1
    assert paired(rows(0.01), rows(0.0)) < 0.001
    assert paired(rows(0.01), list(reversed(rows(0.0)))) < 0.001


@pytest.mark.slow
def test_the_cases_of_a_fold_are_those_that_training_leaves_out(msd_folder):
    printed = benchmark("fold", 0, "--dataset_dir", msd_folder).split()
    parser = parsed(Options(), "unetpp")
    parser["dataset_dir"] = str(msd_folder)
    assert printed == [case["image"] for case in parser.get_parsed_content("validate#dataset#data")]
    trained = {case["image"] for case in parser.get_parsed_content("train#dataset#data")}
    assert not trained & set(printed) and len(trained | set(printed)) == 6


def benchmark(name, *arguments):
    result = python(f"benchmarks.{name}", *arguments, folder=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_errors_tell_outline_from_border(tmp_path):
    """A border two slices off, then also an outline one voxel too wide."""
    reference = np.zeros((1, 8, 12, 8), np.uint8)
    reference[:, 2:6, 2:6, 2:6], reference[:, 2:6, 6:10, 2:6] = 2, 1
    shifted = reference.copy()
    shifted[:, 2:6, 6:8, 2:6] = 2
    wide = shifted.copy()
    wide[:, 6, 2:8, 2:6], wide[:, 6, 8:10, 2:6] = 2, 1
    for folder in ("reference", "shifted", "wide"):
        (tmp_path / folder).mkdir()
    write_nifti(Volume(reference, np.eye(4)), tmp_path / "reference" / "a.nii.gz")
    write_nifti(Volume(shifted, np.eye(4)), tmp_path / "shifted" / "a_seg.nii.gz")
    write_nifti(Volume(wide, np.eye(4)), tmp_path / "wide" / "a_seg.nii.gz")
    for folder, found, labels in (("shifted", (0.667, 0.8), (1.0, 1.0)), ("wide", (0.615, 0.696), (0.889, 0.889))):
        figures = [row[:2] for row in errors(tmp_path / folder, tmp_path / "reference", cases=1)]
        assert figures[:3] == [found, labels, (0.667, 0.8)]


@pytest.mark.slow
def test_errors_of_a_width_that_differs_by_case(tmp_path):
    """One picture drawn a pixel too wide, one a pixel too narrow: the outline moved as fits best is right for both."""
    reference = np.zeros((20, 24), np.uint8)
    reference[6:14, 6:18] = 255
    for folder in ("reference", "found"):
        (tmp_path / folder).mkdir()
    for case, array in (("wide", maximum_filter(reference, 3)), ("narrow", minimum_filter(reference, 3))):
        Image.fromarray(reference).save(tmp_path / "reference" / f"{case}.png")
        Image.fromarray(array // 255).save(tmp_path / "found" / f"{case}_seg.png")
    rows = errors(tmp_path / "found", tmp_path / "reference", "--reference_values", 0, 255, cases=2)
    wide, narrow = 96 / 140, 60 / 96  # IoU
    dice, iou = (2 * wide / (1 + wide) + 2 * narrow / (1 + narrow)) / 2, (wide + narrow) / 2
    assert rows[0] == pytest.approx((dice, iou), abs=0.0006) and rows[3] == (1.0, 1.0)


def errors(*arguments, cases):
    """The table's figures, a row each."""
    lines = benchmark("errors", *arguments).splitlines()
    assert lines[0] == counted(cases, "case") + ", means"
    return [tuple(map(float, line.strip("| ").split(" | ")[1:])) for line in lines[4:]]


@pytest.mark.slow
@pytest.mark.long
def test_speed_measures_every_contender(msd_folder, tmp_path):
    contenders = ["monai:BasicUNet", "ours:eager:1", "ours:eager:auto"]
    image = msd_folder / "imagesTr" / "case_0.nii.gz"
    text = benchmark("speed", image, "--rounds", 1, "-o", tmp_path, "--contenders", *contenders)
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["contender"] for row in rows] == contenders and all(name in text for name in contenders)
    for row in rows:
        assert 0 < row["in the network"] <= row["seconds"] and 0.1 < row["peak GiB"] < 8
    assert rows[0]["speed-up"] == 1 and list(rows[1]["windows per depth"]) == ["1"]
    assert 0 < rows[1]["GFLOP"] <= rows[2]["GFLOP"] and (tmp_path / "speed.png").exists()
    assert not list(ROOT.glob("*.nii*"))  # results of the contenders stay where they were wanted


@pytest.mark.slow
@pytest.mark.long
def test_uncertainty_is_measured_on_the_fold(msd_folder, tmp_path):
    other = msd_folder / "imagesTr" / "case_5.nii.gz"
    twin = ROOT / "benchmarks" / "fold0" / "model.pt"
    benchmark("uncertainty", "--dataset_dir", msd_folder, "--other", other, "--ensemble", twin, "-o", tmp_path)
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["cases"] == 2 and (len(table["maps"]), len(table["made wrong"])) == (7, 5)  # of six in five folds
    assert all({"mean Dice", "entropy", "disagreement"} == set(row) for row in table["made wrong"].values())
    assert "disagreement, ensemble of 2" in table["maps"]
    for figures in table["maps"].values():
        assert table["AURC bounds"]["best"] <= figures["AURC"] and 0 <= figures["voxel AUROC"] <= 1
    assert (tmp_path / "reliability.png").exists()


@pytest.mark.slow
@pytest.mark.long
def test_training_steps_are_timed():
    lines = benchmark("train_step", "--rounds", 1, "--features", 4, 4, 4, 4, 4).splitlines()
    assert lines[4].startswith("| monai BasicUNetPlusPlus |") and len(lines) == 8
