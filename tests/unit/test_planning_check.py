"""Everything that is wrong with a data set is a row with the name of its case; see the table of bad data."""

import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import LABELS, NAMES, SPACING, examine_or_die, folders, made_cases, nnunet, save, table
from PIL import Image
from scipy import ndimage

from unetpp_monai.planning import check, find_dataset
from unetpp_monai.planning.dataset import Case, sided_labels
from unetpp_monai.planning.examine import examine
from unetpp_monai.planning.label_maps import label_shapes, value_counts
from unetpp_monai.planning.reading import PROCESSES

CASES = made_cases(shape=(12, 16, 10))


@pytest.fixture
def root(tmp_path):
    return nnunet(tmp_path / "data", CASES)


def rows(root, **options):
    return [(fault.kind, fault.case, fault.what) for fault in check(find_dataset(root, **options)).faults]


def image_of(root, name="sub-02"):
    return root / "imagesTr" / f"{name}_0000.nii.gz"


def label_of(root, name="sub-02"):
    return root / "labelsTr" / f"{name}.nii.gz"


def test_sound_cases_have_no_row(root):
    assert rows(root) == []


def value_7(root):
    labels = CASES["sub-02"][1].copy()
    labels[0, 0, 0] = 7
    save(label_of(root), labels)


def labels_255(root):
    save(label_of(root), (CASES["sub-02"][1] > 0).astype(np.uint8) * 255)


def fractions(root):
    save(label_of(root), CASES["sub-02"][1].astype(np.float32) * np.float32(0.9961))


def shorter(root):
    save(label_of(root), CASES["sub-02"][1][:, :, :-3])


def shifted(root):
    save(
        label_of(root),
        CASES["sub-02"][1],
        SPACING @ np.array([[1, 0, 0, 30], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )


def mirrored(root):
    save(label_of(root), CASES["sub-02"][1], np.diag([-1.0, 1, 1, 1]) @ SPACING)


def missing(root):
    label_of(root).unlink()


def truncated(root):
    image_of(root).write_bytes(image_of(root).read_bytes()[:2000])


def not_a_number(root):
    image = CASES["sub-02"][0].copy()
    image[1, 2, 3] = np.nan
    save(image_of(root), image)


def two_channels(root):
    save(image_of(root), np.stack([CASES["sub-02"][0]] * 2, -1))


def large_values(root):
    save(label_of(root), CASES["sub-02"][1].astype(np.int32) * 65536)


def negative_values(root):
    save(label_of(root), -CASES["sub-02"][1].astype(np.int16))


def one_slice(root):
    save(image_of(root), CASES["sub-02"][0][:, :, :1])
    save(label_of(root), CASES["sub-02"][1][:, :, 5:6])


def its_image(root):
    label = (CASES["sub-02"][1] > 0).astype(np.uint8)
    save(image_of(root), label)
    save(label_of(root), label)


def many_labels(root):
    save(label_of(root), np.arange(CASES["sub-02"][1].size, dtype=np.uint16).reshape(CASES["sub-02"][1].shape))


def rounded_off(root):
    save(label_of(root), CASES["sub-02"][1].astype(np.float32) * np.float32(1.0000001))


ERRORS = [
    (rounded_off, "whole numbers, got 1.00000012, 2.00000024 in sub-02.nii.gz; round them"),
    (value_7, "got also 7"),
    (labels_255, "got also 255"),
    (fractions, "whole numbers, got 0.9961"),
    (shorter, "12 x 16 x 7"),
    (shifted, "within 0.1 voxels, got 30 in"),
    (mirrored, "mirrored (LAS)"),
    (missing, "must have a label map"),
    (truncated, "truncated"),
    (not_a_number, "NaN"),
    (two_channels, "1 channel, as the data set states, got 2"),
    (large_values, "0 to 65535, got 65536"),
    (negative_values, "got -"),
    (one_slice, "2 voxels or more along every axis, got 12 x 16 x 1"),
    (many_labels, "got also"),
    (its_image, "must differ from its image"),
]


@pytest.mark.parametrize(("spoil", "said"), ERRORS)
def test_an_error_is_a_row_with_its_case(root, spoil, said):
    spoil(root)
    ((kind, case, what),) = rows(root)
    assert (kind, case) == ("error", "sub-02") and said in what, what


def empty_label(root):
    save(label_of(root), np.zeros_like(CASES["sub-02"][1]))
    return "only 0"


def constant(root):
    save(image_of(root), np.full_like(CASES["sub-02"][0], 7))
    return "constant"


def twice(root):
    save(image_of(root), CASES["sub-01"][0])
    return "sub-01 again"


def thick(root):
    affine = np.diag([1.0, 1, 9, 1])
    save(image_of(root), CASES["sub-02"][0], affine)
    save(label_of(root), CASES["sub-02"][1], affine)
    return "6.0 times off the median"


def no_orientation(root):
    image = nib.load(image_of(root))
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), image_of(root))
    save(label_of(root), CASES["sub-02"][1], nib.load(image_of(root)).affine)
    return "sform_code and qform_code 0"


def two_orientations(root):
    image = nib.load(image_of(root))
    image.set_qform(image.affine @ np.diag([-1, -1, 1, 1]), code=1)
    nib.save(image, image_of(root))
    return "got RAS and LPS"


@pytest.mark.parametrize("spoil", [empty_label, constant, twice, thick, no_orientation, two_orientations])
def test_a_warning_is_a_row_with_its_case(root, spoil):
    said = spoil(root)
    ((kind, case, what),) = rows(root)
    assert (kind, case) == ("warning", "sub-02") and said in what, what


def test_a_constant_image_is_left_out(root):
    constant(root)
    found = check(find_dataset(root))
    names = [case.name for case, _ in found.cases]
    assert found.errors == 0 and "sub-02" not in names and [case.name for case in found.dataset.cases] == names


def test_an_extra_label_is_a_warning(root):
    save(root / "labelsTr" / "extra.nii.gz", CASES["sub-02"][1])
    ((kind, case, what),) = rows(root)
    assert (kind, case) == ("warning", "extra") and "no" in what


def test_three_faults_in_three_cases_are_three_rows(root):
    save(label_of(root, "sub-01"), CASES["sub-01"][1] * 4)
    save(label_of(root, "sub-03"), CASES["sub-03"][1][1:])
    image_of(root, "sub-05").write_bytes(b"nothing")
    assert [row[:2] for row in rows(root)] == [("error", name) for name in ("sub-01", "sub-03", "sub-05")]


def test_channels_lie_on_one_grid_and_have_one_channel_each(root):
    for name in NAMES:
        save(root / "imagesTr" / f"{name}_0001.nii.gz", CASES[name][0] + 1)
    nnunet(root, {}, channel_names={"0": "T1", "1": "T2"})
    assert rows(root) == []
    save(root / "imagesTr" / "sub-01_0001.nii.gz", np.stack([CASES["sub-01"][0]] * 2, -1))
    save(root / "imagesTr" / "sub-03_0001.nii.gz", CASES["sub-03"][0][:-1])
    save(root / "imagesTr" / "sub-05_0001.nii.gz", CASES["sub-05"][0], np.diag([-1.0, 1, 1, 1]) @ SPACING)
    (root / "imagesTr" / "sub-06_0001.nii.gz").unlink()
    found = rows(root)
    assert {row[1] for row in found} == {"sub-01", "sub-03", "sub-05", "sub-06"} and {row[0] for row in found} == {
        "error"
    }


def test_two_faults_of_one_case_are_two_rows(root):
    fractions(root)
    truncated(root)
    assert [row[1] for row in rows(root)] == ["sub-02", "sub-02"]


def test_a_rare_label_names_its_case(root):
    for name in NAMES[1:]:
        save(label_of(root, name), np.minimum(CASES[name][1], 1))
    ((kind, case, what),) = rows(root)
    assert (kind, case) == ("warning", "sub-01") and "2 (back) is in sub-01" in what


def test_labels_255_of_plain_folders_are_its_values(tmp_path):
    cases = {name: (image, (label > 0).astype(np.uint8) * 255) for name, (image, label) in CASES.items()}
    checked = check(find_dataset(folders(tmp_path, cases)))
    assert (checked.values, checked.faults) == ((0, 255), ())


def test_more_labels_than_results_can_hold_are_refused(tmp_path):
    many = np.arange(12 * 16 * 10, dtype=np.uint16).reshape(12, 16, 10)
    found = rows(folders(tmp_path, {**CASES, "sub-02": (CASES["sub-02"][0], many)}))
    assert ("error", "sub-02") in [row[:2] for row in found] and "at most 255 labels" in found[0][2]


def test_all_empty_or_one_labelled_case_is_refused(root):
    for name in NAMES:
        save(label_of(root, name), np.zeros_like(CASES[name][1]))
    assert rows(root)[0] == ("error", "", "label maps must have a label, got only 0 in all of them")
    save(label_of(root, "sub-04"), CASES["sub-04"][1])
    assert rows(root)[0][:2] == ("error", "sub-04") and "2 cases or more must have a label" in rows(root)[0][2]


def test_a_few_cases_or_one_group_are_refused(tmp_path):
    one = nnunet(tmp_path / "one", {"sub-01": CASES["sub-01"]})
    assert "4 cases or more, got 1" in rows(one)[0][2]
    (kind, _, what), *_ = rows(nnunet(tmp_path / "group", CASES), group="sub")
    assert kind == "error" and "2 groups or more, got sub" in what


def test_groups_that_share_images_are_one_group(root):
    """Copies of one image, or labels of one patient only, leave nothing to validate on."""
    for name in NAMES:
        save(image_of(root, name), CASES["sub-01"][0])
    assert "2 groups or more, got sub-01" in rows(root)[0][2]
    root = nnunet(root.parent / "labelled", CASES)
    for name in NAMES[:4]:
        save(label_of(root, name), np.zeros_like(CASES[name][1]))
    assert rows(root)[0][0] == "warning"
    (kind, _, what), *_ = rows(root, group=r"sub-0[56]|sub-0\d")
    assert kind == "warning"
    (kind, _, what), *_ = rows(root, group=r"(?=sub-0[1-4])sub-0\d|sub")
    assert kind == "error" and "2 groups or more must have a label, got sub;" in what


def test_files_of_a_case_differ_and_belong_to_one_case(tmp_path):
    path = table(tmp_path, CASES)
    first, second, *rest = path.read_text().splitlines()[1:]
    image, label = second.split(",")
    path.write_text("\n".join(["image,label", first, f"{label},{label}", *rest]))
    assert rows(path)[0][:2] == ("error", "sub-02") and "different files, got sub-02.nii.gz twice" in rows(path)[0][2]
    path.write_text("\n".join(["image,label", first, f"{image},{first.split(',')[1]}", *rest]))
    ((kind, case, what),) = rows(path)
    assert (kind, case) == ("warning", "sub-02") and "a label map should be there once, got that of sub-01" in what
    assert len({case.group for case, _ in check(find_dataset(path)).cases}) == 5


@pytest.mark.parametrize(
    ("folds", "said"),
    [([1, 1, 2, 2, 3, 3], "got [1, 2, 3]"), ([0] * 6, "got [0]"), ([0, 1, 1, 1, 0, 0], "got a in [0, 1]")],
)
def test_stated_folds_are_checked_with_the_cases(tmp_path, folds, said):
    ((kind, _, what),) = rows(table(tmp_path, CASES, group=list("aabbcc" if said[4] == "a" else "abcdef"), fold=folds))
    assert kind == "error" and said in what


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "": 1, "b": 2}, "every label must have a name, got '' for 1"),
        ({"none": 0, "a": 1, "background": 2}, "got 'background' twice"),
        ({"background": 0, **{f"part {value}": value for value in range(1, 257)}}, "at most 255 labels, got 256"),
    ],
)
def test_names_of_labels_are_checked(tmp_path, labels, said):
    assert [what for kind, _, what in rows(nnunet(tmp_path, CASES, labels=labels)) if kind == "error" and said in what]


@pytest.mark.parametrize(
    ("name", "air", "odd", "said"),
    [
        ("CT", -1000, 24, [("sub-02", "the lowest intensity is 24, in most cases -1000 or so")]),
        ("CT", 24, 24, [("", "CT should be in Hounsfield units, about -1000 in air, got 24 or more")]),
        ("T1", -1000, 24, []),
        ("CT", -1000, -1024, []),
    ],
)
def test_ct_with_an_offset_is_said(tmp_path, name, air, odd, said):
    cases = {
        case: (np.where(image < image.mean(), odd if case == "sub-02" else air, image).astype(np.int16), label)
        for case, (image, label) in CASES.items()
    }
    found = rows(nnunet(tmp_path, cases, channel_names={"0": name}))
    assert [(case, what.split(";")[0]) for kind, case, what in found if kind == "warning"] == said


def test_a_stated_modality_counts_more_than_a_name(tmp_path):
    cases = {case: (image.astype(np.int16) + 24, label) for case, (image, label) in CASES.items()}
    found = check(find_dataset(folders(tmp_path, cases)), modality="ct").faults
    assert any(fault.what.startswith("CT should be in Hounsfield units") for fault in found)
    assert not check(find_dataset(tmp_path), modality="mr").faults


@pytest.mark.parametrize("name", ["%necrosis", "$(x)", "@organ"])
def test_names_that_monai_would_compute_are_refused(tmp_path, name):
    label = rows(nnunet(tmp_path / "label", CASES, labels={"background": 0, name: 1, "other": 2}))
    channel = rows(nnunet(tmp_path / "channel", CASES, channel_names={"0": name}))
    for found in (label, channel):
        assert any(kind == "error" and "must not begin with $, @ or %" in what for kind, _, what in found)


def pictures(root, masks):
    """Write pictures with the given masks."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number, mask in enumerate(masks):
        noise = np.random.default_rng(number).integers(0, 255, SQUARE.shape, np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


SQUARE = np.pad(np.ones((40, 40), np.uint8), 6)


def test_values_that_may_be_no_labels_are_said(tmp_path):
    blurred = np.rint(ndimage.gaussian_filter(SQUARE * 255.0, 0.8)).astype(np.uint8)
    ((kind, _, what),) = rows(pictures(tmp_path / "blurred", [blurred] * 5 + [np.roll(blurred, 3)]))
    assert kind == "warning" and "and 255; were label maps interpolated" in what, what
    smooth = np.rint(ndimage.gaussian_filter(SQUARE * 90.0, 12)).astype(np.uint8)
    assert "were label maps interpolated" in rows(pictures(tmp_path / "smooth", [smooth] * 5 + [smooth.T.copy()]))[0][2]
    parts = np.kron(np.arange(1, 17, dtype=np.uint8).reshape(4, 4), np.ones((13, 13), np.uint8))
    assert rows(pictures(tmp_path / "parts", [parts] * 6)) == []
    tissue = np.kron([[1, 1, 2, 2]] * 4, np.ones((13, 13), int)).astype(np.uint8)
    for at in range(6):  # small nuclei in large tissues
        tissue[8 * at + 1 : 8 * at + 7, 20:28] = 3 + at
    assert rows(pictures(tmp_path / "tissue", [tissue] * 6)) == []
    ((kind, _, what),) = rows(pictures(tmp_path / "two", [SQUARE, SQUARE, SQUARE, *[SQUARE * 255] * 3]))
    assert kind == "warning" and "got 1 in 2, 255 in 5 and so on" in what, what
    assert rows(pictures(tmp_path / "one", [SQUARE * 255] * 6)) == []


def test_palettes_that_differ_are_said(tmp_path):
    root = pictures(tmp_path, [SQUARE] * 6)
    for file in (root / "masks").iterdir():
        mask = Image.fromarray(SQUARE)
        mask.putpalette([0, 0, 0, *([0, 255, 0] if file.stem == "4" else [255, 0, 0])])
        mask.save(file)
    ((kind, case, what),) = rows(root)
    assert (kind, case) == ("warning", "4") and "1 is (0, 255, 0), and (255, 0, 0) in 0" in what, what


def test_labels_with_sides_are_said(tmp_path):
    root = nnunet(tmp_path, CASES, labels={"background": 0, "kidney left": 1, "kidney_R": 2})
    ((kind, _, what),) = rows(root)
    assert kind == "warning" and "kidney left, kidney_R" in what
    assert sided_labels({1: "ctx-lh-insula", 2: "RH", 3: "rhomboid", 4: "lung"}) == ["ctx-lh-insula", "RH"]


def test_pictures_may_differ_in_size_and_volumes_among_them_are_refused(tmp_path):
    for at, name in enumerate(NAMES):
        for folder, array in (
            ("images", np.random.default_rng(at).integers(0, 255, (30 + at, 40))),
            ("labels", np.eye(30 + at, 40)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    assert rows(tmp_path) == []
    save(tmp_path / "images" / "volume.nii.gz", CASES["sub-01"][0])
    save(tmp_path / "labels" / "volume.nii.gz", np.minimum(CASES["sub-01"][1], 1))
    ((kind, case, _),) = rows(tmp_path)
    assert (kind, case) == ("error", "volume")


def test_images_that_are_there_twice_share_a_group(root):
    twice(root)
    groups = {case.name: case.group for case, _ in check(find_dataset(root)).cases}
    assert groups["sub-01"] == groups["sub-02"] and len(set(groups.values())) == 5


@pytest.mark.slow
def test_processes_find_what_one_finds(root, monkeypatch):
    value_7(root)
    alone = check(find_dataset(root))
    monkeypatch.setattr("unetpp_monai.planning.reading.ALONE", 0)
    together = check(find_dataset(root))
    assert together.faults == alone.faults and [case for case, _ in together.cases] == [case for case, _ in alone.cases]
    assert [facts.sha256 for _, facts in together.cases] == [facts.sha256 for _, facts in alone.cases]


@pytest.mark.slow
def test_a_process_that_is_killed_is_the_row_of_one_case(root, monkeypatch):
    monkeypatch.setattr("unetpp_monai.planning.reading.ALONE", 0)
    monkeypatch.setattr("unetpp_monai.planning.reading.examine", examine_or_die)
    done = []
    found = check(find_dataset(root), progress=done.append)
    assert [(fault.case, fault.kind) for fault in found.faults] == [("sub-04", "error")]
    assert "memory" in found.faults[0].what and len(found.cases) == 5 and done == [1, 2, 3, 4, 5, 6]


DIES = """
import multiprocessing, os, sys
from pathlib import Path
from unetpp_monai.planning import check, find_dataset, reading

def die(done):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os._exit(9)

if __name__ == "__main__":
    reading.ALONE = 0
    check(find_dataset(Path(sys.argv[1])), progress=die)
"""


@pytest.mark.slow
def test_processes_end_with_their_parent(root, tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    done = subprocess.run([sys.executable, tmp_path / "dies.py", root], stdout=subprocess.PIPE, text=True, timeout=120)
    children = done.stdout.split()
    assert done.returncode == 9 and len(children) == PROCESSES
    end = time.monotonic() + 60
    while alive := [pid for pid in children if Path("/proc", pid).exists()]:
        assert time.monotonic() < end, alive
        time.sleep(0.2)


def test_measures_do_not_depend_on_the_order_of_axes(tmp_path):
    image, label = CASES["sub-01"]
    plain = Case("a", (save(tmp_path / "a.nii.gz", image),), save(tmp_path / "b.nii.gz", label))
    turned = np.array([[0, 0, -1.0, 9], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # first axis to the anterior
    affine = np.diag([1.0, 1.0, 1.5, 1.0]) @ turned
    order = lambda array: array.transpose(1, 2, 0)[:, :, ::-1]  # noqa: E731
    other = Case(
        "a", (save(tmp_path / "c.nii.gz", order(image), affine),), save(tmp_path / "d.nii.gz", order(label), affine)
    )
    one, two = (examine(case).facts for case in (plain, other))
    assert (
        (one.shape, one.spacing, one.inner)
        == (two.shape, two.spacing, two.inner)
        == ((12, 16, 10), (1, 1, 1.5), (12, 16, 10))
    )
    assert one.labels == two.labels and one.extent == two.extent and set(one.labels) == set(LABELS)


def test_counts_boxes_and_components():
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[1:3, 2:6, 3:4] = 3
    labels[6:8, 2:4, 9:11] = 3
    labels[4, 5, 6] = 200
    counts, whole = value_counts(labels)
    assert whole and counts == {0: 990 - 17, 3: 16, 200: 1}
    shapes, box = label_shapes(labels, counts, (1.0, 2.0, 3.0))
    assert box == (slice(1, 8), slice(2, 6), slice(3, 11))
    assert shapes[3].extent == (7.0, 8.0, 24.0) and shapes[200].extent == (1.0, 2.0, 3.0)
    assert np.allclose(shapes[3].components, np.cbrt([6 * 8 * 6 / np.pi] * 2)) and len(shapes[200].components) == 1


def test_a_mask_of_colours_is_refused(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).convert("RGB").save(tmp_path / folder / "a.png")
    said = [what for _, case, what in rows(tmp_path) if case == "a"]
    assert any("must have 1 channel, got 3" in what and "replace the colours of a picture" in what for what in said)
