"""A task with finished folds into a bundle that states what they say."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import read, unetpp
from helpers.own_task import NAMES, leave_run, make_own_task

from unetpp_monai.bundle import read_bundle
from unetpp_monai.errors import BundleError, InputError, OutputError
from unetpp_monai.task import check_task
from unetpp_monai.workflows.held_out import HeldOut, Reading
from unetpp_monai.workflows.pack import pack
from unetpp_monai.workflows.pack_runs import Options, has_runs, pack_runs
from unetpp_monai.workflows.smoke import try_zip
from unetpp_monai.workflows.validation import VALIDATION, read_validation

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A task with two folds."""
    task = make_own_task(tmp_path_factory.mktemp("own"))
    for fold in (0, 1):
        leave_run(task, f"fold{fold}", seed=fold)
    return task


@pytest.fixture
def task(made, tmp_path):
    shutil.copytree(made, tmp_path / "organ")
    return tmp_path / "organ"


@pytest.fixture(scope="module")
def packed(made):
    """As the command packs it, and what it printed."""
    (made / "runs" / "fold0" / "history.svg").write_text("<svg/>")
    done = unetpp("pack", made, "-o", made.parent / "dist", "--weights", "fold0", "--device", "cpu", folder=made.parent)
    assert done.returncode == 0, done.stderr
    (made / "runs" / "fold0" / "history.svg").unlink()
    return made.parent / "dist" / "own_organ", done.stdout


def test_the_table_is_that_of_the_validations(made, packed):
    root, said = packed
    metadata, inference = read(root / "configs" / "metadata.json"), read(root / "configs" / "inference.json")
    folds = [read_validation(made / "runs" / f"fold{fold}" / VALIDATION) for fold in (0, 1)]
    kept = {folds[0].labels[index] for index in inference["largest_component"]}
    for depth in (1, 2):
        for label in ("front", "back"):
            kinds = [fold.largest_component if label in kept else fold.depths for fold in folds]
            values = [row.dice for kind in kinds for row in kind[depth] if row.label == label]
            assert metadata["depths"][str(depth)][f"Dice {label}"] == pytest.approx(np.mean(values), abs=5e-5)
            assert len(values) == len(NAMES)
    chosen = inference["displayable_configs"]["depth"]
    best = metadata["depths"]["2" if chosen == "full" else str(chosen)]
    assert metadata["eval_metrics"]["val_mean_dice"] == best["mean Dice"]
    assert len(inference["exit_thresholds"]) == 1
    assert metadata["review"]["cases"] == len(NAMES) and 0 < metadata["review"]["share"] <= 1
    for line in ("cross-validation: 2 folds of 2, 6 cases", "chosen on 6 held-out cases, by the folds' own networks"):
        assert line in said
    assert "the zip, unpacked, segments a held-out case to the same voxels" in said
    assert f"{best['mean Dice']}" in unetpp("info", "--bundle", root).stdout


def test_the_card_says_it_without_names_or_paths(made, packed):
    root, _ = packed
    card = (root / "docs" / "README.md").read_text()
    for text in ("2 folds of 2, 6 cases", "trained on the cases outside fold0", "6 labelled cases of 6 groups"):
        assert text in card
    figure = read(root / "configs" / "metadata.json")["depths"]["2"]["mean Dice"]
    assert f"| 2 | {figure:.3f} [" in card
    assert "![Loss and Dice over the training](history.svg)" in card and (root / "docs" / "history.svg").is_file()
    assert [(root / "docs" / f"worst_{rank}.png").is_file() for rank in (1, 2, 3, 4)] == [True, True, True, False]
    with zipfile.ZipFile(root.with_suffix(".zip")) as archive:
        own = [name for name in archive.namelist() if "/unetpp_monai/" not in name]  # the package has words of its own
        assert {Path(name).suffix for name in own} == {
            "",
            ".json",
            ".conf",
            ".md",
            ".txt",
            ".svg",
            ".png",
            ".pt",
            ".py",
        }
        for name in own:
            content = archive.read(name)
            assert not [word for word in (*NAMES, str(made.parent), "ippocamp") if word.encode() in content], name


def test_cases_are_named_and_pictures_left_out_where_that_is_wanted(task, tmp_path):
    options = Options(weights="fold1", depth="1", calibration=4, name_cases=True, pictures=False, device="cpu")
    lines = []
    packed = pack_runs(tmp_path / "dist", check_task(task), options=options, say=lines.append)
    card = (packed.folder / "docs" / "README.md").read_text()
    assert "1. patient_" in card and not list((packed.folder / "docs").glob("*.png"))
    assert "chosen on 4 held-out cases, drawn of 6" in card
    inference = read(packed.folder / "configs" / "inference.json")
    assert inference["displayable_configs"] == {"depth": 1}
    assert "depth 1: as you wish" in lines


def test_a_single_fold_and_all_cases(task, tmp_path):
    shutil.rmtree(task / "runs" / "fold1")
    shutil.copytree(task / "runs" / "fold0", task / "runs" / "all")
    (task / "runs" / "all" / VALIDATION).unlink()
    (task / "docs").mkdir()
    (task / "docs" / "README.md").write_text("# mine\n")
    metadata = read(task / "metadata.json")
    (task / "metadata.json").write_text(json.dumps({**metadata, "depths": {"1": {"Dice": 0.99}}}))
    lines = []
    packed = pack_runs(tmp_path / "dist", check_task(task), options=Options(pictures=False), say=lines.append)
    said = "\n".join(lines)
    assert "one fold of 2, 3 cases; missing: fold1" in said
    assert "none, as at least 4 held-out cases are needed, got 3" in said
    assert "depths of metadata.json give way to what the folds say" in said
    assert read(packed.folder / "configs" / "inference.json")["exit_thresholds"] == []
    found = read(packed.folder / "configs" / "metadata.json")
    assert "review" not in found and found["depths"]["1"] != {"Dice": 0.99}
    assert (packed.folder / "docs" / "README.md").read_text() == "# mine\n"
    card = (packed.folder / "docs" / "validation.md").read_text()
    assert "all cases: no case was held out of it" in card and "Not trained or not validated: fold1" in card


def test_all_cases_without_a_fold_pack_as_before(task, tmp_path):
    shutil.rmtree(task / "runs" / "fold1")
    (task / "runs" / "fold0").rename(task / "runs" / "all")
    lines = []
    packed = pack_runs(tmp_path / "dist", check_task(task), say=lines.append)
    assert "no fold was validated" in lines[0]
    assert "depths" not in read(packed.folder / "configs" / "metadata.json")


def other_weights(task):
    weights = torch.load(task / "runs" / "fold1" / "model.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, task / "runs" / "fold1" / "model.pt")


def other_values(task):
    values = read(task / "task.json")
    (task / "task.json").write_text(json.dumps({**values, "pixdim": [1.0, 1.0, 1.5]}))


def same_cases(task):
    shutil.copyfile(task / "runs" / "fold0" / VALIDATION, task / "runs" / "fold1" / VALIDATION)
    shutil.copyfile(task / "runs" / "fold0" / "model.pt", task / "runs" / "fold1" / "model.pt")


def other_division(task):
    cases = read(task / "cases.json")
    for case in cases:
        case["fold"] = 1 - case["fold"]
    (task / "cases.json").write_text(json.dumps(cases))


def other_training(task):
    for fold, rate in ((0, 0.01), (1, 0.02)):
        path = task / "runs" / f"fold{fold}" / "run.json"
        path.write_text(json.dumps({**read(path), "values": {"learning_rate": rate, "features": [4, 8, 8]}}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_training, "same values to judge each other, got learning_rate 0.01 and 0.02 in fold0 and fold1"),
        (other_weights, "of the weights beside it, got other weights in fold1"),
        (other_values, "of the task's values, got others in fold0"),
        (same_cases, "held out in one fold, got patient_ann, patient_cid, patient_eve in several of fold0, fold1"),
        (other_division, "the cases of fold0 must be those that it was validated on"),
    ],
)
def test_what_does_not_belong_together_is_refused(task, tmp_path, spoil, message):
    spoil(task)
    with pytest.raises(BundleError, match=message):
        pack_runs(tmp_path / "dist", check_task(task), options=Options(weights="fold0"))
    assert not (tmp_path / "dist").exists()


def test_weights_that_are_cut_are_named_where_they_are(task, tmp_path):
    weights = task / "runs" / "fold0" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(BundleError, match=r"runs/fold0/model\.pt must be complete, got .*; copy it again, or train"):
        pack_runs(tmp_path / "dist", check_task(task), options=Options(weights="fold0"))
    shutil.copy(weights, task / "model.pt")
    with pytest.raises(BundleError, match=r"organ/model\.pt must be complete, got"):
        pack(tmp_path / "dist", task=task)
    assert not (tmp_path / "dist").exists()


def test_which_weights_must_be_clear(task, tmp_path):
    with pytest.raises(BundleError, match="weights of one training, got fold0, fold1") as caught:
        pack_runs(tmp_path / "dist", check_task(task))
    assert caught.value.option == "weights"
    with pytest.raises(BundleError, match="of a finished run, fold0, fold1, got all"):
        pack_runs(tmp_path / "dist", check_task(task), options=Options(weights="all"))
    with pytest.raises(InputError, match=r"files of .* must exist, 12 are missing, such as .*nowhere"):
        pack_runs(tmp_path / "dist", check_task(task), options=Options("fold0", dataset_dir=tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be a writable folder, got a file"):
        pack_runs(tmp_path / "file", check_task(task), options=Options("fold0", dataset_dir=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="depth must be auto, full or of 1, 2, got 3"):
        pack_runs(tmp_path / "dist", check_task(task), options=Options(weights="fold0", depth="3"))
    shutil.copyfile(task / "runs" / "fold0" / "model.pt", task / "model.pt")
    assert not has_runs(check_task(task)) and has_runs(check_task(task), "fold0")
    for command in (("pack", "nuclei_2d", "--weights", "all"), ("pack", "nuclei_2d", "--task", "nuclei_2d")):
        assert unetpp(*command, "-o", tmp_path / "dist", folder=tmp_path).returncode == 1


def test_a_zip_that_does_not_work_is_not_delivered(task, tmp_path):
    def refuse(bundle, archive):
        assert archive.is_file()
        raise BundleError("it does not work")

    shutil.copyfile(task / "runs" / "fold0" / "model.pt", task / "model.pt")
    with pytest.raises(BundleError, match="it does not work"):
        pack(tmp_path / "dist", task=task, check=refuse)
    assert list((tmp_path / "dist").iterdir()) == []
    one = pack(tmp_path / "one", task=task)
    shutil.copyfile(task / "runs" / "fold1" / "model.pt", task / "model.pt")
    two = pack(tmp_path / "two", task=task)
    with pytest.raises(OutputError, match="must not exist yet"):
        pack_runs(tmp_path / "two", check_task(task), options=Options(weights="fold0"))
    listed, data = read(task / "cases.json")[0], Path(read(task / "task.json")["dataset_dir"])
    case = HeldOut("case", (data / listed["image"],), data / listed["label"])
    reading = Reading({1: "front", 2: "back"}, (0, 7, 9))
    try_zip(read_bundle(one.folder), one.archive, case=case, reading=reading)
    with pytest.raises(BundleError, match=r"a packed zip must give the same voxels as here, got [1-9]"):
        try_zip(read_bundle(one.folder), two.archive, case=case, reading=reading)
    cut = tmp_path / "cut.zip"
    with zipfile.ZipFile(one.archive) as whole, zipfile.ZipFile(cut, "w") as archive:
        for name in whole.namelist():
            if not name.endswith("segmenter.py"):
                archive.writestr(name, whole.read(name))
    with pytest.raises(BundleError, match="a packed zip must segment a case, got exit code 1"):
        try_zip(read_bundle(one.folder), cut, case=case, reading=reading)
