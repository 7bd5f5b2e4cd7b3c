"""One command from a folder to a bundle, which goes on where it stopped."""

import json

import pytest
from helpers.commands import read, unetpp
from helpers.own_task import make_data

from unetpp_monai.errors import InputError
from unetpp_monai.files import sha256
from unetpp_monai.planning import Options, check, find_dataset
from unetpp_monai.workflows import run as workflow

pytestmark = [pytest.mark.slow, pytest.mark.long]

RUN = ("run", "data", "-o", "work", "--steps", "14", "--modality", "ct")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_data(folder / "data")
    done = unetpp(*RUN, folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "to the same voxels" in done.stdout
    return folder / "work"


def test_each_training_has_half_of_the_time(tmp_path, monkeypatch):
    """A real training of a given time is too long for a test."""
    make_data(tmp_path / "data")
    asked = []

    def note(task, *, fold, time, **_):
        asked.append((fold, time))
        if fold == "all":
            raise InputError("enough")

    monkeypatch.setattr(workflow, "train", note)
    checked = check(find_dataset(tmp_path / "data"))
    with pytest.raises(InputError, match="enough"):
        workflow.run(checked, tmp_path / "work", plan_options=Options(modality="ct"), seconds=7200)
    assert asked == [(0, 3600), ("all", 3600)]


def test_ways_out_are_those_of_this_command(tmp_path, monkeypatch):
    """It has no option `--fresh`."""
    make_data(tmp_path / "data")

    def refuse(*_, **__):
        raise InputError("a training keeps its length; begin anew", option="fresh")

    monkeypatch.setattr(workflow, "train", refuse)
    checked, options = check(find_dataset(tmp_path / "data")), Options(modality="ct")
    with pytest.raises(InputError, match=r"begin anew, by a fresh training of .*data, fold 0") as raised:
        workflow.run(checked, tmp_path / "work", plan_options=options, steps=3)
    assert raised.value.option is None
    with pytest.raises(InputError, match="got both; give one"):
        workflow.run(checked, tmp_path / "other", plan_options=options, steps=3, seconds=60)
    assert not (tmp_path / "other").exists()


def test_a_data_set_becomes_a_bundle(work):
    runs = work / "data" / "runs"
    records = {name: read(runs / name / "run.json") for name in ("fold0", "all")}
    assert {name: record["steps"] for name, record in records.items()} == {"fold0": 14, "all": 14}
    assert (runs / "fold0" / "validation.json").is_file() and not (runs / "all" / "validation.json").exists()
    root = work / "dist" / "unetpp_data_segmentation"
    assert sha256(root / "models" / "model.pt") == sha256(runs / "all" / "model.pt")
    assert "trained on all cases" in (root / "docs" / "README.md").read_text()


def test_the_same_command_goes_on_where_it_stopped(work):
    runs, archive = work / "data" / "runs", work / "dist" / "unetpp_data_segmentation.zip"
    weights = {name: (runs / name / "model.pt").stat().st_mtime_ns for name in ("fold0", "all")}
    done = unetpp(*RUN, folder=work.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is planned already" in done.stdout and "holds these weights already" in done.stdout
    archive.rename(work / "other.zip")
    archive.with_suffix("").rename(work / "other")
    done = unetpp(*RUN, folder=work.parent)
    assert done.returncode == 0 and archive.is_file(), done.stderr[-3000:]
    assert weights == {name: (runs / name / "model.pt").stat().st_mtime_ns for name in weights}


def test_another_plan_is_refused(work):
    before = (work / "data" / "task.json").read_text()
    done = unetpp(*RUN, "--spacing", "2,2,2", folder=work.parent)
    assert done.returncode == 1 and "must be the plan of these data and options" in done.stderr
    (work / "data" / "task.json").write_text(json.dumps({**json.loads(before), "overlap": 0.25}))
    done = unetpp(*RUN, folder=work.parent)
    assert done.returncode == 1 and "got another task.json" in done.stderr
    (work / "data" / "task.json").write_text(before)
