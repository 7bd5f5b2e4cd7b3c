"""Volume in, label volume out."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import BUNDLE, ROOT, phantom
from helpers.commands import run
from helpers.tiny import bundle_with

from unetpp_monai import Segmenter, Volume, read_volume
from unetpp_monai.bundle import ReviewRule, load_network, read_bundle
from unetpp_monai.depth import Depth
from unetpp_monai.errors import InputError
from unetpp_monai.runtimes.backend import choose_device

SAMPLE = ROOT / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz"


# without ranges of its training cases, which the sample, a mean of many heads, is unlike
BARE = replace(read_bundle("hippocampus"), plausible=None)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(BARE, device="cpu", runtime="eager")


@pytest.fixture(scope="module")
def sample():
    return read_volume(SAMPLE)


def test_sample_has_a_plausible_hippocampus(segmenter, sample):
    result = segmenter(sample)
    assert result.labels.same_grid(sample) and result.labels.array.dtype == np.uint8
    assert list(result.ml) == ["anterior hippocampus", "posterior hippocampus"]
    assert all(0.8 <= ml <= 3.0 for ml in result.ml.values()), result.ml
    assert result.ml["anterior hippocampus"] == pytest.approx((result.labels.array == 1).sum() / 1000)
    anterior, posterior = (np.argwhere(result.labels.array[0] == index).mean(axis=0) for index in (1, 2))
    assert anterior[1] > posterior[1] + 10  # Y points to anterior, voxels are 1 mm
    parts = [set(np.unique(part)) - {0} for part in np.moveaxis(result.labels.array[0], 1, 0)]
    assert max(map(len, parts)) == 1  # anterior and posterior meet where a coronal slice begins
    middle = sample.affine @ [*np.argwhere(result.labels.array[0] > 0).mean(axis=0), 1]
    assert np.abs(middle[:3] - (27, -22, -14)).max() < 5  # the right hippocampus in MNI space, mm
    assert set(result.seconds) == {"preprocessing", "network", "postprocessing"}
    assert (result.depth, result.device, result.version) == (3, "cpu", segmenter.bundle.version)


@pytest.mark.slow
def test_depths_differ_a_little(segmenter, sample):
    full = segmenter(sample).labels.array > 0
    for depth in (1, 2):
        result = segmenter(sample, depth=depth)
        assert result.depth == depth
        found = result.labels.array > 0
        assert 0.8 < 2 * (found & full).sum() / (found.sum() + full.sum()) < 1


def flipped(volume, order, signs):
    """The same image stored with other axes."""
    transform = np.stack([order, signs], axis=1).astype(float)
    array = nib.orientations.apply_orientation(volume.array[0], transform)
    return Volume(array[None], volume.affine @ nib.orientations.inv_ornt_aff(transform, volume.shape)), transform


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.slow
def test_storage_order_does_not_matter(segmenter, sample, order):
    """Every axis permutation, each axis flipped in turn, gives the same voxels at the same places."""
    expected = segmenter(sample, depth=1).labels.array[0]
    for signs in ((-1, 1, -1), (1, -1, 1)):
        other, transform = flipped(sample, order, signs)
        result = segmenter(other, depth=1)
        assert result.labels.same_grid(other)
        np.testing.assert_array_equal(result.labels.array[0], nib.orientations.apply_orientation(expected, transform))


@pytest.mark.slow
def test_other_spacings_give_similar_volumes(segmenter, sample):
    """2 mm slices: resampled to the network's 1 mm and back to the source grid."""
    thick = Volume(sample.array[..., ::2], sample.affine @ np.diag([1, 1, 2, 1]))
    result = segmenter(thick)
    assert result.labels.same_grid(thick)
    assert sum(result.ml.values()) == pytest.approx(sum(segmenter(sample).ml.values()), rel=0.15)


def test_progress_counts_windows(segmenter):
    calls = []
    image = phantom((60, 60, 45))[0]
    segmenter(Volume(image[None], np.eye(4)), depth=1, progress=lambda done, total: calls.append((done, total)))
    done, total = calls[-1]
    assert done == total > 1


@pytest.mark.parametrize(
    ("array", "depth", "message"),
    [
        (np.zeros((4, 8, 8, 8), np.float32), None, r"takes 1 channel, got 4"),
        (np.full((1, 8, 8, 8), 7.0), None, "must not be constant, got 7.0"),
        (np.array([0, 1, np.nan, 2]).reshape(1, 4, 1, 1), None, "voxels must be finite"),
        (np.array([0, 1, np.inf, 2]).reshape(1, 4, 1, 1), None, "voxels must be finite"),
        (phantom((8, 8, 8))[0][None], 4, "depth must be from 1 to 3, auto or full, got 4"),
        (phantom((8, 8, 8))[0][None], 0, "depth must be a number >= 1, auto or full, got 0"),
    ],
)
def test_what_cannot_be_segmented(segmenter, array, depth, message):
    with pytest.raises(InputError, match=message):
        segmenter(Volume(array, np.eye(4)), depth=depth)


def test_one_voxel_is_an_image(segmenter):
    result = segmenter(Volume(np.array([0.0, 1.0], np.float32).reshape(1, 2, 1, 1), np.eye(4)))
    assert result.labels.shape == (2, 1, 1)


def test_only_what_a_depth_needs_is_built(segmenter, sample):
    small = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager", depth=1)
    assert (list(small.depths), small.full_depth, small.default_depth) == ([1], 3, Depth(1))
    bundle = read_bundle("hippocampus")
    network = load_network(bundle, bundle.parser(), torch.device("cpu"), depth=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 74099
    result = small(sample)
    assert result.depth == 1
    np.testing.assert_array_equal(result.labels.array, segmenter(sample, depth=1).labels.array)
    with pytest.raises(InputError, match="depth must be from 1 to 3, got 4"):
        Segmenter.from_bundle("hippocampus", device="cpu", depth=4)


@pytest.mark.slow
def test_auto_depth_stops_where_it_may(segmenter, sample, tmp_path):
    full = segmenter(sample, depth="full")
    assert (full.exit_thresholds, full.mirror_axes) == ((), ())
    by_hash = {full.config_sha256}
    for thresholds, windows, alike in (([0.0, 0.0], full.windows, full), ([1.0, 0.0], {1: full.windows[3]}, 1)):
        other = Segmenter.from_bundle(bundle_with(tmp_path, exit_thresholds=thresholds), device="cpu", runtime="eager")
        result = other(sample, depth="auto")
        assert (result.windows, result.depth, result.exit_thresholds) == (windows, "auto", tuple(thresholds))
        expected = segmenter(sample, depth=1) if alike == 1 else full
        np.testing.assert_array_equal(result.labels.array, expected.labels.array)
        by_hash.add(result.config_sha256)
    assert len(by_hash) == 3  # what `inference.json` says is in its hash
    assert full.windows == {3: sum(full.windows.values())}


@pytest.mark.slow
def test_mirroring_is_an_argument_and_is_said(segmenter, sample, tmp_path):
    plain, mirrored, again = segmenter(sample), segmenter(sample, mirror_axes=(2, 0, 0)), segmenter(sample)
    assert (plain.mirror_axes, mirrored.mirror_axes) == ((), (0, 2))
    assert mirrored.windows == {3: 4 * plain.windows[3]}
    assert (mirrored.labels.array != plain.labels.array).any()
    np.testing.assert_array_equal(again.labels.array, plain.labels.array)  # nothing is left of it
    root = bundle_with(tmp_path, mirror_axes=[0])
    other = Segmenter.from_bundle(root, device="cpu", runtime="eager", depth=1)
    assert other(sample).mirror_axes == (0,) and other(sample, mirror_axes=()).mirror_axes == ()
    with pytest.raises(InputError, match="axes to mirror must be of 0, 1, 2, got 0, 3"):
        segmenter(sample, mirror_axes=(0, 3))


@pytest.mark.slow
def test_a_depth_given_at_the_start_is_the_default(sample):
    auto = Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager", depth="auto")
    assert list(auto.depths) == [1, 2, 3]
    assert auto(sample).depth == "auto" and auto(sample, depth=2).depth == 2


def test_air_is_never_computed(segmenter):
    """A volume of which three quarters are one value, as around a cropped or masked head."""
    image = np.zeros((96, 48, 32), np.float32)
    image[:24] = phantom((24, 48, 32))[0]
    result = segmenter(Volume(image[None], np.eye(4)), depth="auto")
    assert result.windows[0] >= 3
    assert not result.labels.array[0, 40:].any()


@pytest.mark.slow
def test_uncertainty_map_scores_and_review(segmenter, sample):
    plain, result = segmenter(sample), segmenter(sample, uncertainty=True)
    assert (plain.uncertainty, plain.scores, plain.score, plain.review) == (None, {}, None, None)
    np.testing.assert_array_equal(result.labels.array, plain.labels.array)
    assert result.uncertainty.same_grid(sample) and result.uncertainty.array.dtype == np.float32
    assert 0 <= result.uncertainty.array.min() < result.uncertainty.array.max() <= 1
    border = result.uncertainty.array[(result.labels.array > 0) != np.roll(result.labels.array > 0, 1, 1)].mean()
    assert border > 10 * result.uncertainty.array[result.labels.array == 0].mean()
    low, high = sorted(result.scores.values())
    assert 0 < low <= result.score <= high < 1
    assert result.review is (result.score >= segmenter.bundle.review.threshold)
    assert result.measures["disagreement"] == result.score  # by which this bundle judges
    assert result.measures["entropy"] == pytest.approx(
        result.uncertainty.array[result.labels.array > 0].mean(), rel=1e-4
    )


@pytest.mark.slow
def test_a_bundle_may_judge_by_entropy(sample):
    for threshold, flagged in ((0.0, True), (1.0, False)):
        bundle = replace(BARE, review=ReviewRule("entropy", threshold))
        result = Segmenter(bundle, device="cpu", runtime="eager")(sample, uncertainty=True)
        assert result.score == result.measures["entropy"] != result.measures["disagreement"]
        assert min(result.scores.values()) <= result.score <= max(result.scores.values())
        assert result.review is flagged


@pytest.mark.parametrize(("depth", "scored"), [(1, False), ("auto", False), (2, True)])
@pytest.mark.slow
def test_fewer_heads_do_not_say_that_all_is_well(segmenter, sample, depth, scored):
    """One head agrees with itself, whatever it is shown; the threshold was measured with all heads."""
    noise = Volume(np.random.default_rng(0).normal(0, 1, sample.array.shape).astype(np.float32), sample.affine)
    for image in (sample, noise):
        result = segmenter(image, depth=depth, uncertainty=True)
        assert result.labels.array.any() and result.uncertainty.array.any()
        assert (bool(result.scores), result.score is not None, result.review) == (scored, scored, None)
    assert segmenter(noise, uncertainty=True).review is True
    shallow = Segmenter(BARE, device="cpu", runtime="eager", depth=2)
    assert shallow(sample, depth="full", uncertainty=True).review is None


@pytest.mark.slow
def test_nothing_found_is_to_be_reviewed(sample, tmp_path):
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    for depth in (1, 2, 3):
        weights[f"outputs.x_0_{depth}.bias"][0] += 100  # background everywhere
    torch.save(weights, tmp_path / "model.pt")
    segmenter = Segmenter.from_bundle("hippocampus", weights=tmp_path / "model.pt", device="cpu", runtime="eager")
    result = segmenter(sample, uncertainty=True)
    assert not result.labels.array.any()
    assert (result.score, result.scores, result.review) == (None, {}, True)


@pytest.mark.slow
def test_memory_does_not_hold_every_label():
    """64 labels on 128x64x64 voxels would be 134 MB of logits; the sweep holds a slab of a window's thickness."""
    script = """
import resource, sys, torch
from monai.inferers import SlidingWindowInferer
from unetpp_monai.inference import Windows, slide_windows
from unetpp_monai.inference.source_grid import SourceGrid
import numpy as np
labels = int(sys.argv[1])
image = torch.rand(1, 1, 128, 64, 64)
sliding = SlidingWindowInferer((16, 16, 16), sw_batch_size=2, overlap=0.25, mode="gaussian")
grid = SourceGrid((192, 96, 96), (128, 64, 64), np.diag([2 / 3, 2 / 3, 2 / 3, 1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
grid.fill(slide_windows(image, lambda windows: Windows(windows.expand(-1, labels, -1, -1, -1)), sliding))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = []
    for labels in (2, 64):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, str(labels)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        grown.append(int(run.stdout) / 1024)  # MiB
    assert grown[1] - grown[0] < 100, grown


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "meta", "gpu"):
        with pytest.raises(InputError, match="device must"):
            choose_device(name)
    with pytest.raises(InputError, match="got 'mps', on which nothing was tried; use cpu"):
        choose_device("mps")


@pytest.mark.slow
def test_same_voxels_as_monai_bundle_run(segmenter, shared_data, tmp_path):
    """Real NIfTI volumes and a real DICOM series through `monai.bundle run` and through our API."""
    images = sorted((shared_data / "Task04_Hippocampus" / "imagesTr").iterdir())[:3]
    for image in images:
        shutil.copy(image, tmp_path)
    series = shared_data / "dicom" / "Study1_13_HCropVolume"
    shutil.copytree(series, tmp_path / series.name)
    places = ("--bundle_root", BUNDLE, "--dataset_dir", tmp_path, "--output_dir", tmp_path / "out")
    run("--config_file", BUNDLE / "configs" / "inference.json", *places, "--device", "cpu", folder=tmp_path)
    for case in [*images, series]:
        ours = segmenter(read_volume(case)).labels
        theirs = read_volume(tmp_path / "out" / f"{Path(case).name.removesuffix('.nii.gz')}_seg.nii.gz")
        assert theirs.same_grid(ours)
        np.testing.assert_array_equal(theirs.array, ours.array)
