"""Sweeping the network: depth, precision, windows."""

import math
import threading

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from unetpp_monai.errors import BundleError
from unetpp_monai.inference import (
    AutocastInferer,
    DepthInferer,
    EarlyExit,
    Windows,
    expected_error,
    has_fast_bfloat16,
    slide_windows,
    window_count,
)
from unetpp_monai.inference.autocast import has_wrong_gradients
from unetpp_monai.inference.slab import pack, unpack
from unetpp_monai.inference.sliding_window import relative_weights, stitching_weights
from unetpp_monai.networks import UNetPlusPlus


@pytest.fixture(scope="module")
def network():
    return UNetPlusPlus(2, 1, 2, (4, 8, 16)).eval()


def test_depth_reaches_every_window(network):
    images = torch.rand(1, 1, 40, 24)
    sliding = SlidingWindowInferer((16, 16), sw_batch_size=3, overlap=0.25, mode="gaussian")
    with torch.no_grad():
        for depth in (1, 2):
            expected = sliding(images, network.prune(depth))
            assert torch.equal(DepthInferer(sliding, depth=depth)(images, network), expected)
            assert torch.equal(DepthInferer(sliding)(images, network, depth=depth), expected)
        assert torch.equal(DepthInferer(sliding)(images, network), sliding(images, network))


def test_tiling_does_not_move_the_result():
    """A 1x1 network's result must not depend on how the image is cut into windows."""
    point = torch.nn.Conv2d(1, 2, 1)
    images = torch.rand(1, 1, 37, 29)
    with torch.no_grad():
        for roi in ((16, 16), (37, 29), (64, 8)):
            torch.testing.assert_close(
                SlidingWindowInferer(roi, overlap=0.5, mode="gaussian")(images, point), point(images)
            )


def test_autocast_only_where_the_device_has_bfloat16(network):
    images = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        expected = torch.bfloat16 if has_fast_bfloat16(images.device) else torch.float32
        assert AutocastInferer(SimpleInferer())(images, network).dtype == expected
        off = AutocastInferer(SimpleInferer(), enabled=False)(images, network)
        assert torch.equal(off, network(images))


def gradients(inferer, images):
    network = UNetPlusPlus(3, 1, 2, (16, 16, 16), seed=1).train()
    sum(head.float().square().sum() for head in inferer(images, network)).backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])


@pytest.mark.parametrize("size", [8, 7, 4])
def test_bfloat16_never_has_wrong_gradients(size, caplog):
    """A level of 2 voxels along the first axis: oneDNN reads beyond the data there."""
    images = torch.rand(2, 1, size, 16, 16)
    expected = gradients(SimpleInferer(), images)
    inferer = AutocastInferer(SimpleInferer())
    for _ in range(3):
        found = gradients(inferer, images)
        assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.99
    assert len(caplog.records) == has_fast_bfloat16(images.device)  # one warning in all
    assert not caplog.records or ("patch_size" in caplog.text and "amp false" in caplog.text)


def test_only_short_first_axes_of_volumes_have_wrong_gradients():
    network = UNetPlusPlus(3, 1, 2, (4, 8, 16), strides=[[1, 2, 2], [2, 2, 2]], kernel_size=[[1, 3, 3], 3, 5])
    wrong = {size for size in range(1, 20) if has_wrong_gradients(torch.zeros(1, 1, size, 8, 8), network)}
    assert wrong == {2, *range(3, 9)}  # 2 for the kernel of 3, up to 4 voxels for that of 5 at the last level
    wrapped = torch.nn.Module()
    wrapped.module = network
    assert has_wrong_gradients(torch.zeros(1, 1, 2, 8, 8), wrapped)
    assert not has_wrong_gradients(torch.zeros(1, 1, 32, 2, 2), network)
    assert not has_wrong_gradients(torch.zeros(1, 1, 2, 2), UNetPlusPlus(2, 1, 2, (4, 8)))
    with torch.no_grad():
        assert not has_wrong_gradients(torch.zeros(1, 1, 2, 8, 8), network)


@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (40, 90), (5, 33)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_window_count_is_monais(shape, overlap):
    seen = 0

    def network(windows):
        nonlocal seen
        seen += len(windows)
        return windows

    SlidingWindowInferer((16, 16), sw_batch_size=2, overlap=overlap)(torch.rand(1, 1, *shape), network)
    assert window_count(shape, (16, 16), overlap) == seen


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(
    ("shape", "roi"), [((37, 24, 16), (16, 12, 16)), ((9, 40, 21), (16, 16, 16)), ((50, 31), (16, 8))]
)
def test_slabs_are_the_bits_of_monais_sliding_window(shape, roi, overlap):
    network = UNetPlusPlus(len(shape), 1, 3, (4, 8)).eval()
    image = torch.rand(1, 1, *shape)
    sliding = SlidingWindowInferer(roi, sw_batch_size=3, overlap=overlap, mode="gaussian", cval=-1)
    with torch.no_grad():
        slabs = list(slide_windows(image, lambda windows: Windows(network(windows)), sliding))
        assert [slab.start for slab in slabs[1:]] == [slab.start + slab.logits.shape[1] for slab in slabs[:-1]]
        assert torch.equal(torch.cat([slab.logits for slab in slabs], 1), sliding(image, network)[0])


@pytest.mark.parametrize(
    ("shape", "roi", "mode"),
    [
        ((40, 24), (16, 16), "gaussian"),
        ((9, 30), (16, 12), "gaussian"),
        ((18, 22, 16), (16, 12, 16), "gaussian"),
        ((40, 24), (16, 16), "constant"),
    ],
)
def test_relative_weights_are_those_of_the_stitching(shape, roi, mode):
    sliding, cut = SlidingWindowInferer(roi, sw_batch_size=1, overlap=0.5, mode=mode), []
    image = torch.arange(1.0, math.prod(shape) + 1).reshape(1, 1, *shape)  # 0 is padding
    list(slide_windows(image, lambda window: cut.append(window[0, 0]) or Windows(window), sliding))
    weights, most = stitching_weights(roi, mode, (0.125,) * len(roi), image.device), torch.zeros(image.numel() + 1)
    for window in cut:
        most[window.long()] = torch.maximum(most[window.long()], weights)
    found = relative_weights(shape, sliding)
    for number, window in enumerate(cut):
        inside = window > 0
        assert torch.allclose(found(number)[inside], (weights / most[window.long()])[inside], rtol=1e-4)


class Unsure:
    """A network of depth 3 whose heads know a window better the deeper they are, except for windows of noise."""

    depth, first_head, out_channels = 3, 1, 2

    def __init__(self):
        self.seen = []

    def step(self, grid, depth, *, last):
        assert last is (depth == 3)
        windows = grid.get("image", grid.get("x"))
        grid["x"] = windows
        self.seen.append(len(windows))
        return torch.stack([-windows[:, 0], windows[:, 0]], 1) * depth


def test_a_sweep_that_is_given_up_leaves_nothing_running():
    """Windows are cut out ahead, in a thread; stitching weights that were kept in inference mode serve autograd too."""
    sliding = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian", sigma_scale=0.25)
    threads = threading.active_count()
    with torch.inference_mode():
        slabs = slide_windows(torch.rand(1, 1, 32, 32), Windows, sliding)
        next(slabs)
        assert threading.active_count() == threads + 1
        slabs.close()
    assert threading.active_count() == threads
    with torch.inference_mode():
        expected_error(torch.rand(1, 2, 8, 8))
    logits = torch.rand(1, 2, 8, 8, requires_grad=True)
    expected_error(logits).sum().backward()
    assert logits.grad is not None


def test_windows_stop_when_they_are_decided():
    """Windows of value v have margins 2 * v * depth, so that each passes the threshold at a depth of its own."""
    windows = torch.ones(4, 1, 8, 8) * torch.tensor([4.0, 1.5, 0.9, 0.0]).reshape(4, 1, 1, 1)
    windows[:3, 0, 0, 0] += 0.01  # the last one is constant
    network = Unsure()
    early_exit = EarlyExit(network, (0.01, 0.01))
    found = early_exit(windows)
    logits = found.logits
    assert found.maps is None
    assert network.seen == [3, 2, 1] and dict(early_exit.counts) == {0: 1, 1: 1, 2: 1, 3: 1}
    for window, depth in zip(range(3), (1, 2, 3), strict=True):
        assert torch.equal(logits[window, 1], windows[window, 0] * depth)
    assert (logits[3].argmax(0) == 0).all()
    with pytest.raises(ValueError, match="a head must be at every depth, got a network whose first is at 2"):
        EarlyExit(UNetPlusPlus(2, 1, 2, (4, 8, 16), deep_supervision=False, final_head_only=True))
    with pytest.raises(ValueError, match=r"exit thresholds must be from 0 to 1, got \[0\.5, 1\.5\]"):
        EarlyExit(network, (0.5, 1.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_no_threshold_gives_the_bits_of_the_full_network(dims):
    network = UNetPlusPlus(dims, 1, 3, (4, 8, 16)).eval()
    image = torch.rand(1, 1, *(40, 24, 24)[:dims])
    sliding = SlidingWindowInferer((16,) * dims, sw_batch_size=3, overlap=0.5, mode="gaussian")
    with torch.no_grad():
        full = sliding(image, network)
        assert torch.equal(DepthInferer(sliding, depth="auto")(image, network), full)
        assert torch.equal(DepthInferer(sliding, depth="full")(image, network), full)
        predictor = DepthInferer(sliding, exit_thresholds=(0.0,)).predictor(network, "auto")
        for _ in slide_windows(image, predictor, sliding):
            pass
        assert {depth for depth, count in predictor.early_exit.counts.items() if count} == {2}


def test_windows_that_go_on_alone_keep_their_logits():
    network = UNetPlusPlus(3, 1, 3, (4, 8, 16)).eval()
    windows = torch.rand(5, 1, 16, 16, 16) * torch.tensor([1.0, 5, 1, 5, 1]).reshape(5, 1, 1, 1, 1)
    with torch.no_grad():
        first, full = network.heads(windows)
        doubts = expected_error(first)
        early_exit = EarlyExit(network, (float(doubts.sort().values[2]),))  # two are below
        logits = early_exit(windows).logits
    stopped = doubts < early_exit.thresholds[1]
    assert early_exit.counts == {0: 0, 1: 2, 2: 3}
    assert torch.equal(logits[stopped], first[stopped])
    torch.testing.assert_close(logits[~stopped], full[~stopped], rtol=0, atol=1e-5)


def test_mirrored_passes_are_averaged():
    """An even network is the same when mirrored; the mean over mirror images of any network is even."""
    network = UNetPlusPlus(2, 1, 2, (4, 8)).eval()
    image = torch.rand(1, 1, 16, 16)
    sliding = SlidingWindowInferer((16, 16))
    with torch.no_grad():
        mean = DepthInferer(sliding, mirror_axes=(0, 1))(image, network)
        flipped = [network(image.flip(axes)).flip(axes) for axes in ((2,), (3,), (2, 3))]
        torch.testing.assert_close(mean, (network(image) + sum(flipped)) / 4)


def test_uncertainty_is_entropy_and_disagreement_of_the_heads():
    network = UNetPlusPlus(2, 1, 3, (4, 8, 16)).eval()
    windows = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        result = DepthInferer(SimpleInferer(), uncertainty=True)(windows, network)
        p = torch.stack([logits.softmax(1) for logits in network.heads(windows)])
        assert torch.equal(result[:, :3], network(windows))
        entropy = torch.distributions.Categorical(p.mean(0).movedim(1, -1)).entropy()
        each = torch.distributions.Categorical(p.movedim(2, -1)).entropy().mean(0)
        torch.testing.assert_close(result[:, 3], entropy / torch.tensor(3).log())
        torch.testing.assert_close(result[:, 4], (entropy - each) / torch.tensor(3).log(), atol=1e-6, rtol=1e-3)
        flat = torch.zeros(1, 1, 16, 16)  # skipped by depth auto only
        assert torch.equal(DepthInferer(SimpleInferer(), uncertainty=True)(flat, network)[:, :3], network(flat))
        alone = DepthInferer(SimpleInferer(), depth=1, uncertainty=True)(windows, network)
        assert alone[:, 4].max() < 1e-6  # one head agrees with itself
        predictor = DepthInferer(SimpleInferer(), exit_thresholds=(1.0,)).predictor(network, "auto", uncertainty=True)
        torch.testing.assert_close(pack(predictor(windows)), alone)  # every window stops at once


@pytest.mark.parametrize("options", [{}, {"mirror_axes": (0, 1)}, {"depth": "auto", "exit_thresholds": (0.3,)}])
@pytest.mark.parametrize("inner", [SlidingWindowInferer((16, 12), 3, overlap=0.5, mode="gaussian"), SimpleInferer()])
def test_maps_travel_beside_the_logits_and_are_those_that_monai_is_given(options, inner):
    """One tensor through MONAI's door, two in slabs: equal to the bit, and logits are those without maps."""
    network = UNetPlusPlus(2, 1, 3, (4, 8, 16)).eval()
    image = torch.rand(1, 1, 37, 29)
    with torch.no_grad():
        packed = DepthInferer(inner, uncertainty=True, **options)(image, network)[0]
        inferer = DepthInferer(inner, **options)
        slabs = list(inferer.slabs(image, inferer.predictor(network, uncertainty=True)))
        plain = list(inferer.slabs(image, inferer.predictor(network)))
    whole = unpack(packed, maps=True)
    assert whole.logits.shape == (3, 37, 29) and whole.maps.shape == (2, 37, 29)
    assert torch.equal(torch.cat([slab.logits for slab in slabs], 1), whole.logits)
    assert torch.equal(torch.cat([slab.maps for slab in slabs], 1), whole.maps)
    assert all(slab.maps is None for slab in plain) and unpack(packed, maps=False).maps is None
    assert torch.equal(torch.cat([slab.logits for slab in plain], 1), whole.logits)


def test_an_inferer_that_cannot_be_swept_is_named():
    with pytest.raises(BundleError, match="must be a SlidingWindowInferer or SimpleInferer, got AutocastInferer"):
        next(DepthInferer(AutocastInferer(SimpleInferer())).slabs(torch.rand(1, 1, 8, 8), Windows))
