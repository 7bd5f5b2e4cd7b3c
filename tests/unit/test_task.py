"""One judge of tasks: what fits passes, and everything that does not is named before any data are read."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT, TASKS
from helpers.commands import read, run
from monai.bundle import ConfigWorkflow

from unetpp_monai.errors import BundleError
from unetpp_monai.task import (
    BASE,
    CONFIGS,
    TRAINED,
    VALUES,
    Task,
    _included,
    base_config,
    check_run,
    check_task,
    find_task,
    read_task,
)
from unetpp_monai.task_rules import is_structure
from unetpp_monai.words import counted

HEART = ROOT / "configs" / "left_atrium"


def heart(**values):
    """The left atrium's task with other values, or without those that are None."""
    task = read_task(HEART)
    merged = {**task.values, **values}
    return Task(task.folder, {key: value for key, value in merged.items() if value is not None}, task.metadata)


def faults(task):
    with pytest.raises(BundleError) as caught:
        check_task(task)
    first, *rest = str(caught.value).splitlines()
    assert f"must fit the base, got {counted(len(rest), 'fault')}" in first
    return rest


@pytest.mark.parametrize("folder", TASKS, ids=lambda path: path.name)
def test_shipped_tasks_fit_and_hold_values_only(folder):
    task = check_task(folder.name)
    assert task == check_task(folder) == read_task(folder) and task.name == folder.name
    assert len((folder / "task.json").read_text().splitlines()) <= 30
    assert not any(is_structure(value) for value in task.values.values())


@pytest.mark.parametrize("folder", TASKS, ids=lambda path: path.name)
def test_an_empty_task_is_told_what_is_missing(folder):
    task = read_task(folder)
    found = faults(Task(folder, {}, {}))
    assert (
        "task.json: a task must state out_channels, features, pixdim, roi_size, patch_size, head_weights, got none"
        in (" ".join(found).replace("- ", ""))
    )
    assert any("metadata.json: a task must state name, version, task, network_data_format" in fault for fault in found)
    without = {key: value for key, value in task.metadata.items() if key != "name"}
    assert faults(Task(folder, task.values, without)) == ["- metadata.json: a task must state name, got none"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"patchsize": [64, 64, 32]}, "got 'patchsize'; did you mean 'patch_size'?"),
        ({"max_epoch": 3}, "got 'max_epoch'; did you mean 'max_epochs'?"),
        ({"stride": [2, 2]}, "got 'stride'; did you mean 'strides'?"),
        ({"strides": [2, 2]}, "strides must be one number or 4 entries for 5 levels, got [2, 2]"),
        ({"strides": [2, 2, 2, 0]}, "strides must hold whole numbers >= 1, or lists of 3 of them"),
        ({"strides": [[2, 2], 2, 2, 2]}, "strides must hold whole numbers >= 1, or lists of 3 of them"),
        ({"kernel_size": [3, 3]}, "kernel_size must be one number or 5 entries for 5 levels"),
        ({"kernel_size": 4}, "kernel_size must hold odd numbers >= 1"),
        ({"kernel_size": "3"}, "kernel_size must be a whole number or a list, got '3'"),
        ({"block": "dense"}, "block must be one of plain, residual, got 'dense'"),
        ({"strides": [[2, 2, 1], 2, 2, 2], "roi_size": [64, 64, 20]}, "roi_size must be multiples of [16, 16, 8]"),
        ({"intensity": [{"kind": "zscore", "mask": "all"}] * 2}, "intensity must have none or 1 rule (in_channels)"),
        ({"intensity": ["zscore"]}, "intensity must hold"),
        ({"intensity": [{"kind": "zscore", "mask": "body"}]}, "intensity must hold"),
        ({"intensity": [{"kind": "clip", "lower": 5, "upper": 1, "mean": 0, "std": 1}]}, "with a < b and s > 0"),
        ({"intensity": [{"kind": "clip", "lower": 0, "upper": 1, "mean": "$1", "std": 1}]}, "must be a plain value"),
        ({"channel_suffixes": ["_0000", "_0001"]}, "channel_suffixes must be none or 1 different endings"),
        ({"channel_suffixes": [1]}, "channel_suffixes must be none or 1 different endings of names (in_channels)"),
        ({"largest_component": [2]}, "largest_component must name labels from 1 to 1, each once, got [2]"),
        ({"network_def": {"_target_": "torch.nn.Identity"}}, "got 'network_def', which the base builds or computes"),
        ({"cases": []}, "got 'cases', which the base builds or computes"),
        ({"train#trainer#max_epochs": 3}, "keys must be those of the base's top level, got 'train#trainer#max_epochs'"),
        ({"+flip_axes": [1]}, "keys must be those of the base's top level, got '+flip_axes'"),
        ({"max_epochs": "$1 + 1"}, "max_epochs must be a plain value, got '$1 + 1'"),
        ({"pixdim": {"_target_": "list"}}, "pixdim must be a plain value"),
        ({"roi_size": ["@out_channels", 64, 32]}, "roi_size must be a plain value"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        ({"amp": 1}, "amp must be true or false, got 1"),
        ({"features": 16}, "features must be a list, got 16"),
        ({"suffix": 3}, "suffix must be a text, got 3"),
        ({"pixdim": [1.0, 1.0]}, "pixdim must have 3 values for spatial_dims 3, got [1.0, 1.0]"),
        ({"pixdim": [1.0, 1.0, 0.0]}, "pixdim must hold numbers > 0 (mm)"),
        ({"patch_size": [64, 64]}, "patch_size must have 3 values"),
        ({"roi_size": [64, 64, 24]}, "roi_size must be multiples of 16, as features has 5 levels, got [64, 64, 24]"),
        ({"patch_size": [60, 64, 32]}, "patch_size must be multiples of 16"),
        ({"rotate_range": [0.2]}, "rotate_range must have 3 values"),
        ({"translate_range": [2, 2]}, "translate_range must have 3 values"),
        ({"shear_range": [0.1, "x", 0.1]}, "shear_range must hold numbers, or pairs of them"),
        ({"resize": [128, 128]}, "resize must have 0 or 3 values"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"flip_axes": [3]}, "flip_axes must name axes from 0 to 2, each once, got [3]"),
        ({"mirror_axes": [0, 0]}, "mirror_axes must name axes from 0 to 2, each once, got [0, 0]"),
        ({"head_weights": [1.0]}, "head_weights must have 4 values, one less than features, got [1.0]"),
        ({"head_weights": [0.0] * 4}, "head_weights must have one above 0, got [0.0, 0.0, 0.0, 0.0]"),
        ({"exit_thresholds": [0.0]}, "exit_thresholds must have none or 3 values, two less than features, got [0.0]"),
        ({"exit_thresholds": [0.0, 0.0, 2.0]}, "exit_thresholds must hold numbers from 0 to 1"),
        ({"features": [16]}, "features must hold the channels of at least 2 levels, got [16]"),
        ({"depth": 5}, "depth must be from 1 to 4, auto or full, got 5"),
        ({"overlap": 1.0}, "overlap must be >= 0 and < 1, got 1.0"),
        ({"max_epochs": 0}, "max_epochs must be >= 1, got 0"),
        ({"affine_prob": 1.5}, "affine_prob must be from 0 to 1, got 1.5"),
        ({"zoom_range": [1.2, 0.3]}, "zoom_range must be two numbers, 0 < lowest <= highest, got [1.2, 0.3]"),
        ({"label_values": [0, 255, 7]}, "label_values must be none or 2 values (out_channels), each once"),
        ({"label_boundary": [1, 2]}, "label_boundary must name labels from 1 to 1, each once, got [1, 2]"),
        ({"label_boundary_towards": "X"}, "label_boundary_towards must be one of R, L, A, P, S, I, got 'X'"),
        ({"out_channels": 3}, "outputs.pred.channel_def must agree with out_channels of task.json, 3, got 2"),
        ({"in_channels": 2}, "inputs.image.num_channels must agree with in_channels of task.json, 2, got 1"),
        ({"head_weights": None}, "task.json: a task must state head_weights, got none"),
        ({"prompt_labels": [0, 2]}, "prompt_labels must name labels from 0 (background) to 1, each once, got [0, 2]"),
        ({"prompt_labels": [1, 1]}, "prompt_labels must name labels from 0 (background) to 1, each once, got [1, 1]"),
        ({"prompt_radius": -1}, "prompt_radius must be >= 0, got -1"),
        ({"prompt_labels": [0, 1], "resize": [32, 32, 32]}, "resize must be none for a network that takes prompts"),
        ({"prompt_reach": -1}, "prompt_reach must be >= 0, got -1"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values, fault):
    assert any(fault in found for found in faults(heart(**values)))


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (
            {"locator_features": [8]},
            "locator_features must hold whole numbers from 1 to 256 for 2 to 6 levels, got [8]",
        ),
        ({"locator_features": [8, 10**9]}, "locator_features must hold whole numbers from 1 to 256"),
        ({"locator_spacing": 300.0}, "locator_spacing must be > 0 and <= 10 mm, got 300.0"),
        ({"locator_classes": ["air", "air"]}, "locator_classes must be different names, the background first, got"),
        ({"locator_labels": []}, "locator_labels must hold a list of labels for each of locator_structures"),
        ({"locator_structures": []}, "locator_structures must be different names, from left to right, of pieces of"),
        ({"locator_structures": ["a", "a"]}, "locator_structures must be different names, from left to right, of"),
        ({"locator_labels": [[1, 2], [4, 3]]}, "locator_labels must hold the labels 1, 2, ... in this order, got"),
        (
            {"locator_labels": [[1], [2]]},
            "locator_labels must have 2 labels a structure (out_channels), got [[1], [2]]",
        ),
        (
            {"locator_labels": [[1, 2]]},
            "result_labels must agree with locator_labels of task.json, 3, got 5",
        ),
        ({"locator_brain": ["liver"]}, "locator_brain must be of locator_classes, got ['liver']"),
        ({"locator_order": [["head", "L", "head"]]}, "locator_order must hold [class, R, A or S, class], the first"),
        ({"locator_spacing": 2.5}, "locator_spacing must be a multiple of pixdim, [1.0, 1.0, 1.0], got 2.5 mm"),
        ({"locator_extent": [1.0]}, "locator_extent must be none or three lengths in mm, got [1.0]"),
        ({"locator_margin": -1}, "locator_margin must be >= 0, got -1"),
        (
            {"intensity": [{"kind": "zscore", "mask": "all"}]},
            "intensity must be none for images in which a locator looks",
        ),
        ({"prompt_labels": [0, 1]}, "prompt_labels must be none for images in which a locator looks, got [0, 1]"),
        ({"resize": [64, 64, 64]}, "resize must be none for images in which a locator looks, got [64, 64, 64]"),
        ({"label_boundary": [[1, 2], [2, 3]]}, "label_boundary must name labels from 1 to 4, each once, got"),
        ({"label_boundary": [[1, 2, 3]]}, "label_boundary must be none, two labels or pairs of them, got [[1, 2, 3]]"),
        ({"label_boundary": [[1, 2], 3]}, "label_boundary must name labels from 1 to 4, each once, got [[1, 2], 3]"),
        ({"label_boundary": [4, 5]}, "label_boundary must name labels from 1 to 4, each once, got [4, 5]"),
    ],
)
def test_a_locator_that_does_not_fit_is_named(values, fault):
    task = read_task("hippocampus_head")
    assert any(fault in found for found in faults(Task(task.folder, {**task.values, **values}, task.metadata)))


def test_no_other_task_has_a_locator():
    assert [path.name for path in TASKS if "locator_features" in read_task(path).values] == ["hippocampus_head"]
    assert base_config("inference")["locator_features"] == []


@pytest.mark.parametrize(
    "values",
    [
        {"mirror_axes": [0, 2], "depth": 2, "overlap": 0, "resize": [128, 128, 64]},
        {"rotate_range": [[-0.1, 0.2], 0.3, 0.1], "shear_range": [0.1] * 6, "val_interval": 5},
        {"exit_thresholds": [0.0, 0.1, 1], "depth": "auto", "label_values": [0, 255]},
        {"strides": [[2, 2, 1], 2, [2, 2, 2], 2], "kernel_size": [[3, 3, 1], 3, 3, 3, 3], "roi_size": [64, 64, 24]},
        {"intensity": [{"kind": "clip", "lower": -100, "upper": 240.5, "mean": 80, "std": 35.2}], "block": "residual"},
        {"intensity": [{"kind": "zscore", "mask": "nonzero"}], "largest_component": [1], "strides": 2},
    ],
)
def test_values_that_fit(values):
    check_task(heart(**values))


def change(metadata, path, value):
    *parents, last = path
    for key in parents:
        metadata = metadata[key]
    metadata[last] = value


OUTPUT = ("network_data_format", "outputs", "pred")


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("reviews",), {}, "keys must exist in the base, got 'reviews'; did you mean 'review'?"),
        (("review",), {"treshold": 1}, "keys must exist in review, got 'treshold'; did you mean 'threshold'?"),
        (("version",), "0.2.0", "the first entry of changelog must be the version, 0.2.0, got 0.1.0"),
        (("authors",), ["me"], "authors must be a text, got ['me']"),
        (("label_codes",), {"2": {}}, "label_codes must belong to labels that are named, got ['2']"),
        (("label_codes",), {"1": {"type": {"value": "1"}}}, "codes of value, scheme and meaning"),
        (("label_codes",), {"1": "10200004"}, "label_codes must be objects by label"),
        (("label_codes",), [], "label_codes must be an object, got []"),
        (("review",), 5, "review must be an object, got 5"),
        (
            ("network_data_format", "outputs", "pred", "channel_def", "1"),
            {"name": "a"},
            "must be texts that begin with",
        ),
        (("network_data_format", "outputs", "pred", "channel_def", "1"), "%atrium", "must be texts that begin with"),
        ((*OUTPUT, "channel_def"), {"0": "background", "2": "x"}, "must name the labels 0, 1, ..., each differently"),
        ((*OUTPUT, "num_channels"), 3, "outputs.pred.num_channels must agree with out_channels of task.json, 2, got 3"),
        (("network_data_format", "inputs"), {}, "must describe inputs.image and outputs.pred, got KeyError('image')"),
        (
            ("network_data_format", "inputs", "image", "spatial_shape"),
            ["*", "*"],
            "inputs.image.spatial_shape must agree with spatial_dims of task.json, 3, got 2",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_named(path, value, fault):
    task = heart()
    metadata = copy.deepcopy(dict(task.metadata))
    change(metadata, path, value)
    assert any(fault in found for found in faults(Task(task.folder, task.values, metadata)))


def test_overrides_are_judged_with_the_task():
    check_task(HEART, overrides={"max_epochs": 1})
    with pytest.raises(BundleError, match="max_epoch"):
        check_task(HEART, overrides={"max_epoch": 1})


def test_folders_that_are_no_tasks(tmp_path):
    with pytest.raises(
        BundleError,
        match=r"one of hippocampus, hippocampus_head, .*_interactive, nuclei_2d; .*: em_membrane_2d, left_atrium",
    ):
        find_task("nothing")
    with pytest.raises(BundleError, match=r"a task must be a readable folder, got File name too long for \.\.\.n"):
        find_task("n" * 300)
    (tmp_path / "task.json").write_text("{}")
    with pytest.raises(BundleError, match=r"metadata\.json must be a JSON object, got No such file"):
        read_task(tmp_path)
    (tmp_path / "metadata.json").write_text("[]")
    with pytest.raises(BundleError, match=r"metadata\.json must be a JSON object, got a list"):
        read_task(tmp_path)


def test_the_base_names_no_organ():
    text = "".join(path.read_text() for path in BASE.iterdir() if path.suffix in (".json", ".conf"))
    for word in ("ippocampus", "anterior", "Task0", "Vanderbilt", "SCT", 'authors": "UNet', "Copyright"):
        assert word not in text
    base = {**base_config("inference"), **base_config("train")}
    assert [base[key] for key in ("exit_thresholds", "label_boundary", "label_values", "flip_axes")] == [[], [], [], []]
    assert {path.name for path in BASE.iterdir()} == {
        *(f"{n}.json" for n in (*CONFIGS, "metadata")),
        "logging.conf",
        "LICENSE",
        "zoo_test.py",
    }


def typing_error(folder, **values):
    shutil.copytree(HEART, folder)
    (folder / "task.json").write_text(json.dumps({**read(HEART / "task.json"), **values}))
    return folder


LIGHT = """
import sys
from unetpp_monai.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 1
assert not {"torch", "monai"} & set(sys.modules)
"""


@pytest.mark.parametrize("command", [("train",), ("pack",), ("pack", "--task")])
def test_commands_refuse_before_anything_heavy_is_loaded(command, tmp_path):
    task = typing_error(tmp_path / "own", patchsize=1, max_epoch=2)
    run = [sys.executable, "-W", "ignore", "-c", LIGHT, *command, str(task)]
    result = subprocess.run(
        run, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode == 0 and "got 2 faults" in result.stderr, result.stderr
    assert "did you mean 'patch_size'?" in result.stderr and "did you mean 'max_epochs'?" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"own"}


def run_faults(*files, **options):
    """What MONAI's workflow of these configs says at its start."""
    workflow = ConfigWorkflow([str(file) for file in files], logging_file=False, workflow_type="train", **options)
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
        workflow.run()
    assert isinstance(caught.value.__cause__, BundleError)
    return str(caught.value.__cause__)


def test_monais_runner_refuses_too(tmp_path):
    """Base, task and options are judged as one: what MONAI merges is what is checked."""
    task = typing_error(tmp_path / "own", patchsize=1) / "task.json"
    train, evaluate, inference, parallel = (
        BASE / f"{n}.json" for n in ("train", "evaluate", "inference", "multi_gpu_train")
    )
    fault = "keys must exist in the base, got 'patchsize'; did you mean 'patch_size'?"
    for files in ((train, task), (train, task, evaluate), (train, task, parallel), (inference, task)):
        assert fault in run_faults(*files)
    text = run_faults(train, task, max_epoch=3, pixdim=[1.0, 1.0], head_weights=[1.0])
    assert "got 4 faults" in text and fault in text and "got 'max_epoch'; did you mean 'max_epochs'?" in text
    assert "pixdim must have 3 values" in text and "head_weights must have 4 values" in text
    assert "a task must state out_channels, features" in run_faults(train)


def test_monais_runner_takes_keys_that_something_refers_to(tmp_path):
    (tmp_path / "own.json").write_text(
        json.dumps({"share": 0.5, "patience": "$int(10 * @share)", "report": ["$print(1)"]})
    )
    files = [str(file) for file in (BASE / "train.json", HEART / "task.json", tmp_path / "own.json")]
    options = {"bundle_root": str(tmp_path), "tracking_uri": "sqlite://", "experiment_name": "own"}  # `--tracking`'s
    ConfigWorkflow(files, logging_file=False, workflow_type="train", **options).initialize()


def test_the_command_line_of_monai_refuses(tmp_path):
    task = typing_error(tmp_path / "own", max_epoch=3)
    result = run("--config_file", f"['{BASE}/train.json','{task}/task.json']", folder=tmp_path, check=False)
    assert result.returncode != 0 and "got 'max_epoch'; did you mean 'max_epochs'?" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"own"}  # nothing was begun


def test_a_check_needs_a_runner():
    with pytest.raises(BundleError, match="check_run must be called by a config that MONAI runs"):
        check_run()


def test_tasks_without_weights_are_offered_to_train_only(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / VALUES).touch()
    (tmp_path / "b" / TRAINED).touch()
    assert _included((tmp_path,)) == "b; without weights, to train with `unetpp train NAME`: a, c"
    (tmp_path / "a" / TRAINED).touch()
    (tmp_path / "c" / TRAINED).touch()
    assert _included((tmp_path,)) == "a, b, c" and _included((tmp_path / "a",)) == "none"
    with pytest.raises(
        BundleError, match="nuclei_2d; without weights, to train with `unetpp train NAME`: em_membrane_2d"
    ):
        find_task("brain")
