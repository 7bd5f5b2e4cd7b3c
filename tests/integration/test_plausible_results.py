"""What is unlike a bundle's training cases is said at every depth and by every door, and its result is kept."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import BUNDLE, ROOT, phantom, save_nifti
from helpers.tiny import bundle_with, make_tiny
from typer.testing import CliRunner

from benchmarks.fold import fold_cases
from benchmarks.plausible import made_wrong
from unetpp_monai import Segmenter, Volume, read_volume
from unetpp_monai.bundle import read_bundle
from unetpp_monai.cli import app
from unetpp_monai.errors import BundleError
from unetpp_monai.plausibility import Plausible

RANGES = {"cases": 5, "spacing": [[0.5, 2.0]] * 3, "extent": [[10, 30]] * 3, "volume": {"1": [0, 99], "2": [0, 99]}}


def save_case(path, shape=(20, 20, 20)):
    return save_nifti(path, np.random.default_rng(0).normal(100, 20, shape).astype(np.float32), np.eye(4))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The tiny network with ranges that images of 20 mm fit into."""
    root = make_tiny(bundle_with(tmp_path_factory.mktemp("bundle")))
    path = root / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "plausible": RANGES}))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, "full", "auto"])
@pytest.mark.parametrize("uncertainty", [False, True])
def test_a_result_is_marked_and_kept(bundle, tmp_path, depth, uncertainty):
    image = read_volume(save_case(tmp_path / "a.nii.gz", (20, 20, 60)))
    gated = Segmenter.from_bundle(bundle, device="cpu", runtime="eager")
    plain = Segmenter(replace(read_bundle(bundle), plausible=None), device="cpu", runtime="eager")
    found, expected = (one(image, depth=depth, uncertainty=uncertainty) for one in (gated, plain))
    assert found.plausibility == ("extent to the superior is 60 mm, expected 10 to 30",)
    assert found.review is True and expected.plausibility is None
    np.testing.assert_array_equal(found.labels.array, expected.labels.array)
    sound = gated(read_volume(save_case(tmp_path / "b.nii.gz")), depth=depth)
    assert (sound.plausibility, sound.review) == ((), None)


def test_the_command_says_which_and_the_report_why(bundle, tmp_path):
    images = [save_case(tmp_path / f"{name}.nii.gz", (20, 20, size)) for name, size in (("sound", 20), ("long", 60))]
    done = CliRunner().invoke(
        app, ["segment", *map(str, images), "-o", str(tmp_path), "--bundle", str(bundle), "--runtime", "eager"]
    )
    assert done.exit_code == 0
    assert done.stderr.count("review ") == 1 and "long.nii.gz: extent to the superior is 60 mm" in done.stderr
    long, sound = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("long", "sound"))
    assert (long["review"], len(long["plausibility"])) == (True, 1)
    assert (sound["review"], sound["plausibility"]) == (None, [])


def test_ranges_are_those_of_a_tasks_cases(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for seed in range(3):
        image, label = phantom(seed=seed)
        save_nifti(tmp_path / "images" / f"{seed}.nii.gz", image, np.eye(4))
        save_nifti(tmp_path / "labels" / f"{seed}.nii.gz", label, np.eye(4))
    arguments = [str(tmp_path / "images"), "--references", str(tmp_path / "labels"), "--task", "hippocampus"]
    output = tmp_path / "ranges.json"
    result = CliRunner().invoke(app, ["ranges", *arguments, "-o", str(output)])
    assert result.exit_code == 0 and f"written: {output}" in result.stderr
    ranges = Plausible.from_json(json.loads(output.read_text()))
    assert ranges.cases == 3 and set(ranges.volume) == {"1", "2"} and not ranges.absolute


def test_ranges_that_are_none_are_refused_by_name(bundle, tmp_path):
    root = tmp_path / "bundle"
    shutil.copytree(bundle, root)
    path = root / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "plausible": {"cases": 1, "spacings": []}}))
    with pytest.raises(BundleError, match=r"metadata\.json: plausible must hold the ranges"):
        read_bundle(root)


@pytest.mark.slow
def test_sound_cases_are_not_marked(shared_data):
    """Of the fold that the ranges of the shipped bundle were not measured on, at every depth."""
    weights = ROOT / "benchmarks" / "fold0" / "model.pt"
    segmenter = Segmenter.from_bundle(BUNDLE, weights=weights, device="cpu", runtime="eager")
    cases = fold_cases(0, str(shared_data / "Task04_Hippocampus"))
    assert len(cases) == 42
    for case in cases:
        image = read_volume(case["image"])
        for depth in (1, 2, 3, "auto") if case in cases[:3] else (1,):
            assert segmenter(image, depth=depth).plausibility == (), case
        for name, wrong in made_wrong(image) if case in cases[:2] else ():
            assert segmenter(wrong, depth=1).review is True, name
    head = read_volume(shared_data / "heads" / "chris_t1.nii.gz")
    middle = Volume(head.array[:, 20:150, 40:190, 20:150], head.affine)
    assert any("extent" in reason for reason in segmenter(middle, depth=1).plausibility)
