"""Thresholds from validation cases."""

import json
from collections import Counter

import numpy as np
import pytest
from helpers import phantom
from helpers.tiny import bundle_with
from typer.testing import CliRunner

from unetpp_monai import Segmenter, Volume
from unetpp_monai.cli import app
from unetpp_monai.errors import InputError
from unetpp_monai.workflows import calibrate as calibration
from unetpp_monai.workflows.calibrate import _last_within, _review, auroc, calibrate
from unetpp_monai.workflows.metrics import mean_dice


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")


@pytest.fixture(scope="module")
def pairs():
    """Images, and as references what the network finds in them at full depth, a little moved."""
    images = [Volume(phantom((32, 48, 40), seed)[0][None], np.eye(4)) for seed in range(4)]
    segmenter = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager")
    return [(image, Volume(np.roll(segmenter(image).labels.array, 1, axis=1), np.eye(4))) for image in images]


@pytest.mark.slow
def test_the_threshold_gives_what_was_said(segmenter, pairs, monkeypatch, tmp_path):
    """The recording is replayed: a real run with the chosen threshold has the same windows and the same Dice."""
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.0, 0.05, 0.1, 0.2))
    chosen, reviews = calibrate(segmenter, pairs, max_loss=0.6)
    assert (
        set(chosen.thresholds) <= {0.0, 0.05, 0.1, 0.2} and len(chosen.thresholds) == 2 and max(chosen.thresholds) > 0
    )
    assert chosen.dice_full - chosen.dice_auto <= 0.6 and chosen.cases == 4
    root = bundle_with(tmp_path, exit_thresholds=chosen.thresholds)
    calibrated = Segmenter.from_bundle(root, device="cpu", runtime="eager")
    results = [calibrated(image, depth="auto") for image, _ in pairs]
    windows = sum((Counter(result.windows) for result in results), Counter())
    assert dict(windows) == chosen.windows and set(windows) != {3}
    found = [mean_dice(r.labels.array, label.array, (1, 2)) for r, (_, label) in zip(results, pairs, strict=True)]
    assert np.mean(found) == pytest.approx(chosen.dice_auto, abs=1e-6)
    assert {review.measure for review in reviews} == {"disagreement", "entropy"}
    assert reviews[0].auroc >= reviews[1].auroc
    for review in reviews:
        scores = [segmenter(image, uncertainty=True).measures[review.measure] for image, _ in pairs]
        assert (review.threshold, review.share, review.cases) == (pytest.approx(max(scores)), 0.25, 4)


def test_no_loss_is_jumped_over():
    assert _last_within([0.0, 0.0005, 0.01, 0.0], 0.001) == 2
    assert _last_within([0.0, -0.1], 0.001) == 2
    assert _last_within([0.5], 0.0) == 0


@pytest.mark.parametrize(("easy", "expected"), [(30, (0.01, 1.0)), (25, (0.0, 1.0)), (0, (0.0, 1.0))])
def test_no_stop_for_few_windows(monkeypatch, easy, expected):
    """It would cost more than it saves; of 100 windows that are computed, some are easy, and depth 2 does for all."""

    class Recorded:
        depth = 3

        def replay(self, thresholds):
            first, second = (*thresholds, 0.0, 0.0)[:2]
            stopped = 100 if first == 1 else easy if first else 0
            counts = {0: 50, 1: stopped, 2: 100 - stopped if second == 1 else 0}
            return 0.8 if first == 1 else 0.9, Counter({**counts, 3: 150 - sum(counts.values())})

    monkeypatch.setattr(calibration, "THRESHOLDS", (0.0, 0.01, 1.0))
    assert calibration._search([Recorded()], 0.001) == expected


def test_review_flags_a_share_of_the_cases():
    dice = np.linspace(0.5, 0.9, 20)
    review = _review("entropy", dice, 1 - dice, 0.25)  # a perfect score
    assert (review.measure, review.share, review.recall, review.auroc) == ("entropy", 0.25, 1, 1)
    assert _review("entropy", dice, dice, 0.25).recall == 0


def test_auroc_is_the_probability_of_the_right_order():
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert auroc(scores, positive) == 0.75
    assert auroc(np.zeros(4), positive) == 0.5


@pytest.mark.slow
def test_what_cannot_be_calibrated(segmenter, pairs):
    for wrong in ({"share": 0}, {"share": 2}, {"max_loss": -1}):
        with pytest.raises(InputError, match="max_loss must be >= 0 and share 0 < share <= 1"):
            calibrate(segmenter, pairs, **wrong)
    with pytest.raises(InputError, match="at least 4 cases, got 1"):
        calibrate(segmenter, pairs[:1])
    other = Volume(pairs[0][1].array[..., 1:], np.eye(4))
    with pytest.raises(InputError, match="grid of its image"):
        calibrate(segmenter, [(pairs[0][0], other)])


@pytest.mark.long
def test_command(msd_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.0, 0.01))
    images, references = msd_folder / "imagesTr", msd_folder / "labelsTr"
    arguments = [
        "calibrate",
        str(images),
        "--references",
        str(references),
        "--task",
        "hippocampus",
        "--runtime",
        "eager",
    ]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "c.json")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "c.json").read_text())
    assert written == json.loads(result.stdout) and written["exit"]["cases"] == 6
    assert f"written: {tmp_path / 'c.json'}" in result.stderr
    assert len({part["measure"] for part in (written["review"], *written["other measures"])}) == 2
    with pytest.raises(Exception, match="exists"):
        CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "c.json")], catch_exceptions=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.nii.gz").symlink_to(next(references.iterdir()))
    arguments[3] = str(tmp_path / "empty")
    with pytest.raises(InputError, match=r"must have a reference in .*empty, got none for case_0"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
