"""Which depth is enough, and of which labels the largest piece alone is kept."""

import numpy as np
import pytest

from unetpp_monai.workflows.cross_validation import (
    CrossValidation,
    choose_components,
    choose_depth,
    with_components,
)
from unetpp_monai.workflows.evaluate import CaseMetrics

RNG = np.random.default_rng(0)
FULL = RNG.uniform(0.8, 0.95, (30, 2))  # Dice of cases and labels


SCATTER = np.tile([[0.06], [-0.06]], (15, 1))  # over the cases, 0 in the mean


def worse(by, label=slice(None)):
    dice = FULL + RNG.normal(0, 0.0005, FULL.shape)
    dice[:, label] -= by
    return dice


@pytest.mark.parametrize(
    ("dice", "max_loss", "depth"),
    [
        ({1: worse(0.001), 2: worse(0), 3: FULL}, 0.002, 1),
        ({1: worse(0.003), 2: worse(0.001), 3: FULL}, 0.002, 2),
        ({1: worse(0.003), 2: worse(0.001), 3: FULL}, 0.004, 1),
        ({1: worse(0.1), 2: worse(0.1), 3: FULL}, 0.002, 3),
        ({1: worse(0.007, label=1), 2: worse(0.001), 3: FULL}, 0.01, 2),  # a label loses, its mean does not
        ({1: worse(0.001) + SCATTER, 2: worse(0.001), 3: FULL}, 0.02, 2),  # too uncertain over the cases
        ({1: worse(0.1), 2: FULL, 3: worse(0.02)}, 0.002, 2),  # the deepest is not the best
        ({1: FULL[:1], 2: FULL[:1] - 0.1, 3: FULL[:1] - 0.2}, 0.002, 3),  # one case shows nothing
    ],
)
def test_the_shallowest_depth_that_is_as_good(dice, max_loss, depth):
    assert choose_depth(dice, max_loss=max_loss).depth == depth


def rows(**dice):
    """Of two cases: label -> Dice of each."""
    return tuple(
        CaseMetrics(values[case], 0.0, 1.0, 0.0, 0.0, 0.0, f"case{case}", label)
        for case in range(2)
        for label, values in dice.items()
    )


def test_the_largest_piece_is_kept_where_it_gains():
    raw, kept = rows(liver=(0.8, 0.9), tumour=(0.5, 0.6)), rows(liver=(0.9, 0.89), tumour=(0.5, 0.5))
    found = CrossValidation({}, (), "mm", {1: "liver", 2: "tumour"}, {1: raw}, {1: kept})
    assert choose_components(found, 1) == (1,)
    np.testing.assert_allclose(with_components(found, [1]).dice(1), [[0.9, 0.5], [0.89, 0.6]])
    assert with_components(found, []).rows == found.rows
    same = CrossValidation({}, (), "mm", found.labels, {1: raw}, {1: raw})
    pictures = CrossValidation({}, (), "px", found.labels, {1: raw}, {})
    assert choose_components(same, 1) == choose_components(pictures, 1) == ()
    assert with_components(pictures, []).rows == pictures.rows
