"""`monai.bundle run` end to end on a tiny data set: train, resume, evaluate, overlay, two processes."""

import csv
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BUNDLE, ROOT, phantom, save_nifti
from helpers.commands import run, unetpp
from helpers.tiny import TINY
from helpers.waiting import wait_for
from monai.bundle import ConfigParser

from unetpp_monai import Segmenter, Volume, read_volume
from unetpp_monai.errors import InputError
from unetpp_monai.io import labelled_cases
from unetpp_monai.posix_only import locked
from unetpp_monai.task import BASE

pytestmark = pytest.mark.slow


def options(**values):
    return [text for key, value in values.items() for text in (f"--{key}", value)]


def common(msd_folder, folder, **values):
    places = {"bundle_root": BUNDLE, "dataset_dir": msd_folder, "ckpt_dir": folder, "output_dir": folder}
    return options(**{**places, **TINY, **values})


@pytest.fixture(scope="module")
def trained(msd_folder, tmp_path_factory):
    """One epoch with the shipped config."""
    folder = tmp_path_factory.mktemp("train")
    config = BUNDLE / "configs" / "train.json"
    result = run("--config_file", config, *common(msd_folder, folder, max_epochs=1), folder=folder)
    return folder, result.stdout


def test_training_writes_weights_that_inference_takes(trained, tmp_path, msd_folder):
    folder, log = trained
    assert re.search(r"val_mean_dice: 0\.\d+", log)
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert all(torch.is_tensor(value) and torch.isfinite(value).all() for value in weights.values())
    copied = tmp_path / "bundle"
    (copied / "models").mkdir(parents=True)
    torch.save(weights, copied / "models" / "model.pt")
    arguments = options(
        bundle_root=copied, dataset_dir=msd_folder / "imagesTr", output_dir=tmp_path / "out", features=TINY["features"]
    )
    run("--config_file", BUNDLE / "configs" / "inference.json", *arguments, folder=tmp_path)
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_training_resumes_where_it_stopped(trained, msd_folder):
    folder, _ = trained
    assert (folder / "progress_checkpoint_epoch=1.pt").exists()
    config = BUNDLE / "configs" / "train.json"
    result = run("--config_file", config, *common(msd_folder, folder, max_epochs=2, resume=True), folder=folder)
    epochs = re.findall(r"Epoch\[(\d+)\] Metrics -- train_mean_dice", result.stdout)
    assert epochs == ["2"]
    assert torch.load(folder / "progress_checkpoint_epoch=2.pt", weights_only=True)["trainer"]["epoch_length"] == 2


def test_resuming_keeps_better_weights(trained, msd_folder, tmp_path):
    """The best score is part of the progress: here it is set to one that no epoch can reach."""
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    (progress,) = folder.glob("progress_checkpoint_epoch=1.pt")
    state = torch.load(progress, weights_only=True)
    ((score, name),) = state["best"]["_saved"]
    assert 0 <= score <= 1
    state["best"]["_saved"] = [(2.0, name)]
    torch.save(state, progress)
    before = (folder / "model.pt").read_bytes()
    for other in folder.glob("progress_*"):
        if other != progress:
            other.unlink()
    config = BUNDLE / "configs" / "train.json"
    run("--config_file", config, *common(msd_folder, folder, max_epochs=2, resume=True), folder=folder)
    assert (folder / "progress_checkpoint_epoch=2.pt").exists()
    assert (folder / "model.pt").read_bytes() == before


def test_resuming_without_a_checkpoint_is_an_error(tmp_path, msd_folder):
    config = BUNDLE / "configs" / "train.json"
    arguments = common(msd_folder, tmp_path, max_epochs=1, resume=True)
    result = run("--config_file", config, *arguments, folder=tmp_path, check=False)
    assert result.returncode != 0 and "progress_checkpoint" in result.stderr + result.stdout


def test_evaluation_gives_dice_per_case_and_label_at_any_depth(trained, tmp_path, msd_folder):
    folder, _ = trained
    configs = f"['{BUNDLE}/configs/train.json','{BUNDLE}/configs/evaluate.json']"
    means = []
    for depth in (1, 3):
        arguments = common(msd_folder, folder, output_dir=tmp_path / str(depth), depth=depth)
        run("--config_file", configs, *arguments, folder=tmp_path)
        with (tmp_path / str(depth) / "val_mean_dice_raw.csv").open() as file:
            rows = list(csv.reader(file))
        assert rows[0][1:3] == ["class0", "class1"] and len(rows) == 3  # two cases of the fold
        means.append([float(value) for row in rows[1:] for value in row[1:3]])
    assert means[0] != means[1]


def test_folds_are_seeded_and_do_not_overlap(msd_folder):
    from monai.bundle import ConfigParser

    seen = []
    for fold in range(3):
        config = ConfigParser(json.loads((BUNDLE / "configs" / "train.json").read_text()))
        config.update({"dataset_dir": str(msd_folder), "num_folds": 3, "fold": fold})
        train = {item["image"] for item in config.get_parsed_content("train#dataset#data")}
        held_out = {item["image"] for item in config.get_parsed_content("validate#dataset#data")}
        assert not train & held_out and len(train | held_out) == 6
        for item in config.get_parsed_content("cases"):
            assert item["label"].endswith(item["image"].split("/")[-1])
        seen.append(held_out)
    assert len(set.union(*seen)) == 6


def test_labelled_cases_are_refused_by_name(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder, names in ((images, ("b.png", "a.png", ".hidden.png", "notes.txt")), (labels, ("b.png", "a.png"))):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    assert [Path(pair["image"]).name for pair in labelled_cases(images, labels, ".png")] == ["a.png", "b.png"]
    with pytest.raises(InputError, match=r"named \*\.nii\.gz, found none in .*images"):
        labelled_cases(images, labels, ".nii.gz")
    (labels / "a.png").unlink()
    with pytest.raises(InputError, match=r"1 are missing, such as .*labels/a\.png"):
        labelled_cases(images, labels, ".png")


def test_overlay_trains(tmp_path, msd_folder):
    """The left atrium overlay, shrunk, on phantoms whose labels it reads as they are."""
    configs = "['unetpp_monai/base/train.json','configs/left_atrium/task.json']"  # as the documents say, in a checkout
    shrunk = {"features": "[4,8,8]", "head_weights": "[0.6,0.4]", "out_channels": 3, "max_epochs": 1}
    run("--config_file", configs, *common(msd_folder, tmp_path, **shrunk), folder=ROOT)
    assert "outputs.x_0_2.weight" in torch.load(tmp_path / "model.pt", weights_only=True)


def test_the_command_trains_what_monai_trains(trained, tmp_path, msd_folder):
    """Same task, same seed: the weights of `unetpp train` are those of `monai.bundle run`."""
    values = [part for key, value in {**TINY, "max_epochs": 1}.items() for part in ("--set", f"{key}={value}")]
    result = unetpp("train", "hippocampus", "--dataset", msd_folder, "-o", "weights", *values, folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "weights/model.pt" and {path.name for path in tmp_path.iterdir()} == {
        "weights"
    }
    found, wanted = (torch.load(path / "model.pt", weights_only=True) for path in (tmp_path / "weights", trained[0]))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in found.items())


def test_the_command_names_what_is_missing(tmp_path):
    result = unetpp("train", "hippocampus", "--dataset", "lost", folder=tmp_path)
    assert result.returncode == 1 and result.stderr.splitlines()[-1].startswith("error: "), result.stderr
    assert f"must exist, got {tmp_path / 'lost'}" in result.stderr and "Traceback" not in result.stderr
    result = unetpp("train", "hippocampus", "--set", "max_epochs", folder=tmp_path)
    assert result.returncode == 1 and "values to set must be KEY=VALUE, got 'max_epochs'" in result.stderr


def test_two_processes(tmp_path, msd_folder):
    configs = f"['{BUNDLE}/configs/train.json','{BUNDLE}/configs/multi_gpu_train.json']"
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", configs]
    command += [str(text) for text in common(msd_folder, tmp_path, max_epochs=1)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in weights)


def test_training_starts_from_given_weights(trained, tmp_path, msd_folder):
    """With a learning rate of 0 they come out as they went in."""
    folder, _ = trained
    given = folder / "model.pt"
    values = {"max_epochs": 1, "initial_weights": given, "learning_rate": 0.0}
    run("--config_file", BUNDLE / "configs" / "train.json", *common(msd_folder, tmp_path, **values), folder=tmp_path)
    before, after = (torch.load(path, weights_only=True) for path in (given, tmp_path / "model.pt"))
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_a_task_states_holds_for_training_and_inference(tmp_path, msd_folder):
    """Anisotropic strides and kernels, intensities with a unit, sampling, pieces: from task to label map."""
    task = tmp_path / "ct"
    shutil.copytree(ROOT / "configs" / "hippocampus", task, ignore=shutil.ignore_patterns("model.pt", "docs"))
    values = json.loads((task / "task.json").read_text())
    values |= {
        **{"features": [4, 8, 8], "strides": [[2, 2, 1], [2, 2, 2]], "kernel_size": [[3, 3, 1], 3, 3]},
        **{"patch_size": [24, 24, 18], "roi_size": [24, 24, 18], "head_weights": [0.5, 0.5], "exit_thresholds": []},
        **{"intensity": [{"kind": "clip", "lower": 0, "upper": 140, "mean": 60, "std": 30}], "block": "residual"},
        **{
            "foreground_share": 0.5,
            "crop_foreground": True,
            "steps_per_epoch": 3,
            "largest_component": [1, 2],
            "label_boundary": [],
        },
    }
    (task / "task.json").write_text(json.dumps(values))
    settings = [word for text in ("num_folds=3", "max_epochs=1", "warmup_epochs=0") for word in ("--set", text)]
    done = unetpp("train", "ct", "--dataset", msd_folder, "-o", "weights", *settings, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    config = ConfigParser()
    config.read_config([str(BASE / "train.json"), str(task / "task.json")])
    config["dataset_dir"] = str(msd_folder)
    loader = config.get_parsed_content("train#dataloader")
    assert len(loader) == 3 and next(iter(loader))["image"].shape == (2, 1, 24, 24, 18)
    shutil.copyfile(tmp_path / "weights" / "model.pt", task / "model.pt")
    packed = unetpp("pack", "--task", "ct", "-o", "dist", folder=tmp_path)
    assert packed.returncode == 0, packed.stderr[-2000:]
    bundle = next(path for path in (tmp_path / "dist").iterdir() if path.is_dir())
    image = sorted((msd_folder / "imagesTr").glob("*.nii.gz"))[0]
    segmented = unetpp("segment", image, "-o", "out", "--bundle", bundle, "--runtime", "eager", folder=tmp_path)
    assert segmented.returncode == 0, segmented.stderr[-2000:]
    segmenter = Segmenter.from_bundle(bundle, device="cpu", runtime="eager")
    volume = read_volume(image)
    prepared = segmenter.prepare(volume).data["image"]
    assert prepared.max() <= (140 - 60) / 30 and prepared.min() >= -2
    metal = Volume(np.where(volume.array == volume.array.max(), 3000, volume.array), volume.affine)
    same = segmenter.prepare(metal).data["image"]
    assert (same != prepared).float().mean() < 0.01
    network = segmenter._network
    assert network.strides[0] == (2, 2, 1) and network.kernels[0] == (3, 3, 1)


def test_progress_of_another_fold_is_never_taken_up(trained, msd_folder, tmp_path):
    folder, _ = trained
    config = BUNDLE / "configs" / "train.json"
    values = {"max_epochs": 2, "resume": True, "ckpt_dir": tmp_path}
    result = run("--config_file", config, *common(msd_folder, folder, fold=1, **values), folder=tmp_path, check=False)
    assert result.returncode != 0 and "progress must be of the same run, got fold 0 instead of 1" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_single_case_and_wrong_labels_are_told(tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(3):
        image, label = phantom(seed=number)
        save_nifti(tmp_path / "data" / "imagesTr" / f"{number}.nii.gz", image)
        save_nifti(
            tmp_path / "data" / "labelsTr" / f"{number}.nii.gz",
            np.where(label, 7 if number == 1 else label, 0).astype(np.uint8),
        )
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    arguments = (
        "train",
        "hippocampus",
        "--dataset",
        tmp_path / "data",
        "-o",
        "out",
        "--set",
        "max_epochs=1",
        *settings,
    )
    done = unetpp(*arguments, folder=tmp_path)
    assert done.returncode == 1 and "labels must be of 0, 1, 2, got 7 in 1.nii.gz" in " ".join(done.stderr.split())
    for number in (1, 2):
        (tmp_path / "data" / "imagesTr" / f"{number}.nii.gz").unlink()
    done = unetpp(*arguments, folder=tmp_path)
    assert done.returncode == 1 and "training needs at least 2 cases" in " ".join(done.stderr.split())
    assert not list((tmp_path / "out").glob("*.pt"))


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, msd_folder):
    """The same weights to the last bit, wherever it was killed."""
    config = BUNDLE / "configs" / "train.json"

    def arguments(name, **values):
        places = {"ckpt_dir": tmp_path / name, "output_dir": tmp_path / name}
        return [
            "--config_file",
            config,
            *common(msd_folder, tmp_path, max_epochs=3, val_interval=3, **places, **values),
        ]

    run(*arguments("whole"), folder=tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *map(str, arguments("killed"))]
    first = tmp_path / "killed" / "progress_checkpoint_epoch=1.pt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as training:
        wait_for(lambda: zipfile.is_zipfile(first) or training.poll() is not None, "a checkpoint")
        training.kill()
    if not (tmp_path / "killed" / "progress_checkpoint_epoch=3.pt").exists():  # it was not faster than we
        run(*arguments("killed", resume=True), folder=tmp_path)
    whole, killed = (
        torch.load(tmp_path / name / "progress_final.pt", weights_only=True) for name in ("whole", "killed")
    )
    for name, value in whole["model"].items():
        assert torch.equal(value, killed["model"][name]), name


def test_the_command_goes_on_and_ends(tmp_path, msd_folder):
    """Every fold in a folder of its own; a finished one is left alone, another run's progress is never taken up."""
    task = tmp_path / "own"
    shutil.copytree(ROOT / "configs" / "hippocampus", task, ignore=shutil.ignore_patterns("model.pt", "docs"))
    values = [part for key, value in {**TINY, "max_epochs": 1}.items() for part in ("--set", f"{key}={value}")]
    arguments = ("train", "own", "--dataset", msd_folder, *values)
    first = unetpp(*arguments, "--fold", "0,all", folder=tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert first.stdout.splitlines()[-1] == "own/runs/all/model.pt"
    assert {path.name for path in (task / "runs").iterdir()} == {"all", "fold0"}
    record = json.loads((task / "runs" / "fold0" / "run.json").read_text())
    assert (record["fold"], record["max_epochs"], record["task"]) == (0, 1, "own")
    before = (task / "runs" / "fold0" / "model.pt").stat().st_mtime_ns
    again = unetpp(*arguments, "--fold", "0", folder=tmp_path)
    assert (again.returncode, again.stdout) == (0, "own/runs/fold0/model.pt\n")
    assert (task / "runs" / "fold0" / "model.pt").stat().st_mtime_ns == before
    other = unetpp(*arguments, "--fold", "1", "-o", task / "runs" / "fold0", folder=tmp_path)
    assert other.returncode == 1 and "got fold 0 instead of 1" in " ".join(other.stderr.split())
    weights = task / "runs" / "all" / "model.pt"
    for extra, named in (
        (("--initial_weights", weights), "initial_weights None instead of "),
        (("--set", "learning_rate=0.5"), "learning_rate 0.0025 instead of 0.5"),
        (("--set", "flip_axes=[1]"), "flip_axes [0] instead of [1]"),
        (("--set", "foreground_share=0.5"), "foreground_share 0.0 instead of 0.5"),
    ):
        other = unetpp(*arguments, "--fold", "0", *extra, folder=tmp_path)
        assert other.returncode == 1 and named in " ".join(other.stderr.split()), other.stderr
    longer = unetpp(*arguments, "--fold", "0", "--set", "max_epochs=2", folder=tmp_path)
    assert longer.returncode == 0 and re.findall(r"^(\d+)/2 ", longer.stderr, re.MULTILINE) == ["2"]
    with locked(task / "runs" / "fold0" / ".training", alone=True):
        held = unetpp(*arguments, "--fold", "0", folder=tmp_path)
    assert held.returncode == 1 and "one training at a time" in " ".join(held.stderr.split())
    wrong = unetpp(*arguments, "--fold", "first", folder=tmp_path)
    assert wrong.returncode == 1 and "folds must be numbers as in 0,1,2, or all, got 'first'" in wrong.stderr
