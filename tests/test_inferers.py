"""Sweeping the network: depth, precision, windows."""

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from unetpp_monai.inferers import AutocastInferer, DepthInferer, has_fast_bfloat16, window_count
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
