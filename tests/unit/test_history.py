"""What a training says of itself: a line, a row, a curve, and the time that is left."""

import json
import logging
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest

from unetpp_monai.training import HeadsDice, History

OPTIMIZER = SimpleNamespace(param_groups=[{"lr": 0.01}])


def trainer(epoch, iteration):
    return SimpleNamespace(state=SimpleNamespace(epoch=epoch, iteration=iteration, epoch_length=4, rank=0))


def history(folder):
    made = History(folder, OPTIMIZER, HeadsDice(3), max_epochs=12, val_interval=2)
    made.labels = ["lesion", "liver"]
    made._evaluator = SimpleNamespace(state=SimpleNamespace(metrics={"dice": 0.85}, key_metric_name="dice"))
    return made


def test_an_epoch_is_a_line_a_row_and_a_point(tmp_path, caplog):
    told = history(tmp_path)
    told._losses, told._seconds, told._validated, told.validation_seconds = [0.5, 0.3], 8.0, True, 1.75
    told.dice.depths, told.dice.labels = [0.81, 0.85], [float("nan"), 0.93]
    told._recent.extend([2.0, 2.0])
    with caplog.at_level(logging.INFO):
        told._epoch(trainer(1, 4))
    said = "1/12  loss 0.400  Dice d1 .81 d2 .85 | lesion - liver .93  9.8 s  left 2 min  best .850 (epoch 1)"
    assert caplog.messages == [said]
    (row,) = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert row["dice_per_label"] == [None, 0.93] and row["learning_rate"] == 0.0
    svg = ElementTree.parse(tmp_path / "history.svg").getroot()
    assert len(svg.findall("{*}polyline")) == 3


def test_the_time_left_counts_steps_and_validations(tmp_path):
    told = history(tmp_path)
    assert told.left(trainer(0, 0)) is None
    told._recent.extend([1.0, 3.0])
    assert told.left(trainer(0, 0)) is None  # a validation's time is not known
    told.validation_seconds = 10.0
    assert told.left(trainer(0, 0)) == 48 * 2 + 6 * 10
    told.rows = [{"seconds": 8.0}] * 3
    assert told.left(trainer(3, 13)) == 35 * 2 + 5 * 10
    told._evaluator = None
    assert told.left(trainer(3, 13)) == 35 * 2


def test_a_checkpoint_takes_it_along(tmp_path):
    told, other = history(tmp_path), history(tmp_path)
    told.rows, told._losses, told._seconds = [{"seconds": 8.0, "validation_seconds": 2.0}], [0.5], 3.0
    other.load_state_dict(json.loads(json.dumps(told.state_dict())))
    assert other.used == pytest.approx(13.0) and other._losses == [0.5]
