"""Several bundles in one server: each segments, scores and learns as if it were alone."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers import BUNDLE, phantom, save_nifti
from helpers.label_server import label_python, serving
from helpers.learning import FAST, ask, idle
from helpers.tiny import make_tiny

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.annotation.scores import read_scores
from unetpp_monai.annotation.training_cases import Labelled, bundle_labels, cases_for
from unetpp_monai.annotation.version_store import VersionStore, copy_bundle
from unetpp_monai.bundle import METADATA, WEIGHTS, read_bundle
from unetpp_monai.errors import InputError
from unetpp_monai.files import sha256

pytestmark = pytest.mark.server

FIRST, SECOND = "unetpp_hippocampus_mri_segmentation", "second_organ"
CASES = tuple(f"case_{number}" for number in range(6))


def make_second(root):
    """The same network with other weights, another name and other structures."""
    make_tiny(copy_bundle(BUNDLE, root), seed=1)
    metadata = json.loads((root / METADATA).read_text())
    metadata["name"] = "Second organ"
    names = {"0": "background", "1": "front", "2": "back"}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    metadata.pop("label_codes")
    (root / METADATA).write_text(json.dumps(metadata))
    return root


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {FIRST: make_tiny(copy_bundle(BUNDLE, folder / "one")), SECOND: make_second(folder / "two")}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Images, and the label map of each beside them."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "images").mkdir()
    for seed, case in enumerate(CASES):
        image, labels = phantom(seed=seed)
        save_nifti(folder / "images" / f"{case}.nii.gz", image)
        save_nifti(folder / f"{case}_label.nii.gz", labels)
    return folder


def label_info(bundle):
    return {"label_info": [{"name": label.name, "idx": label.index} for label in read_bundle(bundle).labels]}


def test_two_bundles_share_the_images_and_nothing_else(bundles, studies, tmp_path):
    label_python()
    images = shutil.copytree(studies / "images", tmp_path / "images")
    options = [word for bundle in bundles.values() for word in ("--bundle", bundle)]
    with serving(images, tmp_path / "server", *options) as server:
        info = server.call("info")
        assert set(info["models"]) == set(info["trainers"]) == set(info["scoring"]) == {FIRST, SECOND}
        assert list(info["models"][SECOND]["labels"]) == ["front", "back"]
        served = {model: tmp_path / "server" / "state" / "bundles" / model for model in bundles}
        check_answers(server, served, images)
        check_scores(server, served)
        for case, model in zip(CASES, (FIRST, FIRST, FIRST, SECOND, SECOND), strict=False):
            path = studies / f"{case}_label.nii.gz"
            server.call("save_label", case, str(path), "final", label_info(bundles[model]))
        before = {model: sha256(root / WEIGHTS) for model, root in served.items()}
        server.call("train_start", SECOND, FAST)
        task = idle(server, "train")
        assert task["status"] == "DONE", task
        assert any("3 labelled images have structures of other bundles only" in line for line in task["details"])
        assert any("training on 1 cases, validating on 1" in line for line in task["details"])
        assert VersionStore(served[SECOND]).served().number == 2 and sha256(served[SECOND] / WEIGHTS) != before[SECOND]
        assert sha256(served[FIRST] / WEIGHTS) == before[FIRST]
        check_answers(server, served, images)


def check_answers(server, served, images):
    """Every model gives its own bundle's voxels."""
    answers = server.calls([["infer", model, CASES[5], {}] for model in served])
    found = [read_volume(answer["result"][0], labels=True).array for answer in answers]
    for array, root in zip(found, served.values(), strict=True):
        expected = Segmenter.from_bundle(root, device="cpu")(read_volume(images / f"{CASES[5]}.nii.gz"))
        assert np.array_equal(array, expected.labels.array)
    assert not np.array_equal(*found)


def check_scores(server, served):
    """Each has scores of its own, and a client that names a model gets the image that model is least certain of."""
    idle(server, "scoring")
    for model in served:
        ask(server, f"/scoring/{model}", "POST")
        assert idle(server, "scoring")["status"] == "DONE"
    scores = {model: {case: score.value for case, score in read_scores(root).items()} for model, root in served.items()}
    assert scores[FIRST].keys() == scores[SECOND].keys() == set(CASES) and scores[FIRST] != scores[SECOND]
    left = set(CASES)
    for client, model in enumerate(served):  # a client of its own: what one works on, another does not get
        sample = ask(server, "/activelearning/least_certain", "POST", client_id=str(client), model=model)
        urgency = {case: 2 if scores[model][case] is None else scores[model][case] for case in left}
        assert urgency[sample["id"]] == max(urgency.values())
        left.remove(sample["id"])


def test_structures_of_other_bundles_are_background(bundles, studies, tmp_path):
    """A case that shows none of the bundle's is left out; a name that no bundle knows is still an error."""
    own, others = (read_bundle(bundle).labels for bundle in bundles.values())
    image, label = studies / "images" / "case_0.nii.gz", studies / "case_0_label.nii.gz"
    mixed, foreign = {1: own[0].name.upper(), 2: others[1].name}, {1: others[0].name, 2: others[1].name}
    cases = [Labelled(str(number), image, label, values) for number, values in enumerate(({}, mixed, foreign))]
    kept = cases_for(cases, own, others)
    assert [case.name for case in kept] == ["0", "1"]
    truth = np.asarray(nib.load(label).dataobj)
    assert np.array_equal(bundle_labels(kept[0], own).array[0], truth)
    assert np.array_equal(bundle_labels(kept[1], own).array[0], np.where(truth == 1, own[0].index, 0))
    blank = save_nifti(tmp_path / "blank.nii.gz", np.zeros_like(truth))  # judged by what it might have shown
    cases = [Labelled(str(number), image, blank, values) for number, values in enumerate(({}, mixed, foreign))]
    assert [case.name for case in cases_for(cases, own, others)] == ["0", "1"]
    (odd,) = cases_for([Labelled("odd", image, label, {**foreign, 2: "liver"})], own, others)
    with pytest.raises(InputError, match=r"structures must be among .*got \['liver'\]"):
        bundle_labels(odd, own)
