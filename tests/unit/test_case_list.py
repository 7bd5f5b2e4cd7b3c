"""Lists of cases with their folds."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import save_nifti

from unetpp_monai.errors import InputError
from unetpp_monai.files import facts_of, sha256
from unetpp_monai.io import files_of_image, listed_folds
from unetpp_monai.io.case_list import case_names, changed_files, files_of
from unetpp_monai.io.monai_reader import VolumeReader
from unetpp_monai.training.stored import place_of


@pytest.fixture
def listed(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    cases = []
    for number in range(4):
        for name in ("t1", "flair"):
            save_nifti(data / f"{number}_{name}.nii.gz", np.full((4, 5, 6), number, np.float32) + (name == "flair"))
        save_nifti(data / f"{number}.nii.gz", np.zeros((4, 5, 6), np.uint8))
        images = [f"{number}_t1.nii.gz", f"{number}_flair.nii.gz"]
        cases.append({"name": str(number), "image": images, "label": f"{number}.nii.gz", "fold": number % 2})
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    return path, data, cases


def test_folds_hold_their_cases_and_channels_are_joined(listed):
    path, data, _ = listed
    folds = listed_folds(path, data)
    assert [[entry["label"] for entry in fold] for fold in folds] == [
        [str(data / f"{number}.nii.gz") for number in fold] for fold in ((0, 2), (1, 3))
    ]
    reader = VolumeReader(spatial_dims=3)
    array, _ = reader.get_data(reader.read(folds[1][0]["image"]))
    assert array.shape == (2, 4, 5, 6) and (array[0] == 1).all() and (array[1] == 2).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cases: cases[0].update(fold=5), r"folds must be 0, 1, ... with cases in each, got \[0, 1, 5\]"),
        (lambda cases: cases[0].update(fold="0"), "fold '0' of 0"),
        (lambda cases: cases[0].pop("label"), "KeyError.'label'"),
        (lambda cases: cases[0].pop("name"), "KeyError.'name'"),
        (lambda cases: cases.append({**cases[0], "fold": 1}), r"listed once, got 0 in the folds \[0, 1\]"),
        (
            lambda cases: [case.update(group="p") for case in cases],
            r"a group must share a fold, got p in the folds \[0, 0, 1, 1\]",
        ),
        (
            lambda cases: cases[0].update(label="lost.nii.gz"),
            "1 are missing, such as .*lost.nii.gz; correct dataset_dir",
        ),
        (list.clear, r"folds must be 0, 1, ... with cases in each, got \[\]"),
    ],
)
def test_what_is_no_such_list_is_refused(listed, change, said):
    path, data, cases = listed
    change(cases)
    path.write_text(json.dumps(cases))
    with pytest.raises(InputError, match=said):
        listed_folds(path, data)


def test_cases_of_one_label_map_keep_their_names(listed):
    path, data, cases = listed
    cases[2]["label"] = cases[0]["label"]
    path.write_text(json.dumps(cases))
    known = case_names(path, data)
    assert [known[files_of(entry)] for entry in listed_folds(path, data)[0]] == ["0", "2"]


def test_files_that_changed_since_they_were_listed_are_found(listed):
    path, data, cases = listed
    for case in cases:
        names = dict(zip(("image_0", "image_1", "label"), (*case["image"], case["label"]), strict=True))
        case["sha256"] = {key: sha256(data / name) for key, name in names.items()}
    path.write_text(json.dumps(cases))
    label, image = data / "1.nii.gz", data / "2_t1.nii.gz"
    save_nifti(label, np.ones((4, 5, 6), np.uint8))
    for file in (label, image):
        os.utime(file, (path.stat().st_mtime + 5,) * 2)  # the image was only copied
    assert changed_files(path, data) == [str(label)]
    os.utime(label, (0, 0))  # an older file in its place, as from a backup, with its time
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    assert changed_files(path, data) == [str(label)]


def test_voxels_apart_from_their_header_count(tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mhd"))
    nib.save(nib.Nifti1Pair(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "b.hdr")
    for header, voxels in (("a.mhd", "a.raw"), ("b.hdr", "b.img")):
        files = files_of_image(tmp_path / header)
        assert [file.name for file in files] == [header, voxels]
        path, label = tmp_path / "cases.json", {"label": header, "sha256": {"label": facts_of(files)[1]}}
        path.write_text(json.dumps([{"name": "a", "image": header, "fold": 0, **label}]))
        case = {"image": str(files[0]), "label": str(files[0])}
        place = place_of(tmp_path, case)
        files[1].write_bytes(files[1].read_bytes()[:-1] + b"1")
        assert changed_files(path, tmp_path) == [str(files[0])] and place_of(tmp_path, case) != place
    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw")
    assert files_of_image(tmp_path / "a.mhd") == (tmp_path / "a.mhd",)


def test_a_file_that_is_no_list_is_refused(tmp_path):
    row = '[{"name": "a", "image": "a", "label": "a", "fold": 0, '
    others = (row + '"sha256": 5}]', row + '"image": []}]', "[" * 100_000)
    for content in ("{", "5", '{"a": 1}', *others):
        (tmp_path / "cases.json").write_text(content)
        with pytest.raises(InputError, match=r"a list of cases must be JSON .* in .*cases\.json"):
            listed_folds(tmp_path / "cases.json", tmp_path)
