"""Which depth is enough, and of which labels the largest piece alone is kept."""

import json

import numpy as np
import pytest

from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.workflows.cross_validation import (
    CrossValidation,
    choose_components,
    choose_depth,
    with_components,
)
from unetpp_monai.workflows.evaluate import CaseMetrics
from unetpp_monai.workflows.run_record import read_record
from unetpp_monai.workflows.validation import read_validation

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


@pytest.mark.parametrize(
    ("key", "value"),
    [("values", 5), ("num_folds", "3"), ("finished", "yes"), ("trained_steps", [1]), ("fold", True), ("steps", None)],
)
def test_a_record_with_another_kind_of_value_is_refused(tmp_path, key, value):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"schema": 2, "fold": 0, "measured": None, key: value}))
    with pytest.raises(BundleError, match=rf"must be what train wrote, got {key} .*; train this fold again"):
        read_record(path)


ROW = {"dice": 0.5, "iou": 0.4, "hd95": None, "surface_dice": 1.0, "volume_error": 0, "volume_error_percent": None}
LIVER, SPLEEN = ({**ROW, "case": "a", "label": label} for label in ("liver", "spleen"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depths": {"1": [{**LIVER, "dice": "high"}, SPLEEN]}}, "'high', which is no number"),
        ({"depths": {"1": [LIVER, SPLEEN], "2": [LIVER]}}, "rows that differ between depths"),
        ({"depths": {"1": [LIVER]}}, "rows of other cases or labels"),
        ({"depths": {"1": [{**LIVER, "case": 5}, {**SPLEEN, "case": 5}]}}, "rows that differ"),
        ({"depths": {}}, "rows of other cases"),
        ({"largest_component": {"2": [LIVER, SPLEEN]}}, "depths without largest_component"),
        ({"seconds": {"1": "long"}}, "'long', which is no number"),
        ({"seconds": {}}, "KeyError"),
        ({"labels": 5}, "AttributeError"),
    ],
)
def test_a_validation_with_other_rows_is_refused(tmp_path, changes, said):
    path = tmp_path / "validation.json"
    sound = {
        **{"schema": 1, "fold": 0, "unit": "mm", "weights": "a", "config": "b"},
        **{"labels": {"1": "liver", "2": "spleen"}, "seconds": {"1": 0.5}},
        **{"depths": {"1": [LIVER, SPLEEN]}, "largest_component": {}},
    }
    path.write_text(json.dumps(sound))
    assert len(read_validation(path).depths[1]) == 2
    path.write_text(json.dumps({**sound, **changes}))
    with pytest.raises(InputError, match=r"must be a validation that train wrote, got .*; remove it") as raised:
        read_validation(path)
    assert said in str(raised.value)
