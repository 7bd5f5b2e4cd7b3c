"""A training that was too short, or learned nothing, is told; its length is said with units."""

import logging

import pytest

from unetpp_monai.training import Measured, schedule_of_time, seconds_for
from unetpp_monai.workflows import training_length
from unetpp_monai.workflows.card import _length
from unetpp_monai.workflows.evaluate import CaseMetrics
from unetpp_monai.workflows.training_length import fix_length, length_in_words
from unetpp_monai.workflows.training_run import Run
from unetpp_monai.workflows.undertrained import few_steps, unlearned


def rows(label, *dices):
    return tuple(
        CaseMetrics(
            **{**dict.fromkeys(CaseMetrics.__dataclass_fields__, 0), "case": str(at), "label": label, "dice": d}
        )
        for at, d in enumerate(dices)
    )


@pytest.mark.parametrize(
    ("trained", "epoch", "said"),
    [
        (1, 50, "1 step of training is less than one epoch of the task, 50 steps"),
        (49, 50, "49 steps of training are less than one epoch of the task, 50 steps"),
        (50, 50, ""),
        (1, 1, ""),
        (None, 50, ""),
        (1, None, ""),
    ],
)
def test_fewer_steps_than_an_epoch_are_told(trained, epoch, said):
    assert few_steps({"trained_steps": trained, "epoch_steps": epoch}) == said


def test_a_label_that_no_depth_finds_was_not_learned():
    learned = {1: (*rows("a", 0.0, 0.1), *rows("b", 0.0, 0.0)), 2: (*rows("a", 0.5, 0.0), *rows("b", 0.19, 0.0))}
    assert unlearned(learned) == ["b has a mean Dice of 0.095 on held-out cases, below 0.1: it was not learned"]
    assert unlearned({1: rows("a", 0.1, 0.1)}) == []


@pytest.mark.parametrize("steps", [1, 50, 2500])
@pytest.mark.parametrize("case", [0.0, 0.1, 9.0])
def test_so_many_steps_fit_into_the_time_that_is_advised(steps, case):
    measured = Measured(1.5, case, 28 if case else 0, used=60.0)
    seconds = seconds_for(steps, 50, measured)
    assert schedule_of_time(seconds, 50, measured).steps >= steps
    assert seconds < 2 * (60 + steps * 1.5 + 28 * case) / 0.95 + 1


def test_a_time_for_one_step_is_warned_of_with_a_time_that_suffices(tmp_path, monkeypatch, caplog):
    measured = Measured(6.0, 1.0, 3, used=98.8)
    monkeypatch.setattr(training_length, "measure", lambda run, since: measured)
    run = Run(None, tmp_path, {}, known={"steps_per_epoch": 50, "max_epochs": 50})
    with caplog.at_level(logging.INFO, "unetpp_monai"):
        record = fix_length(run, {"time": 112.0}, 0.0)
    first, second = (entry.getMessage() for entry in caplog.records)
    assert first == "1 step in 1 epoch of 1" and record["epoch_steps"] == 50
    assert second.startswith(
        "warning: 1 step of training is less than one epoch of the task, 50 steps; begin anew with at least "
    )
    least, all_ = (int(word) for word in second.split() if word.isdigit() and int(word) > 1 and word != "50")
    assert schedule_of_time(60 * least, 50, measured).steps >= 50 and all_ > 10 * least
    caplog.clear()
    fix_length(run, {"time": 60.0 * least}, 0.0)
    assert len(caplog.records) == 1
    caplog.clear()
    fix_length(run, {"steps": 7}, 0.0)
    assert caplog.records[-1].getMessage().endswith("50 steps; begin anew with more steps, the task states 2500")


@pytest.mark.parametrize(
    ("wished", "said"),
    [({"time": 120}, "2 min"), ({"time": 90.0}, "90 s"), ({"time": 5400}, "90 min"), ({"steps": 1}, "1 step")],
)
def test_a_length_has_its_unit(wished, said):
    assert length_in_words(wished) == said


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"max_epochs": 1, "trained_steps": 1, "epoch_steps": 50},
            "1 step in 1 epoch, of which 50 make one epoch of the task",
        ),
        ({"max_epochs": 3, "trained_steps": 12}, "12 steps in 3 epochs"),
        ({"max_epochs": 3}, "3 epochs"),
        ({}, "unknown"),
    ],
)
def test_the_card_tells_steps_beside_epochs(record, said):
    assert _length(record) == said
