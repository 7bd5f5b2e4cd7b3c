"""What the annotation server learns from: which image comes next, scores kept, labels taken, weights trained on."""

import json
import logging
import multiprocessing
import shutil
from dataclasses import asdict
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import BUNDLE, phantom, save_nifti
from helpers.tiny import make_tiny
from helpers.waiting import wait_for

from unetpp_monai.annotation.fine_tuning import BEST, PROGRESS, WORK, Options, fine_tune, read_progress
from unetpp_monai.annotation.scores import (
    HELD_SECONDS,
    SCORES,
    Score,
    annotation_order,
    choose,
    image_state,
    outdated,
    read_scores,
    write_scores,
)
from unetpp_monai.annotation.training_cases import Labelled, bundle_labels, name_hash, split_cases
from unetpp_monai.annotation.version_store import VersionStore, copy_bundle
from unetpp_monai.bundle import load_network, read_bundle
from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.files import sha256
from unetpp_monai.segmenter import Segmenter

LABELS = read_bundle(BUNDLE).labels
FAST = Options(max_epochs=2, learning_rate=0.01, val_split=0.2, device="cpu")
RUINOUS = Options(max_epochs=1, learning_rate=100.0, val_split=0.2, device="cpu")


@pytest.fixture
def bundle(tmp_path):
    return make_tiny(copy_bundle(BUNDLE, tmp_path / "served" / "hippocampus"))


@pytest.fixture(scope="module")
def learned(tmp_path_factory, cases):
    """A bundle that was trained on the cases: it, the hash of its first weights, its version, what was logged."""
    bundle = make_tiny(copy_bundle(BUNDLE, tmp_path_factory.mktemp("learned") / "hippocampus"))
    first, records = sha256(bundle / "models" / "model.pt"), SimpleQueue()
    logger, handler = logging.getLogger("unetpp_monai"), QueueHandler(records)
    level = logger.level
    logger.setLevel("INFO")
    logger.addHandler(handler)
    version = fine_tune(bundle, cases, FAST)
    logger.removeHandler(handler)
    logger.setLevel(level)
    return bundle, first, version, [records.get().getMessage() for _ in range(records.qsize())]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Eight labelled phantoms."""
    folder = tmp_path_factory.mktemp("studies")
    found = []
    for index in range(8):
        image, labels = phantom(seed=index)
        paths = [folder / f"case_{index}.nii.gz", folder / f"label_{index}.nii.gz"]
        found.append(Labelled(f"case_{index}", save_nifti(paths[0], image), save_nifti(paths[1], labels), {}))
    return found


class TestNext:
    """Who gets which image."""

    def test_best_first_but_not_what_another_works_on(self):
        infos = {"a": {"strategy": {"first": {"ts": 1000, "client_id": "anna"}}}, "b": {}, "c": {}}
        assert choose("abc", infos, client="ben", now=1010) == "b"
        assert choose("abc", infos, client="anna", now=1010) == "b"  # asked again: leaves it out
        assert choose("abc", infos, client="ben", now=1000 + HELD_SECONDS) == "a"

    def test_what_one_left_out_comes_back_before_what_others_hold(self):
        given = {"a": (1000, "anna"), "b": (1005, "ben"), "c": (1002, "anna")}
        infos = {key: {"strategy": {"any": {"ts": ts, "client_id": who}}} for key, (ts, who) in given.items()}
        assert choose("cba", infos, client="anna", now=1010) == "a"
        assert choose("cba", infos, client="ben", now=1010) == "b"
        assert choose("cba", infos, client="cleo", now=1010) == "a"  # rather twice than nothing

    def test_the_last_client_counts_whatever_the_strategy(self):
        entries = {"first": {"ts": 1, "client_id": "anna"}, "random": {"ts": 2, "client_id": "ben"}}
        infos = {"a": {"strategy": entries}, "b": {"strategy": {"first": {"ts": 3, "client_id": "ben"}}}}
        assert choose("ab", infos, client="anna", now=4) == "a"
        assert choose("ba", infos, client="ben", now=4) == "a"

    def test_nothing_left(self):
        assert choose([], {}, client=None, now=0) is None

    def test_order_by_score(self):
        def score(value, error=""):
            return Score(value, "state", "weights", "full", error)

        known = {"sure": score(0.001), "broken": score(None, "no"), "unsure": score(0.02), "empty": score(None)}
        order = sorted(
            ["broken", "new", "sure", "empty", "unsure"], key=lambda image: annotation_order(known.get(image))
        )
        assert order == ["empty", "unsure", "sure", "new", "broken"]


class TestScores:
    """What is computed again, and what is not."""

    def test_kept_and_read(self, tmp_path):
        scores = {"a": Score(0.01, "state", "weights", "full"), "b": Score(None, "state", "weights", "1", "truncated")}
        write_scores(tmp_path, scores)
        assert read_scores(tmp_path) == scores
        assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]

    @pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"schema": 1}', '{"schema": 1, "scores": {"a": 1}}'])
    def test_unreadable_scores_are_made_again(self, tmp_path, text):
        (tmp_path / SCORES).write_text(text)
        assert read_scores(tmp_path) == {} == read_scores(tmp_path / "nowhere")

    @pytest.mark.parametrize("schema", [None, 2])
    def test_scores_of_other_versions_are_made_again(self, tmp_path, schema):
        scores = {"a": Score(0.01, "state", "weights", "full")}
        plain = {image: asdict(score) for image, score in scores.items()}  # as up to 0.5.2
        (tmp_path / SCORES).write_text(json.dumps(plain if schema is None else {"schema": schema, "scores": plain}))
        assert read_scores(tmp_path) == {}
        write_scores(tmp_path, scores)
        assert read_scores(tmp_path) == scores

    def test_only_new_or_changed_images_are_outdated(self, tmp_path):
        paths = [save_nifti(tmp_path / f"{name}.nii.gz", phantom((8, 8, 8))[0]) for name in "ab"]
        states = {path.name: image_state(path) for path in paths}
        scores = {name: Score(0.1, state, "weights", "full") for name, state in states.items()}
        present = {"weights_sha256": "weights", "depth": "full", "measure": "disagreement"}
        assert outdated(scores, states, **present) == []
        for other in ({"weights_sha256": "others"}, {"depth": "1"}, {"measure": "entropy"}):
            assert outdated(scores, states, **{**present, **other}) == list(states)
        save_nifti(paths[1], phantom((9, 8, 8))[0])
        states = {path.name: image_state(path) for path in paths}
        assert outdated(scores, {**states, "c": "new"}, **present) == [paths[1].name, "c"]

    def test_state_of_a_series_is_that_of_its_files(self, tmp_path):
        series = tmp_path / "series"
        series.mkdir()
        (series / "1").write_bytes(b"one")
        before = image_state(series)
        assert image_state(series) == before
        (series / "2").write_bytes(b"")
        assert image_state(series) != before

    def test_state_of_a_case_is_that_of_all_its_channels(self, tmp_path):
        first, second = (save_nifti(tmp_path / f"a_000{at}.nii.gz", phantom((8, 8, 8))[0]) for at in (0, 1))
        before = image_state(first, ("_0000", "_0001"))
        save_nifti(second, phantom((8, 8, 9))[0])
        assert image_state(first, ("_0000", "_0001")) != before


class TestSplit:
    """Which cases validate."""

    @staticmethod
    def named(numbers):
        return [Labelled(f"case_{number}", None, None, {}) for number in numbers]

    def test_a_case_that_was_trained_on_never_validates(self):
        """However the labels come in, and whichever version they trained."""
        trained = frozenset()
        for count in range(2, 60):
            split = split_cases(self.named(range(count)), share=0.2, trained=trained)
            assert split.training and split.validation and len(split.training) + len(split.validation) == count
            assert not trained & {name_hash(case.name) for case in split.validation}
            trained |= {name_hash(case.name) for case in split.training}
        assert 6 <= len(split.validation) <= 18

    def test_the_order_of_the_labels_does_not_matter(self):
        assert split_cases(self.named(range(9)), share=0.3) == split_cases(self.named(reversed(range(9))), share=0.3)

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few(self, count):
        with pytest.raises(InputError, match=f"at least 2 labelled images .* got {count}; submit more labels"):
            split_cases(self.named(range(count)), share=0.2)

    def test_all_known(self):
        cases = self.named(range(2))
        with pytest.raises(InputError, match="never used for training, got 2"):
            split_cases(cases, share=0.2, trained=frozenset(name_hash(case.name) for case in cases))

    @pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
    def test_impossible_share(self, share):
        with pytest.raises(InputError, match="between 0 and 1"):
            split_cases(self.named(range(4)), share=share)


class TestLabels:
    """What values mean."""

    def test_clients_order_of_segments(self, cases):
        swapped = {1: "Posterior hippocampus", 2: "ANTERIOR HIPPOCAMPUS"}
        case = Labelled("a", cases[0].image, cases[0].label, swapped)
        old, new = bundle_labels(cases[0], LABELS).array, bundle_labels(case, LABELS).array
        assert np.array_equal(new, np.choose(old, [0, 2, 1])) and set(np.unique(old)) == {0, 1, 2}

    def test_segments_that_the_bundle_does_not_know(self, cases):
        case = Labelled("a", cases[0].image, cases[0].label, {1: "anterior hippocampus", 2: "Segment_2"})
        with pytest.raises(InputError, match=r"got \['Segment_2'\]; rename or remove them"):
            bundle_labels(case, LABELS)

    def test_values_that_nothing_explains(self, cases, tmp_path):
        label = save_nifti(tmp_path / "label.nii.gz", phantom()[1] * 3)
        with pytest.raises(InputError, match=r"got \['value 3', 'value 6'\]"):
            bundle_labels(Labelled("a", cases[0].image, label, {}), LABELS)

    def test_another_grid(self, cases, tmp_path):
        label = save_nifti(tmp_path / "label.nii.gz", phantom()[1], np.diag([1, 1, 2, 1]))
        with pytest.raises(InputError, match=r"where its image is, got a corner 36 voxels away in label"):
            bundle_labels(Labelled("a", cases[0].image, label, {}), LABELS)


@pytest.mark.slow
class TestTraining:
    """From labels to weights that are served."""

    def test_better_weights_are_published_and_can_be_rolled_back(self, learned, cases, tmp_path):
        first, version, messages = learned[1:]
        bundle = Path(shutil.copytree(learned[0], tmp_path / "bundle"))
        assert (version.number, version.parent) == (2, 1)
        assert sha256(bundle / "models" / "model.pt") == version.weights_sha256 != first
        load_network(read_bundle(bundle), read_bundle(bundle).parser(), torch.device("cpu"))
        origin, split = version.origin, split_cases(cases, share=0.2)
        assert origin.dice_after > origin.dice_before and origin.validation_cases == len(split.validation)
        assert set(origin.training_cases) == {name_hash(case.name) for case in split.training}
        assert any("epoch 2 of 2: loss" in line and "validation Dice" in line for line in messages)
        assert len(messages) < 20 and not any("case_" in line for line in messages)
        progress = read_progress(bundle)
        assert progress["epoch"] == progress["total_epochs"] == 2 and "total_time" in progress
        assert progress["best_metric"] == origin.dice_after and progress["served_dice"] == origin.dice_before
        assert [path.name for path in (bundle / WORK).iterdir()] == [PROGRESS]
        assert VersionStore(bundle).rollback().weights_sha256 == first == sha256(bundle / "models" / "model.pt")

    def test_worse_weights_are_not_published(self, learned, cases, tmp_path):
        """Those served are measured as they segment: the Dice before training is that of their segmentations."""
        bundle, version = Path(shutil.copytree(learned[0], tmp_path / "bundle")), learned[2]
        assert fine_tune(bundle, cases, RUINOUS) is None
        assert sha256(bundle / "models" / "model.pt") == version.weights_sha256
        assert len(VersionStore(bundle).versions()) == 2
        progress = read_progress(bundle)
        assert progress["validation_dice"] < progress["served_dice"] == progress["best_metric"]
        segmenter, dice = Segmenter.from_bundle(bundle, device="cpu", runtime="eager"), []
        for case in split_cases(cases, share=0.2, trained=frozenset(version.origin.training_cases)).validation:
            reference = nib.load(case.label).get_fdata()
            found = segmenter(bundle_volume(case)).labels.array[0]
            for label in LABELS:
                a, b = found == label.index, reference == label.index
                dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert progress["served_dice"] == pytest.approx(np.mean(dice), abs=0.01)  # bfloat16 in training

    def test_too_few_labels_leave_everything_as_it_was(self, bundle, cases):
        before = sha256(bundle)
        with pytest.raises(InputError, match="at least 2 labelled images"):
            fine_tune(bundle, cases[:1], FAST)
        VersionStore(bundle).served()
        shutil.rmtree(bundle / "versions")
        assert sha256(bundle) == before

    def test_a_wrong_label_is_named(self, bundle, cases):
        wrong = Labelled("wrong", cases[0].image, cases[0].label, {1: "tumour", 2: "anterior hippocampus"})
        with pytest.raises(InputError, match=r"label of wrong: .* got \['tumour'\]"):
            fine_tune(bundle, [*cases, wrong], FAST)

    def test_every_wrong_label_is_named_at_once(self, bundle, cases, tmp_path):
        moved = save_nifti(tmp_path / "moved.nii.gz", phantom()[1], np.array([[1, 0, 0, 9], *np.eye(4)[1:]]))
        wrong = [
            Labelled("wrong", cases[0].image, cases[0].label, {1: "tumour", 2: "anterior hippocampus"}),
            Labelled("moved", cases[1].image, moved, {}),
        ]
        said = r"label of \w+: .*; label of \w+: "
        with pytest.raises(InputError, match=said) as caught:
            fine_tune(bundle, [*cases, *wrong], FAST)
        assert "got ['tumour']" in str(caught.value) and "a corner 9 voxels away in moved.nii.gz" in str(caught.value)

    def test_labels_without_a_structure(self, bundle, cases, tmp_path):
        empty = save_nifti(tmp_path / "empty.nii.gz", np.zeros(phantom()[1].shape, np.uint8))
        with pytest.raises(InputError, match="must have a structure, got none in 1 of one kind"):
            fine_tune(bundle, [Labelled(case.name, case.image, empty, {}) for case in cases[:2]], FAST)

    def test_weights_of_another_network(self, bundle, cases):
        shutil.copy(BUNDLE / "models" / "model.pt", bundle / "models" / "model.pt")
        with pytest.raises(BundleError, match=r"must hold the weights of network_def in configs/train.json"):
            fine_tune(bundle, cases, FAST)

    @pytest.mark.parametrize("values", [{"max_epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
    def test_impossible_options(self, bundle, cases, values):
        options = Options(**{"max_epochs": 1, "learning_rate": 0.1, "val_split": 0.2, "device": "cpu", **values})
        with pytest.raises(InputError, match="max_epochs must be >= 1"):
            fine_tune(bundle, cases, options)

    @pytest.mark.slow
    @pytest.mark.long
    def test_killed_in_the_middle(self, bundle, cases):
        """The old weights are served, and the next training starts afresh."""
        served, images = sha256(bundle / "models" / "model.pt"), [sha256(case.label) for case in cases]
        long = Options(max_epochs=100_000, learning_rate=0.01, val_split=0.2, device="cpu")
        process = multiprocessing.get_context("spawn").Process(target=fine_tune, args=(bundle, cases, long))
        process.start()
        wait_for(lambda: read_progress(bundle).get("epoch", 0) >= 2 or process.exitcode is not None, "two epochs")
        process.kill()
        process.join()
        assert read_progress(bundle)["epoch"] >= 2 and (bundle / WORK / BEST).exists()
        assert sha256(bundle / "models" / "model.pt") == served
        assert images == [sha256(case.label) for case in cases]
        version = fine_tune(bundle, cases, FAST)
        assert version.parent == 1 and read_progress(bundle)["total_epochs"] == 2
        assert not (bundle / WORK / BEST).exists()


def bundle_volume(case):
    from unetpp_monai.io import read_volume

    return read_volume(case.image)
