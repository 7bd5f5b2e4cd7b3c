"""Prepared cases on the disk: whole or made anew, and the same as in memory."""

import numpy as np
import pytest
import torch
from helpers import phantom, save_nifti
from monai.transforms import Compose, CropForegroundd, EnsureChannelFirstd, EnsureTyped, LoadImaged, RandFlipd

from unetpp_monai.errors import InputError
from unetpp_monai.training import CheckedDataset, require_cases

KEYS = ("image", "label")


class Counting(LoadImaged):
    loaded = 0

    def __call__(self, data):
        type(self).loaded += 1
        return super().__call__(data)


@pytest.fixture
def cases(tmp_path):
    Counting.loaded = 0
    found = []
    for number in range(3):
        image, label = phantom((9, 10, 11), seed=number)
        affine = np.diag([1.0, 2.0, 1.5, 1.0])
        paths = [
            save_nifti(tmp_path / f"{kind}{number}.nii.gz", array, affine)
            for kind, array in zip(KEYS, (image, label), strict=True)
        ]
        found.append(dict(zip(KEYS, map(str, paths), strict=True)))
    return found


def dataset(cases, folder=""):
    steps = Compose(
        [
            Counting(KEYS),
            EnsureChannelFirstd(KEYS),
            CropForegroundd(KEYS, "image"),
            EnsureTyped(KEYS),
            RandFlipd(KEYS, prob=0.5),
        ]
    )
    return CheckedDataset(cases, steps, save_dir=folder, num_workers=2)


def same(one, other):
    return torch.equal(one.as_tensor(), other.as_tensor()) and torch.equal(one.affine, other.affine)


def test_a_stored_case_is_what_it_is_in_memory(cases, tmp_path):
    kept, stored = dataset(cases), dataset(cases, tmp_path / "cache")
    require_cases(stored, 1)
    for index in range(3):
        for data in (kept, stored):
            data.transform.set_random_state(index)
        one, other = kept[index], stored[index]
        assert all(same(one[key], other[key]) for key in KEYS)
        assert (
            other["image"].meta["filename_or_obj"] == cases[index]["image"] and other["case"] == f"image{index}.nii.gz"
        )
    again = stored[0]["image"]
    again += 1  # a copy of its own
    assert not torch.equal(again.as_tensor(), stored[0]["image"].as_tensor())


def test_each_case_is_prepared_once(cases, tmp_path):
    dataset(cases, tmp_path / "cache")
    assert Counting.loaded == 3
    dataset(cases[1:], tmp_path / "cache")  # another fold
    assert Counting.loaded == 3 and len(list((tmp_path / "cache").iterdir())) == 3
    save_nifti(tmp_path / "image0.nii.gz", np.zeros((9, 10, 11), np.float32), np.diag([1.0, 2.0, 1.5, 1.0]))
    assert not dataset(cases, tmp_path / "cache")[0]["image"].any() and Counting.loaded == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_file_is_made_anew(cases, tmp_path, damage):
    before = dataset(cases, tmp_path / "cache")[0]["image"]
    for path in (tmp_path / "cache").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes({"empty": b"", "cut": content[:-100], "flipped": content, "other": b"text"}[damage])
    found = dataset(cases, tmp_path / "cache")
    found.transform.set_random_state(0)
    assert Counting.loaded == 6 and found[0]["image"].shape == before.shape


def test_all_faulty_cases_are_named_and_the_others_kept(cases, tmp_path):
    for number in (0, 2):
        (tmp_path / f"image{number}.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"2 of 3 do not: .*image0.*image2"):
        dataset(cases, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_an_error_of_a_random_transform_names_its_case(cases):
    def fail(data):
        raise ValueError("no such axis")

    steps = Compose([LoadImaged(KEYS), fail])
    with pytest.raises(InputError, match=r"got an error in image1\.nii\.gz: ValueError: no such axis"):
        CheckedDataset(cases, steps)[1]
