"""The annotation server learns: next image by each strategy, scores, training, cancellation, crashes."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers import BUNDLE, SHARED, phantom, save_nifti
from helpers.label_server import label_python, serving
from helpers.learning import FAST, ask, idle, model_of
from helpers.tiny import make_tiny
from helpers.waiting import wait_for

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.annotation.version_store import VersionStore, copy_bundle
from unetpp_monai.bundle import read_bundle
from unetpp_monai.files import sha256

pytestmark = pytest.mark.server

REAL = SHARED / "data" / "Task04_Hippocampus"
CASES = tuple(f"hippocampus_{number:03}" for number in (1, 3, 4, 6, 8, 11))
LABELLED = CASES[:4]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Image and label by case, real where there are any."""
    label_python()
    folder = tmp_path_factory.mktemp("data")
    found = {}
    for seed, case in enumerate(CASES):
        if REAL.is_dir():
            found[case] = (REAL / "imagesTr" / f"{case}.nii.gz", REAL / "labelsTr" / f"{case}.nii.gz")
        else:
            image, labels = phantom(seed=seed)
            paths = folder / f"{case}.nii.gz", folder / f"{case}_label.nii.gz"
            found[case] = save_nifti(paths[0], image), save_nifti(paths[1], labels)
    return found


@pytest.fixture(scope="module")
def place(images, tmp_path_factory):
    """Studies, a bundle that learns quickly, and a folder for the server."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "studies").mkdir()
    for image, _ in images.values():
        shutil.copy(image, folder / "studies")
    return folder, make_tiny(copy_bundle(BUNDLE, folder / "bundle"))


def start(place):
    folder, bundle = place
    return serving(folder / "studies", folder / "server", "--bundle", bundle)


@pytest.fixture
def server(place):
    with serving(place[0] / "studies", place[0] / "server", "--bundle", place[1]) as running:
        yield running


def served_bundle(place):
    (root,) = (place[0] / "server" / "state" / "bundles").iterdir()
    return root


def until_epoch(server, epoch, total):
    """Wait for an epoch of the training that was asked for `total` of them; return its progress."""

    def progress():
        (stats,) = ask(server, "/info/")["train_stats"].values()
        reached = stats.get("epoch", 0) >= epoch and stats["total_epochs"] == total and "current_time" in stats
        return stats if reached else None

    return wait_for(progress, f"epoch {epoch} of {total}")


def test_annotators_get_images_scores_and_a_better_network(server, place, images):
    """One session, as it goes: strategies, scoring, labels, training, the new version."""
    info = server.call("info")
    (model,) = info["models"]
    assert set(info["strategies"]) == {"least_certain", "random", "first"}
    assert set(info["scoring"]) == set(info["trainers"]) == {model}
    check_scores(server, model, served_bundle(place), images)
    check_strategies(server)
    check_too_few_labels(server, model)
    check_training(server, model, served_bundle(place), images)


def check_scores(server, model, root, images):
    """Every image gets the score that the bundle gives it; those it is least sure of come first."""
    idle(server, "scoring")
    ask(server, f"/scoring/{model}", "POST", max_samples=0)
    task = idle(server, "scoring")
    assert task["status"] == "DONE", task
    assert any(f"scoring 0 of {len(CASES)} unlabelled images" in line for line in task["details"])  # all at the start
    segmenter = Segmenter.from_bundle(root, device="cpu")
    expected = {case: segmenter(read_volume(image), uncertainty=True).score for case, (image, _) in images.items()}
    ranked = sorted(expected, key=lambda case: -(1 if expected[case] is None else expected[case]))
    chosen = [server.call("next_sample", "least_certain", {}) for _ in range(2)]
    assert [sample["id"] for sample in chosen] == ranked[:2]
    assert chosen[0]["scored"] == f"{len(CASES)} of {len(CASES)}"
    objects = ask(server, "/datastore/?output=all")["objects"]
    noted = {case: objects[case]["image"]["info"]["uncertainty"][model]["score"] for case in CASES}
    assert noted == {case: pytest.approx(score, rel=1e-3) for case, score in expected.items()}


def check_strategies(server):
    """Two clients never work on the same image while there are others; what one left out comes back to it first."""
    objects = ask(server, "/datastore/?output=all")["objects"]
    left = sorted(case for case in CASES if "strategy" not in objects[case]["image"]["info"])
    assert len(left) == len(CASES) - 2
    assert server.call("next_sample", "first", {})["id"] == left[0]
    assert ask(server, "/activelearning/first", "POST", client_id="another")["id"] == left[1]
    both = {server.call("next_sample", "random", {})["id"], server.call("next_sample", "first", {})["id"]}
    assert both == set(left[2:])
    assert server.call("next_sample", "first", {})["id"] not in left


def check_too_few_labels(server, model):
    idle(server, "scoring")
    server.call("train_start", model, FAST)
    task = idle(server, "train")
    assert task["status"] == "ERROR"
    assert "training needs at least 2 labelled images (one for validation), got 0" in task["details"][-1]


def check_training(server, model, root, images):
    label_info = [{"name": label.name, "idx": label.index} for label in read_bundle(root).labels]
    server.calls([["save_label", case, str(images[case][1]), "", {"label_info": label_info}] for case in LABELLED])
    assert server.call("info")["datastore"]["completed"] == len(LABELLED)
    assert server.call("next_sample", "first", {})["id"] in CASES[4:]
    before = server.call("info")["models"][model]["weights_sha256"]
    file_before, _ = server.call("infer", model, CASES[5], {})
    before_voxels = read_volume(file_before, labels=True).array.copy()
    server.call("train_start", model, FAST)
    task = idle(server, "train")
    assert task["status"] == "DONE", task
    assert any("epoch 2 of 2: loss" in line for line in task["details"])
    assert any("published version 2" in line for line in task["details"])
    info = server.call("info")
    version = VersionStore(root).served()
    assert info["models"][model]["weights_sha256"] == version.weights_sha256 != before
    assert info["train_stats"][model]["best_metric"] == version.origin.dice_after >= version.origin.dice_before
    file, _ = server.call("infer", model, CASES[5], {})
    assert not np.array_equal(read_volume(file, labels=True).array, before_voxels)
    segmentation = Segmenter.from_bundle(root, device="cpu")(read_volume(images[CASES[5]][0]))
    assert np.array_equal(read_volume(file, labels=True).array, segmentation.labels.array)


def test_cancelled_and_killed_trainings_leave_everything_as_it_was(place, images):
    """Then the server starts again and trains."""
    folder, _ = place
    with start(place) as server:
        model, root = model_of(server), served_bundle(place)
        server.calls([["save_label", case, str(images[case][1]), "", {}] for case in LABELLED])
        served = sha256(root / "models" / "model.pt")
        server.call("train_start", model, {**FAST, "max_epochs": 100_000})
        assert until_epoch(server, 2, 100_000)["loss"] > 0
        assert server.call("train_status")["status"] == "RUNNING"
        assert server.call("train_stop")["status"] == "STOPPED"
        idle(server, "train")
        assert sha256(root / "models" / "model.pt") == served
        server.call("train_start", model, {**FAST, "max_epochs": 200_000})
        until_epoch(server, 1, 200_000)
        server.kill()
    assert sha256(root / "models" / "model.pt") == served
    objects = json.loads((folder / "studies" / "datastore_v2.json").read_text())["objects"]
    assert {case for case in objects if "final" in objects[case]["labels"]} == set(LABELLED)
    for case in LABELLED:
        kept = nib.load(folder / "studies" / "labels" / "final" / f"{case}.nii.gz").get_fdata()
        assert np.array_equal(kept, nib.load(images[case][1]).get_fdata())
    with start(place) as server:
        assert server.call("info")["datastore"]["completed"] == len(LABELLED)
        server.call("train_start", model, {**FAST, "max_epochs": 1})
        task = idle(server, "train")
        assert task["status"] == "DONE" and any("epoch 1 of 1" in line for line in task["details"]), task
