"""A training that was too short, or learned nothing, is told; its length is said with units."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from unetpp_monai.files import in_the_way
from unetpp_monai.training import Measured, schedule_of_time, seconds_for
from unetpp_monai.workflows import training_end, training_length
from unetpp_monai.workflows.card import _length
from unetpp_monai.workflows.cross_validation import CrossValidation
from unetpp_monai.workflows.cross_validation import Run as Training
from unetpp_monai.workflows.evaluate import CaseMetrics
from unetpp_monai.workflows.pack_runs import _doubts
from unetpp_monai.workflows.training_end import say_end
from unetpp_monai.workflows.training_length import fix_length, length_in_words
from unetpp_monai.workflows.training_log import LOG, log_into, log_warnings
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


def test_pack_doubts_the_packed_run_and_the_folds(tmp_path):
    records = {
        "all": {"trained_steps": 1, "epoch_steps": 50},
        "fold0": {"trained_steps": 9, "epoch_steps": 50},
        "fold1": {},
    }
    runs = {name: Training(name, tmp_path, record) for name, record in records.items()}
    depths = {1: rows("organ", 0.06)}
    found = CrossValidation({"fold0": None, "fold1": None}, (), "mm", {1: "organ"}, depths, {})
    said = list(_doubts(runs["all"], runs, found))
    assert [line.split(" ")[0] for line in said] == ["all:", "fold0:", "organ"]
    assert said[0] == "all: 1 step of training is less than one epoch of the task, 50 steps; train longer"
    assert list(_doubts(runs["fold1"], runs, None)) == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_finished_training_is_said_with_its_dice_and_how_to_begin_anew(tmp_path, monkeypatch, caplog, finished):
    caplog.set_level(logging.INFO, "unetpp_monai")
    record = {"fold": 0, "num_folds": 3, "trained_steps": 1, "epoch_steps": 50}
    (tmp_path / "run.json").write_text(json.dumps(record))
    depths = {1: rows("organ", 0.0, 0.02), 2: rows("organ", 0.04, 0.08)}
    monkeypatch.setattr(training_end, "read_validation", lambda path: SimpleNamespace(depths=depths))
    say_end(tmp_path, before=finished)
    said = [entry.getMessage() for entry in caplog.records]
    assert said[-2].startswith("warning: 1 step of training is less") and said[-1].startswith(
        "warning: organ has a mean"
    )
    told = f"{tmp_path} is finished already: mean Dice 0.060 at full depth on 2 held-out cases; start fresh"
    assert len(said) == 2 + finished and (said[0].startswith(told) or not finished)
    (tmp_path / "run.json").write_text(json.dumps({**record, "fold": 3, "trained_steps": 50}))
    caplog.clear()
    say_end(tmp_path, before=True)
    assert len(caplog.records) == 1 and "no case was held out; start fresh" in caplog.text


def test_warnings_of_libraries_are_logged_and_not_printed(capsys, caplog):
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log_warnings():
            warnings.warn("of a library", UserWarning, stacklevel=1)
    assert "of a library" in caplog.text and capsys.readouterr().err == ""
    assert warnings.showwarning is before


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
    caplog.set_level(logging.INFO, "unetpp_monai")
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_neither_ends_a_training_by_its_log_nor_fills_the_terminal(tmp_path, capfd):
    (tmp_path / LOG).symlink_to("/dev/full")
    with log_into(tmp_path):
        logging.getLogger("of a library").warning("lost")
    assert capfd.readouterr() == ("", "")
    assert in_the_way(shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")])) == (
        "[Errno 28] No space left on device"
    )
