"""What the label server keeps of bundles and of submitted labels; no server is needed."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BUNDLE, phantom
from helpers.waiting import DEADLINE

from unetpp_monai.annotation.model_registry import Served, copies
from unetpp_monai.annotation.submitted_labels import on_grid, read_submitted, to_bundle_values
from unetpp_monai.annotation.version_store import VersionStore
from unetpp_monai.bundle import CONFIG, METADATA, WEIGHTS, read_bundle
from unetpp_monai.errors import BundleError, GeometryError, InputError
from unetpp_monai.files import sha256
from unetpp_monai.io import write_nifti
from unetpp_monai.io.seg_nrrd import write_seg_nrrd
from unetpp_monai.labels import Label
from unetpp_monai.volume import Volume

LABELS = read_bundle(BUNDLE).labels


@pytest.fixture
def source(tmp_path):
    for part in (CONFIG, METADATA, WEIGHTS):
        (tmp_path / "source" / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BUNDLE / part, tmp_path / "source" / part)
    return tmp_path / "source"


def scale(path, factor):
    values = torch.load(path, weights_only=True)
    torch.save({key: value * factor for key, value in values.items()}, path)


def test_copies_keep_what_was_trained_and_take_new_weights(source, tmp_path):
    (copy,) = copies([source], tmp_path / "state")
    assert copy.name == "unetpp_hippocampus_mri_segmentation"
    scale(copy / WEIGHTS, 0.5)  # as a training would
    trained = sha256(copy / WEIGHTS)
    assert copies([source], tmp_path / "state") == [copy]
    assert sha256(copy / WEIGHTS) == trained
    scale(source / WEIGHTS, 2.0)
    copies([source], tmp_path / "state")
    assert sha256(copy / WEIGHTS) == sha256(source / WEIGHTS)
    assert trained in {version.weights_sha256 for version in VersionStore(copy).versions()}


def test_a_folder_serves_one_bundle_under_a_name(source, tmp_path):
    copies([source], tmp_path / "state")
    config = json.loads((source / CONFIG).read_text())
    (source / CONFIG).write_text(json.dumps({**config, "overlap": 0.25}))
    with pytest.raises(BundleError, match=r"must be a copy of .*choose another folder$"):
        copies([source], tmp_path / "state")


def test_a_segmenter_lives_as_long_as_its_files(source):
    served = Served(source, device="cpu", runtime="eager")
    first = served.segmenter()
    assert served.segmenter() is first and served.segmenter("cpu") is first
    stat = (source / WEIGHTS).stat()
    scale(source / WEIGHTS, 0.5)
    os.utime(source / WEIGHTS, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the date alone does not tell
    second = served.segmenter()
    assert second is not first and second.bundle.weights_sha256 == sha256(source / WEIGHTS)
    (source / WEIGHTS).unlink()
    with pytest.raises(BundleError, match="must hold a bundle"):
        served.segmenter()


def test_what_is_served_can_be_told_while_an_image_is_segmented(source):
    """Also of new weights, while the old ones segment."""
    served = Served(source, device="cpu", runtime="eager")
    first = served.segmenter()
    volume = Volume(phantom((40, 48, 40))[0][None], np.eye(4))
    expected = first(volume, depth=1).labels.array
    with ThreadPoolExecutor(1) as pool, served.lock:
        assert pool.submit(served.segmenter).result(timeout=DEADLINE) is first
        scale(source / WEIGHTS, 0.5)
        second = pool.submit(served.segmenter).result(timeout=DEADLINE)
        assert second is not first
        np.testing.assert_array_equal(first(volume, depth=1).labels.array, expected)
        assert not served.lock.acquire(blocking=False)  # one image at a time


def label_volume():
    array = np.zeros((1, 9, 8, 7), dtype=np.uint8)
    array[0, 2:6, 3:5, 1:4], array[0, 2:6, 5:7, 2:5] = 1, 2
    return Volume(array, np.array([[0.0, -1.5, 0, 4], [0.8, 0, 0, -9], [0, 0, 2.0, 3], [0, 0, 0, 1]]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_cropped_and_turned_label_maps_find_their_place(order):
    whole = label_volume()
    start = np.array([1, 2, 1])
    crop = whole.array[:, 1:8, 2:8, 1:7]
    turn = np.eye(4)
    turn[:3, 3] = start
    permuted = np.eye(4)
    permuted[:3, :3] = np.eye(3)[:, list(order)]
    flip = np.diag([-1.0, 1, 1, 1])
    array = np.flip(np.transpose(crop, (0, *(axis + 1 for axis in order))), 1)
    flip[0, 3] = array.shape[1] - 1
    found = on_grid(Volume(array, whole.affine @ turn @ permuted @ flip), whole)
    np.testing.assert_array_equal(found.array, whole.array)
    beside = whole.affine.copy()
    beside[0, 3] += 0.5
    with pytest.raises(GeometryError, match="voxels of its image"):
        on_grid(Volume(whole.array, beside), whole)
    beside[0, 3] += 20 * 1.5 - 0.5
    with pytest.raises(GeometryError, match="must be inside its image"):
        on_grid(Volume(whole.array, beside), whole)


def test_names_decide_values(tmp_path):
    whole = label_volume()
    path = tmp_path / "label.nii.gz"
    write_nifti(whole, path)
    first, second = LABELS
    info = [{"name": second.name.upper(), "idx": 1}, {"name": first.name, "idx": 2}]
    found, structures = read_submitted(path, whole, info, [LABELS])
    np.testing.assert_array_equal(found.array, np.array([0, 2, 1], np.uint8)[whole.array])
    assert structures == LABELS
    found, structures = read_submitted(path, whole, [], [LABELS])
    assert structures == LABELS and np.array_equal(found.array, whole.array)
    info = [{"name": "tumour", "idx": 1}, {"name": first.name, "idx": 2}]  # not this bundle's names: as the client says
    found, structures = read_submitted(path, whole, info, [LABELS])
    assert np.array_equal(found.array, whole.array)
    assert [(one.index, one.name) for one in structures] == [(1, "tumour"), (2, first.name)]
    assert structures[1].type == first.type
    with pytest.raises(InputError, match="must be named in label_info"):
        read_submitted(path, whole, info[:1], [LABELS])
    with pytest.raises(InputError, match="must hold name and idx"):
        read_submitted(path, whole, [{"name": "x"}], [LABELS])


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([LABELS[0].name, "front"], [LABELS[0].name, "front"]),  # both are 1 in their bundles
        (["lesion", LABELS[0].name], ["lesion", LABELS[0].name]),
        (["back", "Front"], ["front", "back"]),  # all of one bundle: its values
    ],
)
def test_structures_of_several_bundles_stay_apart(names, kept):
    whole = label_volume()
    structures = [Label(number, name, None, None, (), None) for number, name in enumerate(names, start=1)]
    others = [Label(1, "front", None, None, (), None), Label(2, "back", None, None, (), None)]
    found, meanings = to_bundle_values(whole, structures, whole, [LABELS, others])
    assert [(label.index, label.name) for label in meanings] == list(enumerate(kept, start=1))
    turn = [0, 1, 2] if [name.casefold() for name in names] == kept else [0, 2, 1]
    np.testing.assert_array_equal(found.array, np.array(turn)[whole.array])
    with pytest.raises(InputError, match=r"must be in 1 \.\.\. 255, got 300"):
        to_bundle_values(whole, [replace(structures[0], index=300, name="lesion")], whole, [LABELS])


def test_slicers_own_files_say_themselves_what_they_hold(tmp_path):
    whole = label_volume()
    turned = [replace(LABELS[1], index=1), replace(LABELS[0], index=2)]
    write_seg_nrrd(whole, tmp_path / "label.seg.nrrd", structures=turned)
    found, structures = read_submitted(tmp_path / "label.seg.nrrd", whole, [], [LABELS])
    np.testing.assert_array_equal(found.array, np.array([0, 2, 1], np.uint8)[whole.array])
    assert structures == LABELS
