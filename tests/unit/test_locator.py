"""Structures located in a whole image, and segmented in their boxes."""

import numpy as np
import pytest
import torch
from helpers.heads import (
    BRAIN,
    HEAD,
    INTENSITIES,
    LEFT,
    RIGHT,
    SHAPE,
    at,
    box,
    made_classes,
    made_head,
    made_locator,
)
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import NormalizeIntensity

from benchmarks.locator.heads import normalised as in_training
from unetpp_monai.errors import InputError
from unetpp_monai.inference import DepthInferer, LocatedNetwork, Locator, TimedInference, located
from unetpp_monai.inference.early_exit import BACKGROUND_LOGIT
from unetpp_monai.inference.locator import normalised
from unetpp_monai.inference.slab import unpack
from unetpp_monai.networks import UNetPlusPlus


def batch(volume):
    return torch.from_numpy(volume.array)[None]


@pytest.fixture(scope="module")
def network():
    return UNetPlusPlus(3, 1, 3, [4, 8, 8], seed=3).eval()


def test_boxes_are_those_of_the_labels():
    volume = made_head()
    found = made_locator()(batch(volume), volume.affine)
    left, right = found.found
    assert (left.box, right.box) == (box(LEFT), box(RIGHT))
    assert (left.name, left.labels, right.name, right.labels) == (
        "left hippocampus",
        (1, 2),
        "right hippocampus",
        (3, 4),
    )
    assert left.shape == tuple(high - low + 12 for low, high in LEFT)
    assert left.size == (12, 24, 12) and right.size == (12, 21, 15)
    assert left.ml == pytest.approx(12 * 24 * 12 / 1000) and not left.cut
    middle = [(low + high - 1) / 2 for low, high in LEFT]
    assert left.centre == pytest.approx(tuple((volume.affine @ [*middle, 1])[:3]))
    assert 0 <= left.uncertainty < 1e-3
    assert found.brain_ml == pytest.approx(np.prod([high - low for low, high in BRAIN]) / 1000)
    assert found.remarks == ()


def test_boxes_do_not_depend_on_the_scale_of_intensities_and_end_with_the_image():
    far = made_locator(locator_margin=40.0)
    for scale in (1e-3, 1.0, 5000.0):
        left, right = far(batch(made_head(scale=scale))).found
        assert (left.box, right.box) == (box(LEFT, 40), box(RIGHT, 40))


def test_air_around_a_head_does_not_matter():
    volume = made_head()
    wide = np.pad(volume.array, [(0, 0), (60, 90), (30, 120), (0, 60)])
    close, far = made_locator()(batch(volume)), made_locator()(torch.from_numpy(wide)[None])
    assert (far.brain_ml, far.remarks) == (close.brain_ml, close.remarks)
    for one, other in zip(close.found, far.found, strict=True):
        assert other.start == (one.start[0] + 60, one.start[1] + 30, one.start[2]) and other.shape == one.shape
        assert other.uncertainty == pytest.approx(one.uncertainty, abs=1e-6)


def test_only_the_two_largest_pieces_count_and_a_third_is_told():
    classes = made_classes()
    classes[3:6, 66:69, 48:51] = 1
    found = made_locator()(batch(made_head(classes)))
    assert (found.found[0].box, found.remarks) == (box(LEFT), ())
    classes[12:24, 60:75, 42:54] = 1
    found = made_locator()(batch(made_head(classes)))
    assert found.found[0].box == box(LEFT) and found.remarks == ("hippocampus was seen in 2.2 mL elsewhere too",)


def test_intensities_are_scaled_as_in_training():
    for shape in ((1, 30, 40, 20), (1, 70, 70, 70)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 90
        assert torch.equal(normalised(image), in_training(image))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (
            (slice(0, 35), slice(0, 51), slice(0, 36)),
            r"a whole image must measure at least 60 x 60 x 60 mm \(right, front, top\), got 35 x 51 x 36 mm; give",
        ),
        ((slice(None), slice(None), slice(33, 34)), "got 72 x 84 x 1 mm"),
    ],
)
def test_less_than_a_head_is_refused_with_the_way_out(cut, message):
    image = batch(made_head())[(slice(None), slice(None), *cut)]
    with pytest.raises(InputError, match=message) as caught:
        made_locator()(image)
    assert "a crop around one hippocampus is for the hippocampus task" in str(caught.value)


def without(*numbers, other=0, part=slice(None)):
    classes = made_classes()
    classes[part][np.isin(classes[part], numbers)] = other
    return made_head(classes)


def test_an_image_without_brain_or_with_one_side_is_refused():
    locator = made_locator()
    with pytest.raises(InputError, match=r"must show at least 100 mL of brain, got 0 mL; give a T1"):
        locator(batch(without(1, 2, 3, other=4)))
    with pytest.raises(InputError, match=r"^left hippocampus and right hippocampus must be .* each, got 3.5 mL; give"):
        locator(batch(without(1, other=2, part=slice(SHAPE[0] // 2, None))))
    with pytest.raises(InputError, match=r"at least 0\.3 mL each, got none; give"):
        locator(batch(without(1, other=2)))


def test_a_head_that_lies_the_wrong_way_round_or_is_cut_is_told():
    locator, upright = made_locator(), batch(made_head())
    check = "check the orientation in the image's header"
    assert locator(upright.flip(4)).remarks == (f"cerebrum does not lie above other brain; {check}",)
    turned = locator(upright.transpose(2, 3))
    assert turned.remarks == (f"left hippocampus and right hippocampus do not lie side by side; {check}",)
    assert locator(upright.flip(2)).remarks == ()  # a mirrored head is a head
    left, right = made_locator(locator_extent=[])(upright[:, :, 15:]).found
    assert (left.cut, right.cut) == (True, False) and left.start[0] == 0


def normal(crop):
    """The preprocessing of a crop; MONAI's transform writes into what it is given."""
    return NormalizeIntensity(channel_wise=True)(crop.clone()).as_tensor()[None]


def whole(image, boxes, network, sliding):
    """Odds of the labels of each box over the background, where the network sweeps the box alone."""
    wanted = torch.full((5, *image.shape[2:]), -BACKGROUND_LOGIT)
    wanted[0] = 0
    for labels, place in boxes:
        crop = normal(image[0][(slice(None), *place)])
        logits = sliding(crop, network)[0]
        for label, layer in zip(labels, logits[1:] - logits[:1], strict=True):
            wanted[(label, *place)] = layer
    return wanted


@torch.no_grad()
def test_each_box_is_swept_for_itself_and_monai_is_given_the_same(network):
    image, sliding = batch(made_head()), SlidingWindowInferer((24, 24, 24), 4, 0.5, mode="gaussian")
    before = image.clone()
    boxes = [((1, 2), box(LEFT)), ((3, 4), box(RIGHT))]
    for inner in (sliding, SimpleInferer()):
        inferer = DepthInferer(inner, locator=made_locator())
        slabs = list(inferer.slabs(image, inferer.predictor(network)))
        assert [slab.start for slab in slabs] == list(range(0, SHAPE[0], 16))
        logits = torch.cat([slab.logits for slab in slabs], 1)
        assert torch.equal(logits, whole(image, boxes, network, inner))
        assert set(logits.argmax(0).unique().tolist()) <= set(range(5))
        both = LocatedNetwork(network, made_locator())
        assert torch.equal(inferer(image, both)[0], logits)
        assert torch.equal(image, before)


@torch.no_grad()
def test_boxes_that_overlap_share_their_voxels_by_the_odds(network):
    image, wide = batch(made_head()), made_locator(locator_margin=16.0)
    inferer = DepthInferer(SimpleInferer(), locator=wide)
    logits = torch.cat([slab.logits for slab in inferer.slabs(image, inferer.predictor(network))], 1)
    boxes = [((1, 2), box(LEFT, 16)), ((3, 4), box(RIGHT, 16))]
    assert torch.equal(logits, whole(image, boxes, network, SimpleInferer()))
    shared = logits[:, 36:40, 40, 30]
    assert (shared[1:] > -BACKGROUND_LOGIT).all()


@torch.no_grad()
@pytest.mark.parametrize("options", [{"depth": 1}, {"depth": "auto", "exit_thresholds": [0.5]}, {"mirror_axes": [0]}])
def test_depth_mirrors_and_uncertainty_are_those_of_the_boxes(network, options):
    image, sliding = batch(made_head()), SlidingWindowInferer((24, 24, 24), 4, 0.5, mode="gaussian")
    inferer = DepthInferer(sliding, uncertainty=True, locator=made_locator(), **options)
    packed = unpack(inferer(image, network)[0], maps=True)
    alone = DepthInferer(sliding, uncertainty=True, **options)
    outside = torch.ones(SHAPE, dtype=torch.bool)
    for labels, place in (((1, 2), box(LEFT)), ((3, 4), box(RIGHT))):
        crop = normal(image[0][(slice(None), *place)])
        part = unpack(alone(crop, network)[0], maps=True)
        here = (slice(None), *place)
        assert torch.equal(packed.logits[here][list(labels)], part.logits[1:] - part.logits[:1])
        assert torch.equal(packed.maps[here], part.maps) and part.maps.any()
        outside[place] = False
    assert not packed.maps[:, outside].any()


@torch.no_grad()
def test_windows_are_counted_over_the_boxes(network):
    image = batch(made_head())
    inferer = DepthInferer(SlidingWindowInferer((24, 24, 24), 4, 0.5), locator=made_locator())
    found, told = inferer.locator(image), []
    sweep = TimedInference(inferer, inferer.predictor(network), lambda done, total: told.append((done, total)))
    list(sweep.slabs(image, found))
    assert told[-1] == (2 + 4, 6) == (sweep.done, inferer.windows_of(SHAPE, found)[0]) and sweep.stops() == {2: 6}


def test_both_networks_have_names_of_their_own_in_one_file(network):
    locator = Locator(features=[4, 8], classes=["none", "one"], structures=["one"], labels=[[1, 2]])
    assert located(network, None) is network
    both = located(network, locator)
    assert {key.split(".")[0] for key in both.state_dict()} == {"segment", "locate"}
    assert len(both.state_dict()) == len(network.state_dict()) + len(locator.network.state_dict())
    assert (both.depth, both.first_head, both.out_channels) == (2, 1, 3)


def test_a_network_too_large_to_locate_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="locator_features must hold whole numbers from 1 to 256 for 2 to 6 levels"):
        Locator(features=[10**9] * 3, classes=["none", "one"], structures=["one"], labels=[[1, 2]])


def test_the_made_head_is_what_these_tests_take_it_for():
    """Its blocks end where coarse voxels do, so that boxes can be compared exactly."""
    assert all(length % 3 == 0 for block in (HEAD, BRAIN, LEFT, RIGHT) for ends in block for length in ends)
    array, classes = made_head().array[0], made_classes()
    assert array[at(LEFT)].mean() == pytest.approx(INTENSITIES[1], abs=1e-3)
    assert sorted(np.unique(classes)) == list(range(len(INTENSITIES)))
