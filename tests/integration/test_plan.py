"""`unetpp plan`: a data set of any layout to a task that the base takes, and a table of what is wrong with bad data."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import LABELS, NAMES, bids, folders, made_cases, msd, nnunet, save, table
from typer.testing import CliRunner

from unetpp_monai.cli import app
from unetpp_monai.errors import OutputError
from unetpp_monai.io import listed_folds, read_volume
from unetpp_monai.task import check_task

FILES = ["cases.json", "fingerprint.json", "metadata.json", "plan.md", "task.json"]
LAYOUTS = {
    "nnunet": (nnunet, ()),
    "msd": (msd, ()),
    "bids": (bids, ("--image", "T1w", "--label", "dseg")),
    "folders": (folders, ()),
    "table": (table, ()),
}


def plan(*arguments, code=0):
    done = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Layout -> data set and task of the same six cases."""
    root = tmp_path_factory.mktemp("plan")
    found = {}
    for name, (make, options) in LAYOUTS.items():
        (root / name).mkdir()
        dataset = make(root / name, made_cases())
        found[name] = (dataset, root / f"task_{name}")
        plan(dataset, "-o", found[name][1], "--memory", "2GiB", *options)
    return found


def test_five_layouts_are_one_plan(planned):
    tasks, cases = [], []
    for dataset, task in planned.values():
        values = read(task / "task.json")
        folder = dataset if dataset.is_dir() else dataset.parent
        assert values.pop("dataset_dir") == str(folder)
        listed = read(task / "cases.json")
        for case in listed:
            paths = [case.pop("image"), case.pop("label")]
            assert all((folder / path).is_file() for path in paths)
        tasks.append(values)
        cases.append(listed)
    assert all(values == tasks[0] for values in tasks) and all(listed == cases[0] for listed in cases)
    assert [case["name"] for case in cases[0]] == NAMES and {case["fold"] for case in cases[0]} == {0, 1, 2}
    assert tasks[0]["channel_suffixes"] == ["_0000"] and tasks[0]["cases_file"] == "cases.json"


def test_names_that_look_like_channels_are_kept_and_links_lead_to_the_files(tmp_path):
    dataset = folders(
        tmp_path / "disk" / "data", {f"frame_{at:04d}": case for at, case in enumerate(made_cases().values())}
    )
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "disk" / "tables" / "mine")
    (tmp_path / "disk" / "tables" / "mine").mkdir(parents=True)
    names = sorted(path.name for path in (dataset / "images").iterdir())
    rows = [
        f"{start}/images/{name},{start}/labels/{name}\n"
        for start, name in zip(["../../data", str(dataset)] * 3, names, strict=True)
    ]
    (tmp_path / "near" / "link" / "cases.csv").write_text("image,label\n" + "".join(rows))
    plan(tmp_path / "near" / "link" / "cases.csv", "-o", tmp_path / "task", "--memory", "2GiB")
    values = read(tmp_path / "task" / "task.json")
    assert values["channel_suffixes"] == [] and read(tmp_path / "task" / "cases.json")[0]["name"] == "frame_0000"
    listed = listed_folds(tmp_path / "task" / "cases.json", values["dataset_dir"])
    assert {Path(entry["image"]).resolve() for fold in listed for entry in fold} == set((dataset / "images").iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_fits_the_base(planned, layout):
    task = check_task(planned[layout][1])
    assert sorted(path.name for path in task.folder.iterdir()) == FILES
    names = task.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    stated = LABELS.values() if layout in ("nnunet", "msd", "bids") else ("label 1", "label 2")
    assert list(names.values()) == ["background", *stated]
    assert task.metadata["plausible"]["cases"] == 6 and "label_codes" not in task.metadata


def test_a_task_names_no_case_and_no_path_but_that_of_its_data(planned):
    for dataset, task in planned.values():
        values = {**read(task / "task.json"), "dataset_dir": ""}
        text = json.dumps(values) + (task / "metadata.json").read_text()
        assert not [name for name in (*NAMES, str(dataset.parent)) if name in text]


def test_the_same_data_give_the_same_bytes(planned, tmp_path):
    dataset, task = planned["msd"]
    before = {name: (task / name).read_bytes() for name in FILES}
    (task / "model.pt").write_bytes(b"trained")
    plan(dataset, "-o", task, "--memory", "2GiB", "--overwrite")
    assert {name: (task / name).read_bytes() for name in FILES} == before
    assert (task / "model.pt").read_bytes() == b"trained"  # what training wrote stays
    (task / "model.pt").unlink()


def test_a_folder_that_exists_is_kept(planned):
    dataset, task = planned["folders"]
    before = (task / "task.json").read_bytes()
    done = CliRunner().invoke(app, ["plan", str(dataset), "-o", str(task)])
    assert done.exit_code == 1 and done.exception.option == "overwrite"
    assert (task / "task.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n" * 300, "must be a writable folder, got File name too long; choose another place"),
        (os.fsdecode(b"\xff"), "must be UTF-8 without control characters, got"),
        ("a\x1bb", "must be UTF-8 without control characters, got"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_cases_are_read(tmp_path, name, said):
    for command in ("plan", "run"):
        done = CliRunner().invoke(app, [command, str(tmp_path), "-o", str(tmp_path / name)])
        assert isinstance(done.exception, OutputError) and said in str(done.exception)


def test_every_decision_is_in_the_report(planned):
    _, task = planned["nnunet"]
    report = (task / "plan.md").read_text()
    for key in (read(task / "task.json").keys() - {"dataset_dir"}) | {"strides", "kernel_size"}:
        assert f"| `{key}` |" in report
    assert "nnU-Net v2: 6 cases in 6 groups, 1 channel (T1), labels 1 front, 2 back" in report
    assert "unetpp train task_nnunet" in report


def test_bad_data_are_a_table_and_nothing_is_written(tmp_path):
    dataset = msd(tmp_path / "data", cases := made_cases(shape=(12, 16, 10)))
    save(dataset / "labelsTr" / "sub-01.nii.gz", cases["sub-01"][1] * 4)
    save(dataset / "labelsTr" / "sub-03.nii.gz", cases["sub-03"][1][1:])
    (dataset / "imagesTr" / "sub-05.nii.gz").write_bytes(b"nothing")
    for extra in ((), ("--check",)):
        done = plan(dataset, "-o", tmp_path / "task", *extra, code=1)
        rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
        assert [row[:2] for row in rows] == [["error", name] for name in ("sub-01", "sub-03", "sub-05")]
        assert "got 3 errors" in done.stderr and not (tmp_path / "task").exists()


def test_check_writes_nothing_for_sound_data_either(planned, tmp_path):
    assert plan(planned["msd"][0], "--check").stdout.startswith("Medical Segmentation Decathlon: 6 cases")
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, ["plan", str(planned["msd"][0])]).exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--spacing", "1,1"), "3 numbers"),
        (("--spacing", "one"), "as in 1,1,2.5"),
        (("--memory", "lots"), "8GiB"),
        (("--time", "soon"), "45min"),
        (("--modality", "banana"), "banana"),
        (("--folds", "7"), "2 to 6"),
        (("--group", "("), "regular expression"),
    ],
)
def test_an_option_that_is_none_is_refused_before_anything_is_written(planned, tmp_path, options, said):
    done = CliRunner().invoke(app, ["plan", str(planned["msd"][0]), "-o", str(tmp_path / "task"), *options])
    assert done.exit_code == 1 and said in str(done.exception) and done.exception.option == options[0].strip("-")
    assert list(tmp_path.iterdir()) == []


def test_thick_slices_of_two_channels(tmp_path):
    """In-plane strides and kernels first, one intensity rule a channel, grouped folds, one with each rare label."""
    affine, dataset = np.diag([0.7, 0.7, 4.0, 1.0]), tmp_path / "data"
    rng = np.random.default_rng(0)
    dataset.mkdir()
    nnunet(dataset, {}, channel_names={"0": "T2", "1": "CT"}, labels={"background": 0, "organ": 1, "lesion": 3})
    for at in range(10):
        label = np.zeros((48, 48, 10), np.uint8)
        label[10:30, 12:36, 2:8] = 1
        label[14:18, 14:18, 4:6] = 3 if at in (0, 3, 5, 9) else 1
        for channel in (0, 1):
            image = (rng.normal(100, 20, label.shape) + 60 * (label > 0)).astype(np.int16)
            save(dataset / "imagesTr" / f"p{at // 2}_{at:02d}_{channel:04d}.nii.gz", image, affine)
        save(dataset / "labelsTr" / f"p{at // 2}_{at:02d}.nii.gz", label, affine)
    plan(dataset, "-o", tmp_path / "task", "--memory", "4GiB", "--group", r"^p\d")
    values = check_task(tmp_path / "task").values
    assert values["strides"][0] == [2, 2, 1] and values["kernel_size"][0] == [3, 3, 1]
    assert [rule["kind"] for rule in values["intensity"]] == ["zscore", "clip"]
    assert values["label_values"] == [0, 1, 3] and values["channel_suffixes"] == ["_0000", "_0001"]
    cases = read(tmp_path / "task" / "cases.json")
    folds = {case["group"]: case["fold"] for case in cases}
    assert all(folds[case["group"]] == case["fold"] for case in cases) and sorted(folds.values()) == [0, 1, 2, 3, 4]
    with_lesion = {case["fold"] for case in cases if (read_volume(dataset / case["label"]).array == 3).any()}
    assert len(with_lesion) == 4
    assert all(len(case["image"]) == 2 for case in cases)


def test_a_mistyped_key_is_refused_quickly(planned, tmp_path):
    shutil.copytree(planned["msd"][1], tmp_path / "task")
    values = read(tmp_path / "task" / "task.json")
    (tmp_path / "task" / "task.json").write_text(json.dumps({**values, "patchsize": [1]}))
    start = time.monotonic()
    done = CliRunner().invoke(app, ["train", str(tmp_path / "task")])
    assert done.exit_code == 1 and "did you mean 'patch_size'?" in str(done.exception)
    assert time.monotonic() - start < 5


STEP = """
import json, resource, sys, torch
from monai.losses import DiceCELoss, DeepSupervisionLoss
from unetpp_monai.networks import UNetPlusPlus

task = json.load(open(sys.argv[1]))
shape = {key: task[key] for key in ("in_channels", "out_channels", "features")}
network = UNetPlusPlus(3, **shape, strides=task.get("strides", 2), kernel_size=task.get("kernel_size", 3)).train()
optimizer = torch.optim.AdamW(network.parameters())
loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True), weights=task["head_weights"])
for _ in range(2):
    optimizer.zero_grad()
    patches = (task["batch_size"], 1, *task["patch_size"])
    loss(network(torch.rand(patches)), torch.ones(patches)).backward()
    optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_step_takes_at_least_half_of_the_memory_and_not_more_than_there_is(tmp_path):
    dataset = folders(tmp_path / "data", made_cases(4, (90, 90, 90)))
    plan(dataset, "-o", tmp_path / "task", "--memory", "1536MiB")
    command = [sys.executable, "-W", "ignore", "-c", STEP, str(tmp_path / "task" / "task.json")]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # GiB
    assert 0.75 <= peak <= 1.5


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Task04_Hippocampus", (), {"pixdim": [1.0] * 3, "patch_size": [32, 48, 32], "num_folds": 5}),
        ("ACDC", ("--group", r"^patient\d+"), {"pixdim": [1.914, 1.914, 10.0], "flip_axes": []}),
        ("ACDC", ("--memory", "3GiB"), {"pixdim": [1.5, 1.5, 10.0], "patch_size": [128, 144, 8]}),
        ("LeftAtrium", (), {"out_channels": 2}),
        ("DSB2018", (), {"spatial_dims": 2, "label_values": [0, 255], "in_channels": 3}),
    ],
)
def test_real_data_are_planned_without_a_gpu(tmp_path, shared_data, monkeypatch, name, options, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan(shared_data / name, "-o", tmp_path / "task", "--memory", "2GiB", *options)
    values = check_task(tmp_path / "task").values
    assert {key: values[key] for key in expected} == expected
