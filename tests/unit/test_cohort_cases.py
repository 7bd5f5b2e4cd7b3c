"""What the cases of a cohort are, by kinds of input, and what they are called."""

import json

import pytest
from helpers import save_nifti
from helpers.dicom_phantoms import axial_affine, make_series
from numpy import zeros

from unetpp_monai.cohort.cases import Selection, list_cohort, shard_of
from unetpp_monai.errors import AmbiguityError, InputError
from unetpp_monai.pacs.rules import Rule
from unetpp_monai.workflows.outputs import BIDS, PLAIN

MR = (Rule(modality="MR"),)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_nifti(path, zeros((2, 2, 2), "float32"))


def listed(path, output="out", **wanted):
    return list_cohort([path], path.parent / output, Selection(**wanted))


def names(found):
    return [case.name for case in found.cases]


def test_a_folder_is_what_segment_takes(tmp_path):
    for name in ("b.nii.gz", "a.nrrd", "a_seg.nii.gz", ".hidden.nii"):
        image(tmp_path / "in" / "x.nii.gz").rename(tmp_path / "in" / name)
    found = listed(tmp_path / "in")
    assert names(found) == ["a", "b"] and found.naming == PLAIN
    assert [case.id for case in found.cases] == ["a", "b"] and found.cases[0].folder == tmp_path / "out"
    both = list_cohort([tmp_path / "in", tmp_path / "gone"], tmp_path / "out", Selection())
    assert names(both) == ["a", "b"] and "input must exist" in both.rows[0].reason


def test_nnunets_folder_loses_the_number_of_the_only_channel(tmp_path):
    for index in range(2):
        image(tmp_path / "Dataset1" / "imagesTs" / f"case_{index}_0000.nii.gz")
    assert names(listed(tmp_path / "Dataset1")) == ["case_0", "case_1"]
    assert names(listed(tmp_path / "Dataset1" / "imagesTs")) == ["case_0", "case_1"]
    image(tmp_path / "Dataset1" / "imagesTs" / "other.nii.gz")  # not all have it: a name of its own
    assert names(listed(tmp_path / "Dataset1")) == ["case_0_0000", "case_1_0000", "other"]


def test_a_bids_data_set(tmp_path):
    root = tmp_path / "raw"
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-1/anat/sub-02_ses-1_acq-fast_T1w.nii"):
        image(root / name)
    for other in ("sub-01/anat/sub-01_T2w.nii.gz", "sub-01/func/sub-01_T1w.nii", "derivatives/a/sub-01/anat/x_T1w.nii"):
        image(root / other)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "raw"}))
    found = listed(root)
    assert names(found) == ["sub-01_desc-unetpp", "sub-02_ses-1_acq-fast_desc-unetpp"] and found.naming == BIDS
    assert found.cases[1].folder == tmp_path / "out" / "sub-02" / "ses-1" / "anat"
    assert names(listed(root, participants=("sub-02",))) == names(found)[1:]
    assert names(listed(root, image="T2w")) == ["sub-01_desc-unetpp"]
    with pytest.raises(InputError, match="found none of 03"):
        listed(root, participants=("03", "01"))
    with pytest.raises(InputError, match="must be the only input, got 2"):
        list_cohort([root, tmp_path], tmp_path / "out", Selection())


def test_a_list_of_cases(tmp_path):
    image(tmp_path / "a" / "x.nii.gz"), image(tmp_path / "b" / "x.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("image,name\na/x.nii.gz,one\nb/x.nii.gz,two\nb/x.nii.gz,../three\n")
    found = listed(table)
    assert names(found) == ["one", "two"] and found.cases[1].path == tmp_path / "b" / "x.nii.gz"
    assert "a name of a case must be a possible file name, got '../three'" in found.rows[0].reason
    table.write_text("image\na/x.nii.gz\nb/x.nii.gz\n")
    with pytest.raises(AmbiguityError, match="cases must have different names"):
        listed(table)
    for text, said in {
        "path\na": "must have the column image",
        "image,age\na,3": "no columns but image, name, series",
    }.items():
        table.write_text(text)
        with pytest.raises(InputError, match=said):
            listed(table)


@pytest.fixture
def tree(tmp_path):
    """Two studies, one with two series in one folder, and a CT."""
    affine = axial_affine((1.0, 1.0, 1.0))
    first = make_series(tmp_path / "in" / "study1" / "t1", affine)
    second = make_series(tmp_path / "in" / "study2", affine)
    third = make_series(tmp_path / "in" / "study2" / "more", affine, modality="CT")
    return tmp_path / "in", (first, second, third)


def test_a_dicom_tree_is_grouped_by_series_and_chosen_by_rules(tree):
    root, _ = tree
    found = listed(root, rules=MR)
    assert found.kind == "DICOM tree" and found.left_out == ("modality",)
    one, two = found.cases
    assert (one.name, one.series, one.path) == ("study1_t1", None, root / "study1" / "t1")
    assert two.path == root / "study2" and two.series and two.name == f"study2_{two.series}"
    with pytest.raises(InputError, match="found none"):
        listed(root, rules=(Rule(modality="PT"),))
    assert names(listed(root, series=("1",))) == ["in"]  # as segment takes a folder of which a series is named


def test_nothing_names_a_patient_with_a_key(tree):
    root, _ = tree
    found = listed(root, rules=MR, key=bytes(range(32)))
    assert names(found) == [None, None] and len({case.id for case in found.cases}) == 2
    assert all(len(case.id) == 24 and "study" not in case.id for case in found.cases)
    other = listed(root, rules=MR, key=bytes(range(1, 33)))
    assert {case.id for case in found.cases}.isdisjoint(case.id for case in other.cases)


def test_shards_part_the_cases(tmp_path):
    for index in range(20):
        image(tmp_path / "in" / f"{index}.nii")
    cases = listed(tmp_path / "in").cases
    parts = [shard_of(cases, index, 3) for index in (1, 2, 3)]
    assert sorted(case.id for part in parts for case in part) == sorted(case.id for case in cases)
    assert all(len(part) > 2 for part in parts)
    for index in (0, 4):
        with pytest.raises(InputError, match=f"got {index}/3"):
            shard_of(cases, index, 3)
