"""A task of a user's own, as planned: the same voxels in training and inference, patches, memory, channels."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.commands import unetpp
from helpers.datasets import folders, save
from helpers.planned_tasks import AIR, THICK, plan, thick_slices, train_config, untrained, values_of

from unetpp_monai import Segmenter
from unetpp_monai.annotation.fine_tuning import Options, fine_tune, read_progress
from unetpp_monai.annotation.training_cases import Labelled
from unetpp_monai.annotation.version_store import copy_bundle
from unetpp_monai.errors import InputError
from unetpp_monai.io import read_case, read_volume
from unetpp_monai.memory import GIB
from unetpp_monai.workflows.pack import pack


@pytest.fixture(scope="module")
def thick(tmp_path_factory):
    """Data set and task of two channels of thick slices."""
    root = tmp_path_factory.mktemp("thick")
    dataset = thick_slices(root / "data", shape=(96, 96, 14))
    plan(dataset, "-o", root / "task", "--memory", "1GiB", "--group", r"^p\d")
    return dataset, root / "task"


@pytest.mark.slow
def test_two_files_are_segmented_as_one_with_both(thick, tmp_path):
    dataset, task = thick
    assert values_of(task)["strides"][0] == [2, 2, 1] and values_of(task)["kernel_size"][0] == [3, 3, 1]
    bundle = pack(tmp_path / "dist", task=untrained(task)).folder
    files = [dataset / "imagesTr" / f"p0_00_{channel:04d}.nii.gz" for channel in (0, 1)]
    both = np.stack([np.asarray(nib.load(file).dataobj) for file in files], axis=-1)
    save(tmp_path / "whole" / "p0_00.nii.gz", both, THICK)
    (tmp_path / "files").mkdir()
    for file in files:
        (tmp_path / "files" / file.name).symlink_to(file)
    for name in ("files", "whole"):
        done = unetpp("segment", tmp_path / name, "-o", tmp_path / f"{name}_out", "--bundle", bundle)
        assert done.returncode == 0, done.stderr
    found = [read_volume(tmp_path / f"{name}_out" / "p0_00_seg.nii.gz").array for name in ("files", "whole")]
    assert found[0].any() and len(np.unique(found[0])) > 1
    np.testing.assert_array_equal(*found)


def patches_of(task, count=500, **values):
    """Labels of patches as a training draws them."""
    parser = train_config(task, fold=5, **values)
    cached = parser.get_parsed_content("train#dataset")
    steps = parser.get_parsed_content("train#preprocessing")
    steps.set_random_state(0)
    pad, crop = (
        next(step for step in steps.transforms if type(step).__name__ == name)
        for name in ("SpatialPadd", "RandForegroundCropd")
    )
    cases = [pad(dict(case)) for case in cached._cache]
    return [crop(cases[at % len(cases)])["label"] for at in range(count)]


@pytest.mark.slow
def test_patches_show_structures_and_the_rare_one(tmp_path):
    """A third of the patches at least, and the label of 4 in 10 cases in 8 of 100; by chance it would be less."""
    dataset = thick_slices(tmp_path / "data", shape=(256, 256, 12), scattered=True)
    plan(dataset, "-o", tmp_path / "task", "--memory", "1GiB")
    values = values_of(tmp_path / "task")
    assert values["strides"][0] == [2, 2, 1] and values["patch_size"][0] <= 64
    patches = patches_of(tmp_path / "task")
    assert all(list(patch.shape[1:]) == values["patch_size"] for patch in patches)
    assert np.mean([bool(patch.any()) for patch in patches]) >= 1 / 3
    assert np.mean([bool((patch == 2).any()) for patch in patches]) >= 0.08  # label 3 of the files
    by_chance = patches_of(tmp_path / "task", foreground_share=1e-9)
    assert np.mean([bool((patch == 2).any()) for patch in by_chance]) < 0.08


def test_every_fold_has_a_case_of_the_rare_label_where_there_are_enough(tmp_path):
    dataset = thick_slices(tmp_path / "data", shape=(20, 20, 8), rare=(0, 3, 5, 9))
    plan(dataset, "-o", tmp_path / "task", "--folds", "4")
    cases = json.loads((tmp_path / "task" / "cases.json").read_text())
    with_lesion = {case["fold"] for case in cases if (read_volume(dataset / case["label"]).array == 3).any()}
    assert with_lesion == {0, 1, 2, 3}


def ct_cases(count=4, shape=(40, 44, 20)):
    """Name -> HU and label map: air, a body of water, an organ that varies."""
    rng, cases = np.random.default_rng(0), {}
    for at in range(count):
        label = np.zeros(shape, np.uint8)
        label[12:24, 14 : 26 + at % 3, 6:14] = 1
        image = np.full(shape, AIR, np.int16)
        image[4:-4, 4:-4] = rng.normal(0, 10, image[4:-4, 4:-4].shape)
        image[label == 1] = rng.normal(60 + 2 * at, 20, int(label.sum()))
        cases[f"ct{at}"] = image, label
    return cases


def metal(image, label):
    """An implant of 3000 HU in the body, far from the organ."""
    image = image.copy()
    image[30:34, 34:38, 2:4] = 3000
    return image, label


def more_air(image, label):
    """200 more slices above the patient."""
    extra = [(0, 0), (0, 0), (0, 200)]
    return np.pad(image, extra, constant_values=AIR), np.pad(label, extra)


def organ_in_training(task):
    """Preprocessed voxels of every case's organ, as training caches them."""
    cached = train_config(task, fold=5).get_parsed_content("train#dataset")._cache
    return {
        Path(case["label"].meta["filename_or_obj"]).name: case["image"][case["label"] == 1].numpy() for case in cached
    }


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [metal, more_air])
def test_an_organ_in_hu_is_the_same_whatever_is_beside_it(tmp_path, spoil):
    """Mean 0 and deviation 1 in training; equal voxels in inference; neither metal nor air changes the organ."""
    cases = ct_cases()
    folders(tmp_path / "data", cases)
    folders(tmp_path / "other", {name: spoil(*case) if name == "ct1" else case for name, case in cases.items()})
    organs = {}
    for name in ("data", "other"):
        plan(tmp_path / name, "-o", tmp_path / f"task_{name}", "--memory", "1GiB", "--spacing", "1,1,1.5")
        organs[name] = organ_in_training(tmp_path / f"task_{name}")
    assert values_of(tmp_path / "task_data")["intensity"] == values_of(tmp_path / "task_other")["intensity"]
    voxels = np.concatenate(list(organs["data"].values()))
    assert abs(voxels.mean()) < 0.05 and abs(voxels.std() - 1) < 0.05
    for name, found in organs["other"].items():
        assert np.abs(found - organs["data"][name]).max() <= 1e-5
    bundle = pack(tmp_path / "dist", task=untrained(tmp_path / "task_data")).folder
    segmenter = Segmenter.from_bundle(bundle, device="cpu", runtime="eager")
    for folder in ("data", "other"):
        trained = train_config(tmp_path / "task_data", dataset_dir=str(tmp_path / folder), fold=5)
        for case in trained.get_parsed_content("train#dataset")._cache:
            path = case["image"].meta["filename_or_obj"]
            prepared = segmenter.prepare(read_case(path).volume).data["image"]
            np.testing.assert_array_equal(prepared.numpy(), case["image"].numpy())


@pytest.mark.data
@pytest.mark.long
@pytest.mark.parametrize("gib", [2, 3])
def test_a_training_takes_at_least_half_of_the_memory_and_not_more_than_there_is(tmp_path, gib, shared_data):
    """Resident memory of `unetpp train` itself, over two steps of real images.

    In float32, which is planned for on a CPU; one with bfloat16 in hardware takes about half.
    """
    task = tmp_path / "task"
    plan(shared_data / "ACDC", "-o", task, "--memory", f"{gib}GiB", "--group", r"^patient\d+")
    cases = json.loads((task / "cases.json").read_text())
    few = [{**case, "fold": at // 2} for at, case in enumerate(cases[:4])]
    (task / "cases.json").write_text(json.dumps(few))
    command = [sys.executable, "-m", "unetpp_monai", "train", str(task), "--fold", "all", "--set", "num_folds=2"]
    command += ["--set", "max_epochs=1", "--set", "steps_per_epoch=2", "--set", "amp=false"]
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, (tmp_path / "log").read_text()
    assert 0.5 * gib <= usage.ru_maxrss * 1024 / GIB <= gib


@pytest.mark.long
def test_a_training_begins_with_weights_of_a_task_with_other_labels_and_channels(tmp_path):
    """From one channel and label to two: what fits is taken and said; going on loads nothing again."""
    rng, cases = np.random.default_rng(0), {}
    for at in range(4):
        label = np.zeros((24, 24, 12), np.uint8)
        label[6:18, 6:18, 3:9] = 1
        cases[f"c{at}"] = rng.normal(100, 20, label.shape).astype(np.float32) + 60 * label, label
    plan(folders(tmp_path / "one", cases), "-o", tmp_path / "first", "--memory", "1GiB", "--spacing", "1,1,1.5")
    plan(thick_slices(tmp_path / "two", shape=(24, 24, 12), count=4, rare=(0, 1, 2, 3)), "-o", tmp_path / "second")
    for name in ("first", "second"):
        values = values_of(tmp_path / name) | {"features": [4, 8], "strides": 2, "kernel_size": 3, "head_weights": [1]}
        values |= {"patch_size": [16, 16, 8], "roi_size": [16, 16, 8], "steps_per_epoch": 1, "learning_rate": 0.0}
        (tmp_path / name / "task.json").write_text(json.dumps(values))
    given = untrained(tmp_path / "first") / "model.pt"
    command = ["train", "second", "--fold", "0", "--initial_weights", "first"]
    settings = ["--set", "warmup_epochs=0", "--set", "val_interval=1", "--set"]
    done = unetpp(*command, *settings, "max_epochs=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said = "first convolution of 1 channel instead of 2: repeated and divided by their number; heads of 2 labels "
    assert f"{given.relative_to(tmp_path)}: {said}instead of 3, background included: new" in done.stderr
    before, after = (torch.load(path, weights_only=True) for path in (given, tmp_path / "second/runs/fold0/model.pt"))
    first = "nodes.x_0_0.block.conv_0.conv.weight"
    assert torch.equal(after[first], before[first].repeat(1, 2, 1, 1, 1) / 2)
    same = [name for name in before if name != first and not name.startswith("outputs.")]
    assert same and all(torch.equal(after[name], before[name]) for name in same)
    again = unetpp(*command, *settings, "max_epochs=2", folder=tmp_path)
    assert again.returncode == 0 and "initialised" not in again.stderr, again.stderr[-2000:]
    other = unetpp(*command[:-2], *settings, "max_epochs=3", folder=tmp_path)
    assert other.returncode == 1 and "initial_weights" in other.stderr and "same run" in other.stderr
    lost = unetpp(*command[:-1], "nowhere", "-o", "third", *settings, "max_epochs=1", folder=tmp_path)
    assert lost.returncode == 1 and "initial weights must be a file" in lost.stderr


@pytest.mark.slow
def test_a_planned_bundle_learns_from_submitted_labels(thick, tmp_path):
    """Two channels in files of their own, a channel in HU, thick slices: what plan states holds for annotation too."""
    dataset, task = thick
    small = tmp_path / "task"
    shutil.copytree(task, small)
    patch = {"patch_size": [32, 32, 8], "roi_size": [32, 32, 8], "steps_per_epoch": 2}
    (small / "task.json").write_text(json.dumps(values_of(task) | patch))
    root = copy_bundle(pack(tmp_path / "dist", task=untrained(small)).folder, tmp_path / "served" / "thick")
    names = [f"p{at // 2}_{at:02d}" for at in range(4)]
    meanings = {1: "organ", 3: "lesion"}  # as in the files, not as in the bundle
    cases = [
        Labelled(
            f"{name}_0000", dataset / f"imagesTr/{name}_0000.nii.gz", dataset / f"labelsTr/{name}.nii.gz", meanings
        )
        for name in names
    ]
    options = Options(max_epochs=1, learning_rate=0.001, val_split=0.3, device="cpu")
    lonely = tmp_path / "lonely" / "a_0000.nii.gz"
    lonely.parent.mkdir()
    shutil.copy(cases[0].image, lonely)
    with pytest.raises(InputError, match=r"label of lonely: .* each of 2 channels, missing: a_0001.nii.gz"):
        fine_tune(root, [*cases, Labelled("lonely", lonely, cases[0].label, meanings)], options)
    fine_tune(root, cases, options)
    progress = read_progress(root)
    assert progress["epoch"] == 1 and progress["loss"] > 0 and 0 <= progress["validation_dice"] <= 1
