"""Data sets of every layout are listed, and what is ambiguous is refused."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import NAMES, bids, folders, made_cases, msd, nnunet, save, table

from unetpp_monai.errors import AmbiguityError, InputError
from unetpp_monai.planning import check, find_dataset

EMPTY = {name: (np.zeros((1, 1, 1), np.uint8),) * 2 for name in NAMES}  # nothing is read here


def names_of(dataset):
    return [case.name for case in dataset.cases]


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (nnunet, {}, "nnU-Net v2"),
        (msd, {}, "Medical Segmentation Decathlon"),
        (bids, {"images": ["T1w"], "label": "dseg"}, "BIDS"),
        (folders, {}, "folders images and labels"),
        (table, {}, "CSV table"),
    ],
)
def test_every_layout_is_known(tmp_path, make, options, said):
    found = find_dataset(make(tmp_path, EMPTY), **options)
    assert (found.layout, names_of(found), found.faults) == (said, NAMES, ())
    assert all(path.is_file() for case in found.cases for path in (*case.images, case.label))
    assert [case.group for case in found.cases] == NAMES
    if make in (nnunet, msd, bids):
        assert found.labels == {1: "front", 2: "back"} and len(found.channels) == 1


def test_channels_are_files_of_a_case(tmp_path):
    root = nnunet(tmp_path, EMPTY, channel_names={"0": "CT", "1": "PET"})
    for name in NAMES:
        save(root / "imagesTr" / f"{name}_0001.nii.gz", EMPTY[name][0])
    found = find_dataset(root)
    assert [len(case.images) for case in found.cases] == [2] * 6 and found.channels == ("CT", "PET")
    (root / "dataset.json").unlink()
    assert [len(case.images) for case in find_dataset(root).cases] == [2] * 6  # as plain folders, too
    (root / "imagesTr" / "sub-03_0000.nii.gz").unlink()
    nnunet(root, {}, channel_names={"0": "CT", "1": "PET"})
    assert [(fault.case, fault.kind) for fault in find_dataset(root).faults] == [("sub-03", "error")]


def test_nnunet_may_list_its_cases(tmp_path):
    folders(tmp_path, EMPTY)
    listed = {name: {"images": [f"images/{name}.nii.gz"], "label": f"labels/{name}.nii.gz"} for name in NAMES[:4]}
    nnunet(tmp_path, {}, dataset=listed)
    assert names_of(find_dataset(tmp_path)) == NAMES[:4]
    nnunet(tmp_path, {}, dataset=list(listed.values()))
    assert names_of(find_dataset(tmp_path)) == NAMES[:4]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "whole": [1, 2], "core": 2}, "region 'whole'"),
        ({"background": 0, "organ": 1, "ignore": 2}, "ignore label"),
        ({"organ": 1, "other": 2}, "background"),
        ({"background": 0, "organ": "one"}, "whole numbers"),
        ({"background": 0, "organ": 1.7}, "whole numbers, got 1.7 for 'organ'"),
    ],
)
def test_regions_and_ignored_voxels_are_refused_by_name(tmp_path, labels, said):
    with pytest.raises(InputError, match=said):
        find_dataset(nnunet(tmp_path, EMPTY, labels=labels))


def test_files_that_are_not_read_are_said(tmp_path):
    root = nnunet(tmp_path / "nnunet", EMPTY, numTraining=9)
    (root / "imagesTr" / "sub-01_0000.nii.gz").rename(root / "imagesTr" / "sub-01_0000.nii")
    (root / "imagesTr" / "._sub-02_0000.nii.gz").write_bytes(b"of macOS")
    assert [fault.what for fault in find_dataset(root).faults] == [
        "folders and files of other kinds are skipped, got 1 in imagesTr such as sub-01_0000.nii",
        "a label map must have an image, sub-01.nii.gz has none; it is skipped",
        "numTraining of dataset.json should be the number of cases, 5, got 9; are files missing?",
    ]
    with pytest.raises(InputError, match=r"file_ending, '\.mha', got sub-01_0000\.nii, sub-02_0000\.nii\.gz"):
        find_dataset(nnunet(root, {}, file_ending=".mha"))
    plain = folders(tmp_path / "plain", EMPTY)
    (plain / "labels" / "sub-01.nii.gz").rename(plain / "labels" / "sub-01.jpg")
    assert [fault.what for fault in find_dataset(plain).faults] == [
        "folders and files of other kinds are skipped, got 1 in labels such as sub-01.jpg"
    ]
    for file in (plain / "images").iterdir():
        file.rename(file.with_name(f"{file.name[:6]}.jpg"))
    with pytest.raises(InputError, match=r"images must be \.nii, .*, got sub-01\.jpg"):
        find_dataset(plain)


def test_broken_links_are_cases_and_folders_are_said(tmp_path):
    root = folders(tmp_path, EMPTY)
    image = root / "images" / "sub-01.nii.gz"
    image.unlink()
    image.symlink_to(tmp_path / "nowhere.nii.gz")
    (root / "labels" / "sub-09.nii.gz").mkdir()
    found = find_dataset(root)
    assert found.cases[0].images == (image,) and len(found.cases) == len(EMPTY)
    assert [fault.what for fault in found.faults] == [
        "folders and files of other kinds are skipped, got 1 in labels such as sub-09.nii.gz"
    ]


def test_linked_folders_of_bids_are_read(tmp_path):
    root = bids(tmp_path / "data", EMPTY)
    shutil.move(root / "sub-01", tmp_path / "sub-01")
    (root / "sub-01").symlink_to(tmp_path / "sub-01")
    (root / "sub-02" / "back").symlink_to(root)
    found = find_dataset(root, images=["T1w"], label="dseg")
    assert names_of(found) == NAMES and found.faults == ()


UNDECODED = os.fsdecode(b"sub-\xff1")


@pytest.mark.parametrize(
    ("make", "options"),
    [(folders, {}), (nnunet, {}), (bids, {"images": ["T1w"], "label": "dseg"})],
)
def test_a_name_that_is_not_utf_8_is_refused(tmp_path, make, options):
    with pytest.raises(InputError, match=r"must be UTF-8 without control characters, got '.*sub-\\udcff1.*rename it"):
        find_dataset(make(tmp_path, {**EMPTY, UNDECODED: EMPTY["sub-01"]}), **options)


def test_the_row_of_a_file_that_is_not_read_escapes_its_name(tmp_path):
    root = folders(tmp_path, EMPTY)
    shutil.copy(root / "labels" / "sub-01.nii.gz", root / "labels" / f"{UNDECODED}.nii.gz")
    (root / "images" / f"{UNDECODED}.x").write_text("")
    said = "\n".join(f"{fault.case} {fault.what}" for fault in check(find_dataset(root)).faults)
    assert "sub-\\udcff1 a label map must have an image" in said and "sub-\\udcff1.x" in said.encode().decode()


LONG = "n" * 300  # of which no file can be called


@pytest.mark.parametrize(
    "make",
    [
        lambda root: root / LONG,
        lambda root: msd(root, {}, training=[{"image": f"{LONG}/a.nii", "label": "a.nii"}]),
        lambda root: msd(root, {}, training=[{"image": "a.nii", "label": f"{LONG}/a.nii"}]),
    ],
)
def test_a_name_that_is_too_long_is_one_line(tmp_path, make):
    with pytest.raises(InputError, match=r"must be readable, got File name too long for \.\.\.n*.*correct its name"):
        find_dataset(make(tmp_path))


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_name_that_is_too_long_is_a_row(tmp_path, column):
    path = table(tmp_path, EMPTY)
    old = {"image": "scans/sub-02", "label": "maps/sub-02"}[column]
    path.write_text(path.read_text().replace(old, LONG))
    faults = [fault.what for fault in check(find_dataset(path)).faults if "File name too long" in fault.what]
    assert len(faults) == 1 and faults[0].startswith("files and folders must be readable, got")


@pytest.mark.parametrize(
    ("make", "options", "folder"),
    [
        (folders, {}, "images"),
        (nnunet, {}, "labelsTr"),
        (msd, {}, "labelsTr"),
        (bids, {"images": ["T1w"], "label": "dseg"}, "anat"),
    ],
)
def test_a_folder_without_permission_is_one_line(tmp_path, monkeypatch, make, options, folder):
    root = make(tmp_path, EMPTY)

    def refused(read):
        def scan(path):
            if Path(path).name == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return read(path)

        return scan

    monkeypatch.setattr(os, "scandir", refused(os.scandir))
    monkeypatch.setattr(os, "listdir", refused(os.listdir))
    with pytest.raises(InputError, match=rf"must be readable, got Permission denied for .*{folder}"):
        find_dataset(root, **options)


@pytest.mark.parametrize("fold", ["1" * 5000, "9" * 10, "-1", "1e3"])
def test_a_fold_is_a_small_whole_number(tmp_path, fold):
    with pytest.raises(InputError, match="a fold from 0 to 999999999, or none, got") as raised:
        find_dataset(table(tmp_path, EMPTY, fold=[fold, 0, 0, 0, 0, 0]))
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("stated", [{"numTraining": "6"}, {"name": None}, {"file_ending": "nii.gz"}])
def test_what_others_write_into_dataset_json_is_understood(tmp_path, stated):
    found = find_dataset(nnunet(tmp_path, EMPTY, **stated))
    assert (names_of(found), found.name, found.faults) == (NAMES, "", ())


@pytest.mark.parametrize("name", [5, ["a"], {"a": 1}])
def test_a_name_of_a_data_set_is_a_text(tmp_path, name):
    for make in (nnunet, msd):
        with pytest.raises(InputError, match="name must be a text in"):
            find_dataset(make(tmp_path / make.__name__, EMPTY, name=name))


def test_nnunet_v1_lists_its_cases_without_channels(tmp_path):
    root = msd(tmp_path, EMPTY, modality={"0": "T1", "1": "T2"})
    for name in NAMES:
        file = root / "imagesTr" / f"{name}.nii.gz"
        shutil.copy(file, file.with_name(f"{name}_0001.nii.gz"))
        file.rename(file.with_name(f"{name}_0000.nii.gz"))
    found = find_dataset(root)
    assert [path.name for path in found.cases[0].images] == ["sub-01_0000.nii.gz", "sub-01_0001.nii.gz"]
    assert (names_of(found), found.faults) == (NAMES, ())


def test_channels_of_folders_are_numbered_from_0(tmp_path):
    root = folders(tmp_path, EMPTY)
    save(root / "images" / "sub-01_0001.nii.gz", EMPTY["sub-01"][0])  # beside one without a number
    (root / "images" / "sub-02.nii.gz").rename(root / "images" / "sub-02_0001.nii.gz")
    (root / "images" / "sub-03.nii.gz").rename(root / "images" / "sub-03_0000.nii.gz")
    faults = find_dataset(root).faults
    assert [(fault.case, fault.kind) for fault in faults] == [("sub-01", "error"), ("sub-02", "error")]


@pytest.mark.parametrize("values", [{"training": 5}, {"training": {"image": "a", "label": "b"}}])
def test_cases_of_a_decathlon_are_a_list(tmp_path, values):
    with pytest.raises(InputError, match="training must be a list of cases"):
        find_dataset(msd(tmp_path, EMPTY, **values))


@pytest.mark.parametrize(("listed", "said"), [(5, "must be a list"), ({"sub/1": 0}, "possible file name, got 'sub/1'")])
def test_listed_cases_of_nnunet_are_checked(tmp_path, listed, said):
    if isinstance(listed, dict):
        listed = {name: {"images": ["a.nii.gz"], "label": "b.nii.gz"} for name in listed}
    with pytest.raises(InputError, match=said):
        find_dataset(nnunet(tmp_path, EMPTY, dataset=listed))


@pytest.mark.parametrize(
    "text",
    ["image,label\na.nii,b.nii\nc.nii,d.nii,e", "image,label,label\na.nii,b.nii,c.nii", "image,label,image_3\na,b,c"],
)
def test_columns_of_a_table_are_checked(tmp_path, text):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(InputError, match=r"every row must have|must have the columns"):
        find_dataset(tmp_path / "cases.csv")


def test_a_bids_label_map_belongs_to_one_image(tmp_path):
    root = bids(tmp_path, EMPTY)
    save(root / "sourcedata" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", EMPTY["sub-01"][0])  # outside of BIDS
    save(root / "sub-01" / "anat" / "sub-01_acq-hi_T1w.nii.gz", EMPTY["sub-01"][0])
    (fault,) = find_dataset(root, images=["T1w"], label="dseg").faults
    assert fault.kind == "error" and "must belong to one image, got sub-01_dseg.nii.gz for" in fault.what


def test_bids_asks_which_files_are_meant(tmp_path):
    root = bids(tmp_path, EMPTY)
    with pytest.raises(AmbiguityError, match="suffixes T1w, dseg") as raised:
        find_dataset(root, images=["T1w"])
    assert raised.value.option == "label"
    with pytest.raises(AmbiguityError, match="suffixes T1w, dseg") as raised:
        find_dataset(root)
    assert raised.value.option == "image"
    save(root / "derivatives" / "other" / "sub-02" / "anat" / "sub-02_desc-other_dseg.nii.gz", EMPTY["sub-02"][1])
    found = find_dataset(root, images=["T1w"], label="dseg")
    assert [(fault.case, fault.kind) for fault in found.faults] == [("sub-02", "error")]
    assert names_of(found) == [name for name in NAMES if name != "sub-02"]


def test_bids_pairs_sessions_and_channels(tmp_path):
    zero = np.zeros((1, 1, 1), np.uint8)
    for session in ("1", "2"):
        for suffix in ("T1w", "FLAIR", "dseg"):
            save(tmp_path / "sub-1" / f"ses-{session}" / "anat" / f"sub-1_ses-{session}_{suffix}.nii.gz", zero)
    (tmp_path / "dataset_description.json").write_text(json.dumps({"BIDSVersion": "1.9.0"}))
    found = find_dataset(tmp_path, images=["T1w", "FLAIR"], label="dseg")
    assert names_of(found) == ["sub-1_ses-1", "sub-1_ses-2"] and {case.group for case in found.cases} == {"sub-1"}
    assert [path.name for path in found.cases[1].images] == ["sub-1_ses-2_T1w.nii.gz", "sub-1_ses-2_FLAIR.nii.gz"]


def test_what_is_ambiguous_is_refused(tmp_path):
    both = folders(tmp_path / "both", EMPTY)
    (both / "masks").mkdir()
    with pytest.raises(AmbiguityError, match="masks"):
        find_dataset(both)
    two = nnunet(tmp_path / "two", EMPTY, training=[], modality={"0": "T1"})
    with pytest.raises(AmbiguityError, match="nnunet and msd"):
        find_dataset(two)
    twice = folders(tmp_path / "twice", EMPTY)
    (twice / "labels" / "sub-01.nrrd").write_text("")
    with pytest.raises(AmbiguityError, match=r"sub-01\.nii\.gz and sub-01\.nrrd"):
        find_dataset(twice)
    with pytest.raises(InputError, match="only BIDS"):
        find_dataset(folders(tmp_path / "plain", EMPTY), images=["T1w"])
    (tmp_path / "nothing").mkdir()
    for folder in ("nothing", "missing"):
        with pytest.raises(InputError, match=folder):
            find_dataset(tmp_path / folder)


def test_a_table_states_groups_and_folds(tmp_path):
    found = find_dataset(table(tmp_path, EMPTY, group=["a", "a", "b", "b", "c", ""], fold=[0, 0, 1, 1, 2, 2]))
    assert [case.group for case in found.cases] == ["a", "a", "b", "b", "c", "sub-06"]
    assert [case.fold for case in found.cases] == [0, 0, 1, 1, 2, 2]
    for columns, said in (({"fold": [0, 0, 0, 0, 1, ""]}, "5 of 6"), ({"grp": ["a"] * 6}, "grp")):
        with pytest.raises(InputError, match=said):
            find_dataset(table(tmp_path, EMPTY, **columns))


def test_files_of_one_name_in_a_table_are_told_apart_by_their_folders(tmp_path):
    lines = ["image,label", *(f"{name}/t1.nii.gz,{name}/seg.nii.gz" for name in NAMES)]
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    assert names_of(find_dataset(tmp_path / "cases.csv")) == [f"{name}_t1" for name in NAMES]


def test_a_table_names_its_cases(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("name,image,label\npatient 2,a.nii,seg_a.nii\n patient 1 ,b.nii,seg_b.nii\n,c.nii,seg_c.nii\n")
    found = find_dataset(path)
    assert {case.name: case.images[0].name for case in found.cases} == {
        "patient 1": "b.nii",
        "patient 2": "a.nii",
        "c": "c.nii",
    }
    path.write_text("name,image,label\none,a.nii,seg_a.nii\none,b.nii,seg_b.nii\n")
    with pytest.raises(AmbiguityError, match=r"different names, got one of .*a\.nii and of .*b\.nii"):
        find_dataset(path)
    for name in ("../out", "a/b", ".hidden"):
        path.write_text(f"name,image,label\n{name},a.nii,seg_a.nii\n")
        with pytest.raises(InputError, match=r"must be a possible file name, got .* in .*cases\.csv"):
            find_dataset(path)


def test_groups_are_stated_or_missed(tmp_path):
    names = [f"patient{number:03d}_frame{frame:02d}" for number in (1, 2, 3) for frame in (1, 12)]
    root = folders(tmp_path, {name: EMPTY["sub-01"] for name in names})
    (missed,) = find_dataset(root).faults
    assert missed.kind == "warning" and "patient001_frame01 and patient001_frame12" in missed.what
    found = find_dataset(root, group=r"^patient\d+")
    assert [case.group for case in found.cases] == [name[:10] for name in names] and found.faults == ()
    unmatched = find_dataset(root, group="patient00[12]").faults
    assert [fault.case for fault in unmatched] == names[4:] and {fault.kind for fault in unmatched} == {"error"}
    for empty in (r"\d*", "()", r"(a)|patient(\d+)"):  # each case would be a group of its own
        faults = find_dataset(root, group=empty).faults
        assert len(faults) == 6 and all("must match some of every name" in fault.what for fault in faults)
    with pytest.raises(InputError, match="regular expression"):
        find_dataset(root, group="(")


def test_numbers_of_cases_are_no_groups(tmp_path):
    names = [f"hippocampus_{number:03d}" for number in range(4)]
    assert find_dataset(folders(tmp_path, {name: EMPTY["sub-01"] for name in names})).faults == ()


def test_made_cases_are_the_same_each_time(tmp_path):
    one, two = (save(tmp_path / name / "a.nii.gz", made_cases(1)["sub-01"][0]) for name in "ab")
    assert one.read_bytes() == two.read_bytes()
