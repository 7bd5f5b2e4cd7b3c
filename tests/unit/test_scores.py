"""Dice of every depth in one validation pass, as MONAI's own metric has it."""

from types import SimpleNamespace

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.networks import one_hot

from unetpp_monai.inference import DepthInferer, HeadsInferer
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.training import HeadsDice


@pytest.mark.parametrize("inferer", [SimpleInferer(), SlidingWindowInferer((16, 16), 2, 0.5, mode="gaussian")])
def test_label_maps_of_all_depths_come_from_one_sweep(inferer):
    network = UNetPlusPlus(2, 1, 3, (4, 8, 8)).eval()
    images = torch.randn(2, 1, 24, 20)
    with torch.no_grad():
        maps = HeadsInferer(DepthInferer(inferer))(images, network)
        wanted = [DepthInferer(inferer, depth=depth)(images, network).argmax(1) for depth in (1, 2)]
    assert maps.shape == (2, 2, 24, 20) and all(torch.equal(maps[:, at], wanted[at]) for at in (0, 1))


def test_another_network_has_one_depth():
    network = torch.nn.Conv2d(1, 3, 1)
    assert HeadsInferer(DepthInferer(SimpleInferer()))(torch.randn(1, 1, 8, 8), network).shape == (1, 1, 8, 8)


def test_means_are_those_of_monai():
    torch.manual_seed(0)
    heads = torch.randint(0, 4, (5, 2, 8, 9, 7))
    labels = torch.randint(0, 4, (5, 1, 8, 9, 7))
    labels[1][labels[1] == 2] = 0  # one case lacks a label,
    labels[3] = 0  # and one all of them
    metric = HeadsDice(4, depth=2)
    engine = SimpleNamespace(state=SimpleNamespace(metrics={}))
    for pred, label in zip(heads, labels, strict=True):
        engine.state.output = [{"pred": pred, "label": label.float()}]
        metric._add(engine)
    metric._state(engine, "dice")
    for depth in (0, 1):
        wanted = DiceMetric(include_background=False)
        wanted(one_hot(heads[:, depth : depth + 1], 4), one_hot(labels, 4))
        assert metric.depths[depth] == pytest.approx(wanted.aggregate().item())
    by_label = DiceMetric(include_background=False, reduction="mean_batch")
    by_label(one_hot(heads[:, 1:], 4), one_hot(labels, 4))
    assert metric.labels == pytest.approx(by_label.aggregate().tolist())
    assert engine.state.metrics == {"dice": metric.depths[1]}


def test_a_label_that_no_case_shows_is_no_number():
    metric = HeadsDice(3)
    table = metric.table(torch.tensor([[[1, 1, 2]]]), torch.tensor([[1, 0, 0]]))
    assert table[0, 0] == pytest.approx(2 / 3) and table[0, 1].isnan()
