"""Labels that do not belong to their images, too few cases, and progress of other runs are refused by name."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Compose, Lambda

from unetpp_monai.errors import GeometryError, InputError
from unetpp_monai.task import LOCAL, base_config
from unetpp_monai.task_rules import value_types
from unetpp_monai.training import (
    CheckedDataset,
    CheckLabelsd,
    ProgressSaver,
    RunIdentity,
    newest_progress,
    progress,
    require_cases,
)
from unetpp_monai.workflows.training_length import LENGTH


def pair(labels=None, shape=(6, 7, 8), affine=None, channels=1):
    label = torch.zeros(1, *shape)
    label[0, :2] = 1
    affine = np.eye(4) if affine is None else affine
    meta = {"filename_or_obj": "/data/sub-03.nii.gz"}
    image = MetaTensor(torch.rand(channels, 6, 7, 8), affine=np.eye(4), meta=dict(meta))
    return {"image": image, "label": MetaTensor(label if labels is None else labels, affine=affine, meta=dict(meta))}


def check(data, **options):
    return CheckLabelsd("label", "image", **{"in_channels": 1, "out_channels": 2, **options})(data)


def moved(*offset):
    affine = np.eye(4)
    affine[:3, 3] = offset
    return affine


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"affine": moved(30, 0, 0)}, GeometryError, "a corner 30 voxels away in sub-03.nii.gz"),
        ({"affine": np.diag([-1.0, 1, 1, 1])}, GeometryError, "a corner 12 voxels away"),
        ({"affine": np.diag([1.0, 1.1, 1, 1])}, GeometryError, "a corner 0.7 voxels away"),
        ({"shape": (6, 7, 2)}, GeometryError, r"the grid of its image, \(6, 7, 8\) voxels, got \(6, 7, 2\) in sub-03"),
        (
            {"labels": torch.full((1, 6, 7, 8), 0.9961)},
            InputError,
            "labels must be of 0, 1, got 0.9961 in sub-03.nii.gz",
        ),
        ({"labels": torch.full((1, 6, 7, 8), 7.0)}, InputError, "got 7 in sub-03.nii.gz"),
        ({"labels": torch.full((1, 6, 7, 8), 255.0)}, InputError, "or state label_values"),
        ({"labels": torch.full((1, 6, 7, 8), -1.0)}, InputError, "got -1 in"),
        ({"labels": torch.zeros(2, 6, 7, 8)}, InputError, "must have 1 channel, got 2 in sub-03.nii.gz"),
        ({"channels": 2}, InputError, r"images must have 1 channel \(in_channels\), got 2 in sub-03.nii.gz"),
    ],
)
def test_what_does_not_belong_to_its_image_is_refused_by_name(changes, error, said):
    with pytest.raises(error, match=said):
        check(pair(**changes))


def test_what_belongs_passes_unchanged():
    data = pair(affine=moved(0.05, 0, 0))  # as headers are rounded
    assert check(data) is data
    values = torch.tensor([0.0, 255.0]).repeat(168).reshape(1, 6, 7, 8)
    assert check(pair(labels=values), label_values=[0, 255])
    flat = {key: MetaTensor(torch.ones(1, 5, 5), affine=np.eye(4)) for key in ("image", "label")}
    assert check(flat)


def test_progress_of_another_run_is_refused():
    run = RunIdentity(fold=0, features=[4, 8], cases=("a", "b"))
    kept = run.state_dict()
    RunIdentity(fold=0, features=(4, 8), cases=["a", "b"]).load_state_dict(kept)
    with pytest.raises(InputError, match="got fold 0 instead of 1; choose another output_dir"):
        RunIdentity(fold=1, features=[4, 8], cases=["a", "b"]).load_state_dict(kept)
    with pytest.raises(InputError, match=r"features \[4, 8\] instead of \[4, 16\], cases .*"):
        RunIdentity(fold=0, features=[4, 16], cases=["a"]).load_state_dict(kept)


def test_a_run_is_bound_to_every_value_that_changes_its_weights():
    base = base_config("train")
    places = {"image_folder", "label_folder", "suffix", "resume", "save_seconds", "num_workers"}
    afterwards = {"roi_size", "overlap", "depth", "label_boundary", "label_boundary_towards", "largest_component"}
    others = {*LOCAL, *LENGTH, *places, *afterwards}
    assert set(value_types(base)) - others <= set(base["run_identity"])


class PanicError(BaseException):
    """As a decoder in Rust raises."""


def panic(item):
    raise PanicError("in Rust")


def test_every_case_that_cannot_be_had_is_named(tmp_path):
    good = pair()

    def load(item):
        if item["image"] == "b.nii.gz":
            raise InputError("b.nii.gz is damaged")
        if item["image"] == "d.nii.gz":
            raise ValueError("no such\nthing")
        return good

    cases = [{"image": f"{name}.nii.gz"} for name in "abcd"]
    steps = Compose([Lambda(load)])
    with pytest.raises(
        InputError, match=r"2 of 4 do not: b\.nii\.gz is damaged; d\.nii\.gz: ValueError: no such thing$"
    ) as told:
        CheckedDataset(cases, steps, progress=False)
    assert "\n" not in str(told.value)
    assert len(CheckedDataset(cases[:1], steps, progress=False)) == 1
    with pytest.raises(InputError, match=r"1 of 1 do not: c\.nii\.gz: PanicError: in Rust"):
        CheckedDataset(cases[2:3], Compose([Lambda(panic)]), progress=False)
    many = [{"image": "b.nii.gz"}] * 30
    with pytest.raises(InputError, match="and 20 more"):
        CheckedDataset(many, steps, progress=False)


def test_the_newest_whole_checkpoint_counts(tmp_path):
    for number in (1, 2):
        torch.save({"epoch": number}, tmp_path / f"progress_checkpoint_epoch={number}.pt")
        os.utime(tmp_path / f"progress_checkpoint_epoch={number}.pt", (number, number))
    assert newest_progress(tmp_path).endswith("epoch=2.pt")
    whole = (tmp_path / "progress_checkpoint_epoch=2.pt").read_bytes()
    for cut in (0, len(whole) // 2, len(whole) - 30):
        (tmp_path / "progress_checkpoint_epoch=2.pt").write_bytes(whole[:cut])
        assert newest_progress(tmp_path).endswith("epoch=1.pt")
    assert not Path(newest_progress(tmp_path / "empty")).exists()


class Cached(list):
    def __init__(self, cases):
        super().__init__(cases)
        self._cache = cases


def test_progress_is_saved_sooner_before_the_end_of_an_epoch(tmp_path, monkeypatch):
    """A validation may take long; a kill during it loses a quarter of the usual time at most, and one step."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    trainer = Engine(lambda *_: now.__setitem__(0, now[0] + 10.0))
    saved = []
    monkeypatch.setattr(ProgressSaver, "_write", lambda self, name: saved.append((now[0], name)))
    ProgressSaver(tmp_path, {}, seconds=160.0).attach(trainer)
    trainer.run([0] * 5, max_epochs=5)
    assert [(seconds, name.removeprefix("progress_")) for seconds, name in saved] == [
        (40.0, "checkpoint_step=4.pt"),  # 40 s, a quarter, before the last step
        (90.0, "checkpoint_step=9.pt"),
        (140.0, "checkpoint_step=14.pt"),
        (190.0, "checkpoint_step=19.pt"),
        (240.0, "checkpoint_step=24.pt"),
        (250.0, "checkpoint_epoch=5.pt"),
        (250.0, "final.pt"),
    ]
    saved.clear()
    trainer.state.max_epochs = None  # begin anew
    trainer.run([0] * 20, max_epochs=1)
    assert [name for _, name in saved][:2] == ["progress_checkpoint_step=16.pt", "progress_checkpoint_epoch=1.pt"]


def test_too_few_cases_and_no_structure_are_refused():
    empty, full = ({"label": torch.full((1, 3, 3), float(value))} for value in (0, 1))
    require_cases(Cached([empty, full]), 1)
    require_cases(Cached([full]), None)
    for cases, validation in (([], 1), ([full], 0)):
        with pytest.raises(InputError, match="training needs at least 2 cases, one of them to validate"):
            require_cases(Cached(cases), validation)
    with pytest.raises(InputError, match="got only background in all 2"):
        require_cases(Cached([empty, empty]), 1)
