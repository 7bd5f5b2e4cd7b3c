"""A task written by hand on bad data: every fault ends the training before its first step, and names the case."""

import json
import logging

import nibabel as nib
import numpy as np
import pytest
from helpers import ROOT, phantom, save_nifti
from helpers.commands import unetpp
from helpers.planned_tasks import plan, values_of
from PIL import Image

from unetpp_monai.errors import InputError, UnetppError
from unetpp_monai.workflows.train import train

pytestmark = pytest.mark.slow

SHAPE = (20, 24, 16)
CASES = [f"sub-{number:02d}" for number in range(6)]
VALUES = {
    **{"spatial_dims": 3, "out_channels": 3, "features": [4, 8], "pixdim": [1.0] * 3, "head_weights": [1.0]},
    **{"patch_size": [16, 16, 16], "roi_size": [16, 16, 16], "num_folds": 3, "max_epochs": 1, "warmup_epochs": 0},
}


@pytest.fixture(autouse=True)
def own_logging():
    """MONAI's workflow sets up logging for its process, which here is that of all tests."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def task(tmp_path):
    """A task and six sound cases of it."""
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for seed, case in enumerate(CASES):
        image, label = phantom(SHAPE, seed=seed)
        save_nifti(tmp_path / "data" / "imagesTr" / f"{case}.nii.gz", image)
        save_nifti(tmp_path / "data" / "labelsTr" / f"{case}.nii.gz", label)
    return written(tmp_path / "own", dataset_dir=str(tmp_path / "data"))


def written(folder, **values):
    folder.mkdir()
    stated = {**VALUES, **values}
    (folder / "task.json").write_text(json.dumps(stated))
    metadata = json.loads((ROOT / "configs" / "left_atrium" / "metadata.json").read_text())
    metadata = {key: metadata[key] for key in ("version", "name", "task", "network_data_format")}
    outputs = {"num_channels": 3, "channel_def": {"0": "background", "1": "front", "2": "back"}}
    for part, own in (("inputs", {"image": {}}), ("outputs", {"pred": outputs})):
        for name, values in own.items():
            entry = metadata["network_data_format"][part][name]
            entry |= {**values, "spatial_shape": stated["patch_size"]}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def image_of(task, case="sub-02"):
    return task.parent / "data" / "imagesTr" / f"{case}.nii.gz"


def label_of(task, case="sub-02"):
    return task.parent / "data" / "labelsTr" / f"{case}.nii.gz"


def change(path, how, affine=None):
    """Save a file again."""
    image = nib.load(path)
    save_nifti(path, how(np.asarray(image.dataobj)), image.affine if affine is None else affine)


def value_7(task):
    change(label_of(task), lambda label: np.where(label == 2, 7, label).astype(np.uint8))


def labels_255(task):
    change(label_of(task), lambda label: (label > 0).astype(np.uint8) * 255)


def fractions(task):
    change(label_of(task), lambda label: label.astype(np.float32) * np.float32(0.9961))


def shorter(task):
    change(label_of(task), lambda label: label[..., :-6])


def shifted(task):
    affine = nib.load(label_of(task)).affine.copy()
    affine[0, 3] += 30
    change(label_of(task), lambda label: label, affine)


def mirrored(task):
    affine = nib.load(label_of(task)).affine @ np.diag([-1.0, 1, 1, 1])
    change(label_of(task), lambda label: label, affine)


def missing(task):
    label_of(task).unlink()


def truncated(task):
    content = image_of(task).read_bytes()
    image_of(task).write_bytes(content[: len(content) // 2])


def not_a_number(task):
    change(image_of(task), lambda image: np.where(image == image.max(), np.nan, image).astype(np.float32))


def two_channels(task):
    change(image_of(task), lambda image: np.stack([image, image], -1))


def many_labels(task):
    numbers = np.arange(65536, dtype=np.int32).reshape(64, 64, 16)
    change(image_of(task), lambda image: numbers.astype(np.float32))
    change(label_of(task), lambda label: numbers)


ERRORS = [
    (value_7, "labels must be of 0, 1, 2, got 7 in sub-02"),
    (labels_255, "got 255 in sub-02.nii.gz.*state label_values"),
    (fractions, "got 0.9961, 1.9922 in sub-02"),
    (shorter, r"the grid of its image, \(20, 24, 16\) voxels, got \(20, 24, 10\) in sub-02"),
    (shifted, "a corner 30 voxels away in sub-02.*shifted, mirrored"),
    (mirrored, "a corner 19 voxels away in sub-02"),
    (missing, "must have a label of its name, 1 are missing, such as .*sub-02"),
    (truncated, "1 of .*sub-02.nii.gz"),
    (not_a_number, "finite, got 1 NaN .*sub-02.nii.gz"),
    (two_channels, r"images must have 1 channel \(in_channels\), got 2 in sub-02"),
    (many_labels, "got 3, 4, 5, 6, 7 in sub-02"),
]


@pytest.mark.parametrize(("spoil", "said"), ERRORS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_is_named_before_the_first_step(task, spoil, said):
    spoil(task)
    with pytest.raises(InputError, match=said):
        train(task, fold="all")
    assert not list(task.glob("runs/*/*.pt"))


def test_three_faults_in_three_cases_are_three(task):
    change(label_of(task, "sub-01"), lambda label: label * 4)
    change(label_of(task, "sub-03"), lambda label: label[1:])
    image_of(task, "sub-05").write_bytes(b"nothing")
    with pytest.raises(InputError, match="3 of 6 do not: ") as caught:
        train(task, fold="all")
    assert all(f"{case}.nii.gz" in str(caught.value) for case in ("sub-01", "sub-03", "sub-05"))


@pytest.mark.parametrize(
    ("keep", "fold", "said"),
    [
        ((), 0, "only background in all 4"),
        (("sub-02",), "validated", "only background in all 4"),  # its fold trains on the others
        (("sub-02",), "other", "to validate on, got only background in all 2; label more cases"),
    ],
)
def test_too_few_structures_are_refused(task, keep, fold, said):
    """None at all, and one case with labels, whichever side of the division it is on."""
    from monai.data import partition_dataset

    for case in CASES:
        if case not in keep:
            change(label_of(task, case), np.zeros_like)
    folds = partition_dataset(CASES, num_partitions=3, shuffle=True, seed=0)
    home = next(at for at, cases in enumerate(folds) if "sub-02" in cases)
    chosen = {"validated": home, "other": (home + 1) % 3}.get(fold, fold)
    with pytest.raises(InputError, match=said):
        train(task, fold=chosen)
    assert not list(task.glob("runs/*/model.pt"))


@pytest.mark.parametrize("fold", [3, 7, -1, True, "1"])
def test_a_fold_beyond_the_plan_is_refused(task, fold):
    with pytest.raises(InputError, match=f"fold must be 0, 1, 2 or all, got {fold!r}"):
        train(task, fold=fold)
    with pytest.raises(InputError, match="fold must be 0, 1, 2 or all, got 7"):
        train(task, overrides={"fold": 7})
    assert not (task / "runs").exists()


def test_of_several_folds_each_is_checked_before_the_first_starts(task):
    done = unetpp("train", task, "--fold", "0,3", "--steps", 1, folder=task)
    assert done.returncode == 1 and "fold must be 0, 1, 2 or all, got 3" in done.stderr
    assert not (task / "runs").exists()


def test_one_case_only_is_refused(task):
    for case in CASES[1:]:
        image_of(task, case).unlink()
    with pytest.raises(InputError, match="training needs at least 2 cases"):
        train(task)


@pytest.fixture
def listed(task):
    """The task with a list of its cases."""
    cases = [
        {"name": case, "image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz", "fold": at % 3}
        for at, case in enumerate(CASES)
    ]
    (task / "cases.json").write_text(json.dumps(cases))
    values = values_of(task) | {"cases_file": "cases.json", "steps_per_epoch": 1}
    (task / "task.json").write_text(json.dumps(values))
    return task


def test_folds_are_those_of_the_list(listed):
    """Else `all` would leave out the third one."""
    with pytest.raises(InputError, match=r"num_folds must be the folds of .*cases\.json, 3, got 2"):
        train(listed, fold="all", overrides={"num_folds": 2})
    assert not (listed / "runs").exists()


def test_a_task_may_be_renamed_but_not_its_cases_divided_anew(listed, caplog):
    train(listed, fold=0, steps=1)
    renamed = listed.rename(listed.with_name("renamed"))
    assert train(renamed, fold=0).is_file()
    cases = json.loads((renamed / "cases.json").read_text())
    (renamed / "cases.json").write_text(json.dumps([case | {"fold": 2 - case["fold"]} for case in cases]))
    with pytest.raises(InputError, match="progress must be that of the same run, got cases_sha256"):
        train(renamed, fold=0)
    assert train(renamed, fold=0, steps=1, fresh=True).is_file()


def test_initial_weights_are_read_before_the_cases(listed):
    with pytest.raises(InputError, match=r"weights must be readable, got no file of tensors for .*cases"):
        train(listed, fold=0, steps=1, overrides={"initial_weights": str(listed / "cases.json")})
    assert not (listed / "cache").exists()


@pytest.mark.parametrize("values", [{"patchsize": [16] * 3}, {"max_epoch": 3}, {"stride": [2]}])
def test_a_typing_error_is_refused_at_the_start(task, tmp_path, values):
    (key,) = values
    with pytest.raises(UnetppError, match=f"got '{key}'; did you mean"):
        train(written(tmp_path / "typo", dataset_dir=str(tmp_path / "data"), **values))


def test_what_is_odd_is_said_and_trained(task):
    """An empty label map, a constant image, a label without an image."""
    change(label_of(task, "sub-01"), np.zeros_like)
    change(image_of(task, "sub-03"), lambda image: np.full_like(image, 5))
    save_nifti(label_of(task, "extra"), np.zeros(SHAPE, np.uint8))
    done = unetpp("train", task, "--fold", "all", folder=task)
    assert done.returncode == 0 and (task / "runs" / "all" / "model.pt").is_file(), done.stderr[-2000:]
    said = done.stdout + done.stderr
    assert "a label map should show a structure, got only background in sub-01.nii.gz" in said
    assert "an image should not be constant, got 5 in all of sub-03.nii.gz" in said
    assert "labels without an image are left out: extra.nii.gz" in said


def test_volumes_of_one_slice_get_an_answer(task):
    """They are padded to the patch; plan refuses them, as pictures are what is meant."""
    for case in CASES:
        for path in (image_of(task, case), label_of(task, case)):
            change(path, lambda array: array[:, :, 8:9])
    assert train(task, fold="all").is_file()


def test_pictures_of_different_sizes_are_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for at, case in enumerate(CASES):
        label = np.zeros((40 + 3 * at, 30 + at), np.uint8)
        label[5:20, 5:15], label[20:30, 5:15] = 1, 2
        for name, array in (("imagesTr", label * 60 + rng.integers(0, 40, label.shape)), ("labelsTr", label)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / "data" / name / f"{case}.png")
    flat = {"spatial_dims": 2, "pixdim": [1.0] * 2, "patch_size": [16, 16], "roi_size": [16, 16], "suffix": ".png"}
    task = written(tmp_path / "own", dataset_dir=str(tmp_path / "data"), **flat)
    assert train(task, fold=0).is_file()
    plan(tmp_path / "data", "-o", tmp_path / "planned")
    assert values_of(tmp_path / "planned")["spatial_dims"] == 2


def one_case(root):
    for case in CASES[1:]:
        (root / "imagesTr" / f"{case}.nii.gz").unlink()


def no_structure(root):
    for case in CASES:
        change(root / "labelsTr" / f"{case}.nii.gz", np.zeros_like)


def one_labelled(root):
    for case in CASES[1:]:
        change(root / "labelsTr" / f"{case}.nii.gz", np.zeros_like)


def single_slices(root):
    for path in (*(root / "imagesTr").iterdir(), *(root / "labelsTr").iterdir()):
        change(path, lambda array: array[:, :, 8:9])


def every_number(root):
    for case in CASES:
        numbers = np.arange(65536, dtype=np.int32).reshape(64, 64, 16)
        save_nifti(root / "imagesTr" / f"{case}.nii.gz", numbers.astype(np.float32))
        save_nifti(root / "labelsTr" / f"{case}.nii.gz", numbers)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_case, "a data set must have 4 cases or more, got 1"),
        (no_structure, "label maps must have a label, got only 0 in all of them"),
        (one_labelled, "2 cases or more must have a label, got one"),
        (single_slices, "2 voxels or more along every axis, got 20 x 24 x 1"),
        (every_number, "at most 255 labels, got more"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_plan_has_an_answer_to_odd_sets(task, tmp_path, spoil, said):
    spoil(tmp_path / "data")
    done = plan(tmp_path / "data", "-o", tmp_path / "planned", code=1)
    assert said in done.stdout and not (tmp_path / "planned").exists()
