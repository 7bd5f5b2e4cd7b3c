"""`unetpp train`: a time or a number of steps, killed and stopped anywhere, what it says, and what it prepares once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from helpers.commands import UNETPP, unetpp
from helpers.datasets import folders, made_cases
from helpers.tiny import TINY
from helpers.waiting import wait_for

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums are the same with the same number of threads alone


@pytest.fixture
def own(tmp_path):
    shutil.copytree(
        ROOT / "configs" / "hippocampus", tmp_path / "own", ignore=shutil.ignore_patterns("model.pt", "docs")
    )
    return tmp_path / "own"


def arguments(msd_folder, *extra, **values):
    values = {key: value for key, value in {**TINY, **values}.items() if key != "val_interval"}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["train", "own", "--dataset", str(msd_folder), *settings, *map(str, extra)]


def train(own, msd_folder, *extra, code=0, **values):
    done = unetpp(*arguments(msd_folder, *extra, **values), folder=own.parent, environment=ENVIRONMENT)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def read(path):
    return json.loads(path.read_text())


@pytest.mark.long
def test_a_number_of_steps_is_trained_and_told(own, msd_folder):
    done = train(own, msd_folder, "--steps", 14, "--fold", "0,1")
    fold = own / "runs" / "fold0"
    record, history = read(fold / "run.json"), read(fold / "history.json")
    assert (record["steps"], record["finished"]) == (14, True)
    assert record["max_epochs"] * record["steps_per_epoch"] == 14 == record["max_epochs"]
    rows = history["epochs"]
    assert [row["epoch"] for row in rows] == list(range(1, 15)) and rows[-1]["learning_rate"] < rows[1]["learning_rate"]
    assert all(len(row["dice_per_depth"]) == 3 and len(row["dice_per_label"]) == 2 for row in rows)
    assert all(row["dice"] == row["dice_per_depth"][-1] for row in rows)
    lines = [line for line in done.stderr.splitlines() if line.startswith("12/14")]
    assert "Dice d1 " in lines[0] and "| anterior" in lines[0] and "left" in lines[0] and "best ." in lines[0]
    assert "s per step" in done.stderr and "ignite" not in done.stderr and "Epoch" not in done.stdout
    log = (fold / "log.txt").read_text()
    assert lines[0].split("  left")[0] in log and "val_mean_dice" in log
    ElementTree.parse(fold / "history.svg")
    assert done.stdout == "own/runs/fold0/model.pt\nown/runs/fold1/model.pt\n"
    assert len(list((own / "cache").glob("*/*.pt"))) == 6  # that both folds share
    again = train(own, msd_folder, "--steps", 14)
    assert again.stderr.startswith("own/runs/fold0 is finished already: mean Dice 0.")
    assert "on 2 held-out cases; start fresh to train it again" in again.stderr and "14/14" not in again.stderr
    other = train(own, msd_folder, "--steps", 15, code=1).stderr
    assert "keeps the length with which it began, 14 steps, got 15 steps" in other and "(--fresh)" in other


def test_a_time_fixes_the_steps_once(own, msd_folder):
    stated = read(own / "task.json")
    (own / "task.json").write_text(json.dumps({**stated, "max_time": "25s"}))  # as `plan --time` writes it
    start = time.monotonic()
    train(own, msd_folder, "--fold", "0")
    assert time.monotonic() - start < 60  # the commands beside it take theirs
    record = read(own / "runs" / "fold0" / "run.json")
    steps = record["max_epochs"] * record["steps_per_epoch"]
    validations = record["max_epochs"] // record["val_interval"]
    measured, cases = record["measured"], record["val_cases"] or record["measured"]["cases"]
    planned = measured["used"] + steps * measured["step"] + validations * measured["case"] * cases
    assert 15 < planned < 25 and record["time"] == 25
    (own / "runs" / "fold0" / "run.json").write_text(json.dumps({**record, "finished": False}))
    other = train(own, msd_folder, "--time", "1min", code=1).stderr
    assert "25 s, got 1 min; give the same or none" in other
    assert read(own / "runs" / "fold0" / "run.json") == {**record, "finished": False}


@pytest.mark.long
def test_two_processes_train_together(own, msd_folder):
    """As torchrun starts them for two GPUs; here on the CPU."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "unetpp_monai"]
    command = [*UNETPP[:-2], *launcher, *arguments(msd_folder, "--time", "25s", batch_size=1)]
    done = subprocess.run(command, cwd=own.parent, env=ENVIRONMENT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    record, history = (read(own / "runs" / "fold0" / name) for name in ("run.json", "history.json"))
    assert record["finished"] and len(history["epochs"]) == record["max_epochs"]
    assert not any(
        key.startswith("module.") for key in torch.load(own / "runs" / "fold0" / "model.pt", weights_only=True)
    )


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the processes of torchrun are found in /proc")
def test_two_processes_that_are_killed_go_on(own, msd_folder):
    """To the weights of an undisturbed training of two processes, also within an epoch."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "unetpp_monai"]
    values = {"batch_size": 1, "save_seconds": 0.1, "steps_per_epoch": 20, "max_epochs": 2, "val_interval": 2}
    command = [*UNETPP[:-2], *launcher, *arguments(msd_folder, "--fold", 0, **values)]
    fold = own / "runs" / "fold0"
    with subprocess.Popen(command, cwd=own.parent, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as training:
        wait_for(lambda: [*fold.glob("progress_*step=*.pt")] or training.poll() is not None, "a checkpoint")
        for child in Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    assert training.returncode and not (fold / "progress_final.pt").exists()
    for place in ((), ("-o", "whole")):
        done = subprocess.run([*command, *place], cwd=own.parent, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    killed, whole = (
        (read(folder / "history.json")["epochs"], torch.load(folder / "progress_final.pt", weights_only=True)["model"])
        for folder in (fold, own.parent / "whole")
    )
    assert [[row["epoch"], row["loss"]] for row in killed[0]] == [[row["epoch"], row["loss"]] for row in whole[0]]
    assert all(torch.equal(value, killed[1][key]) for key, value in whole[1].items())


def test_wishes_that_contradict_each_other_are_refused(own, msd_folder):
    assert "got both; give one" in train(own, msd_folder, "--time", "2h", "--steps", 9, code=1).stderr
    assert "fixes max_epochs" in train(own, msd_folder, "--steps", 9, code=1, max_epochs=3).stderr
    assert "such as 2h, 45min" in train(own, msd_folder, "--time", "soon", code=1).stderr
    assert "got 'runs' (--mlflow)" in train(own, msd_folder, "--mlflow", "runs", code=1).stderr
    if find_spec("mlflow") is None:
        assert "pip install mlflow" in train(own, msd_folder, "--mlflow", "sqlite:///a.db", code=1).stderr
    said = train(own, msd_folder, "--set", "max_time=soon", code=1).stderr
    assert "max_time must be such as 2h" in said
    assert "device must" in train(own, msd_folder, "--device", "cuda:9", code=1).stderr.splitlines()[-1]
    assert not (own / "runs").exists() or not list(own.glob("runs/*/run.json"))


def test_a_loss_that_is_no_number_names_its_cases(own, msd_folder):
    done = train(own, msd_folder, "--steps", 9, code=1, learning_rate=1e30, amp="false")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: a loss must be finite, got nan in step") and "with the cases case_" in last
    assert "Traceback" not in done.stderr and "Traceback" in (own / "runs" / "fold0" / "log.txt").read_text()


def stopped(command, folder, after, number):
    """Send a training a signal so many seconds after its first checkpoint; its exit code and last line."""
    fold = folder / "own" / "runs" / "fold0"

    def checkpoints():
        found = set()
        for path in fold.glob("progress_*step=*.pt"):
            with suppress(FileNotFoundError):  # a newer one has replaced it
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    before = checkpoints()
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as training:
        while training.poll() is None and not checkpoints() - before:
            time.sleep(0.02)
        time.sleep(after)
        training.send_signal(number)
        error = training.stderr.read()
    return training.returncode, (error.splitlines() or [""])[-1]


@pytest.mark.long
def test_wherever_it_is_killed_it_comes_to_the_same_weights(own, msd_folder, tmp_path):
    """Checkpoints within epochs, a kill, requests to stop and more kills, as many as the machine has time for."""
    command = [*UNETPP, *arguments(msd_folder, "--steps", 150, save_seconds=0.1, foreground_share=0.5)]
    chance = random.Random(0)
    signals, hit = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, *[signal.SIGKILL] * 4], []
    for number in signals:
        code, last = stopped(command, tmp_path, chance.uniform(0, 0.1), number)
        if code == 0:
            break  # it was faster than we
        assert code == (-9 if number == signal.SIGKILL else 128 + number)
        assert number == signal.SIGKILL or last == "stopped; run the same command to resume"
        assert any("step=" in path.name for path in own.glob("runs/fold0/progress_*"))
        hit.append(number)
    assert len(hit) >= 5
    subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    subprocess.run([*command, "-o", "whole"], cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    for name in ("progress_final.pt", "model.pt"):
        killed, whole = (
            torch.load(folder / name, weights_only=True) for folder in (own / "runs/fold0", tmp_path / "whole")
        )
        killed, whole = (part.get("model", part) for part in (killed, whole))
        assert all(torch.equal(value, killed[key]) for key, value in whole.items())
    told = [
        [
            {key: row.get(key) for key in ("epoch", "loss", "dice", "learning_rate")}
            for row in read(folder / "history.json")["epochs"]
        ]
        for folder in (own / "runs/fold0", tmp_path / "whole")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["a#b", "$@##a::b"])
def test_folders_are_called_by_what_monai_computes(tmp_path, name):
    folders(tmp_path / name, made_cases(shape=(16, 16, 16)))
    (tmp_path / "a::b").mkdir()  # no other is taken for it
    for command in (
        ("plan", name, "-o", f"task{name}", "--memory", "2GiB"),
        ("train", f"task{name}", "--fold", "0", "--steps", "1", "--device", "cpu", "--dataset", name),
        ("pack", f"task{name}", "-o", f"dist{name}"),
    ):
        done = unetpp(*command, folder=tmp_path, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / f"task{name}" / "runs" / "fold0" / "model.pt").is_file()
    assert len(list((tmp_path / f"dist{name}").glob("*.zip"))) == 1
    assert not list((tmp_path / "a::b").iterdir())
