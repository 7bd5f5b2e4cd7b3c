"""Imported weights give the logits of the network they came from."""

import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from unetpp_monai.networks.convert import from_basic_unetplusplus, from_nested_unet

pytestmark = pytest.mark.slow

SMALL = (8, 16, 24, 32, 64, 12)


class ReferenceNestedUNet(nn.Module):
    """The layout of the `NestedUNet` that `from_nested_unet` documents, written for this test."""

    def __init__(self, in_channels, classes, widths, deep_supervision):
        super().__init__()
        self.levels = len(widths)
        for row in range(self.levels):
            for column in range(self.levels - row):
                below = in_channels if row == 0 else widths[row - 1]
                channels = widths[row] * column + widths[row + 1] if column else below
                self.add_module(f"conv{row}_{column}", self.block(channels, widths[row]))
        names = [f"final{d}" for d in range(1, self.levels)] if deep_supervision else ["final"]
        for name in names:
            self.add_module(name, nn.Conv2d(widths[0], classes, 1))
        self.names = names

    @staticmethod
    def block(channels, width):
        return nn.ModuleDict(
            {
                "conv1": nn.Conv2d(channels, width, 3, padding=1),
                "bn1": nn.BatchNorm2d(width),
                "conv2": nn.Conv2d(width, width, 3, padding=1),
                "bn2": nn.BatchNorm2d(width),
            }
        )

    def node(self, row, column, x):
        block = getattr(self, f"conv{row}_{column}")
        x = torch.relu(block["bn1"](block["conv1"](x)))
        return torch.relu(block["bn2"](block["conv2"](x)))

    def forward(self, x):
        grid = {}
        for row in range(self.levels):
            grid[row, 0] = self.node(row, 0, max_pool2d(grid[row - 1, 0], 2) if row else x)
        for column in range(1, self.levels):
            for row in range(self.levels - column):
                up = interpolate(grid[row + 1, column - 1], scale_factor=2, mode="bilinear", align_corners=True)
                grid[row, column] = self.node(row, column, torch.cat([*(grid[row, k] for k in range(column)), up], 1))
        first = self.levels - len(self.names)
        return [getattr(self, name)(grid[0, first + index]) for index, name in enumerate(self.names)]


def trained(network, channels, dims):
    """Give the batch norms statistics that matter."""
    network.train()(torch.randn(4, channels, *(32,) * dims))
    return network.eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"upsample": "nontrainable"}, {"norm": "batch", "features": SMALL}, {"bias": False}], ids=str
)
def test_basic_unetplusplus(dims, options):
    options = {"features": (8, 16, 24, 32, 64, 8), **options}
    source = trained(BasicUNetPlusPlus(dims, 2, 3, deep_supervision=True, **options), 2, dims)
    network = from_basic_unetplusplus(source.state_dict())
    for size in ((32, 32, 32), (40, 35, 33)):
        images = torch.randn(2, 2, *size[:dims])
        with torch.no_grad():
            for ours, theirs in zip(network.heads(images), source(images), strict=True):
                assert (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("dims", [2, 3])
def test_basic_unetplusplus_with_its_defaults(dims):
    source = BasicUNetPlusPlus(dims).eval()
    images = torch.randn(1, 1, *(32,) * dims)
    with torch.no_grad():
        assert (from_basic_unetplusplus(source.state_dict())(images) - source(images)[0]).abs().max() <= 1e-5


@pytest.mark.parametrize(("deep_supervision", "parameters"), [(False, 9_163_329), (True, 9_163_428)])
def test_nested_unet(deep_supervision, parameters):
    source = trained(ReferenceNestedUNet(3, 1, (32, 64, 128, 256, 512), deep_supervision), 3, 2)
    network = from_nested_unet(source.state_dict())
    images = torch.randn(2, 3, 48, 32)
    with torch.no_grad():
        for ours, theirs in zip(network.heads(images), source(images), strict=True):
            assert (ours - theirs).abs().max() <= 1e-5
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network(torch.randn(1, 3, 17, 33)).shape == (1, 1, 17, 33)  # the source takes multiples of 16 only


def nested():
    return ReferenceNestedUNet(1, 1, (4, 8, 16), True).state_dict()


def basic():
    return BasicUNetPlusPlus(2, features=SMALL).state_dict()


@pytest.mark.parametrize(("load", "state"), [(from_nested_unet, nested), (from_basic_unetplusplus, basic)])
def test_what_does_not_fit_is_refused(load, state):
    def drop(weights):
        del weights[list(weights)[-1]]

    def add(weights):
        weights["extra.weight"] = torch.zeros(1)

    def reshape(weights):
        key = next(key for key in weights if key.endswith("bias"))
        weights[key] = torch.zeros(99)

    def rename(weights):
        for key in list(weights):
            weights[f"module.{key}"] = weights.pop(key)

    for change, message in ((drop, "missing|must have an entry"), (add, "unknown extra.weight"), (reshape, "must be")):
        weights = dict(state())
        change(weights)
        with pytest.raises(ValueError, match=message):
            load(weights)
    weights = dict(state())
    rename(weights)
    with pytest.raises(ValueError, match=r"not a .* state dict"):
        load(weights)
    with pytest.raises(ValueError, match=r"not a .* state dict"):
        load({})
