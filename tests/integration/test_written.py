"""Every command that writes files ends by saying which, or in which folder."""

from types import SimpleNamespace

import pytest
from helpers.public_api import current
from typer.testing import CliRunner

from unetpp_monai.cli import app

pytestmark = pytest.mark.slow

MODEL = ("--task", "hippocampus", "--depth", "1", "--device", "cpu", "--runtime", "eager")
COMMANDS = {  # in this order: later ones take what earlier ones wrote
    "segment": ("{image}", "-o", "segmented", *MODEL),
    "cohort": ("{image}", "-o", "many", *MODEL),
    "convert": ("segmented/case_1_seg.nii.gz", "-o", "converted", "--format", "nifti"),
    "evaluate": ("segmented", "converted", "-o", "report.json"),
    "calibrate": ("{data}/imagesTr", "--unlabelled", "-o", "quota.json", *MODEL[:2], *MODEL[4:]),
    "ranges": ("{data}/imagesTr", "--references", "{data}/labelsTr", "--task", "hippocampus", "-o", "ranges.json"),
    "export": ("--to", "torch-export", "-o", "network.pt2", "--task", "hippocampus"),
    "plan": ("{data}", "-o", "planned"),
    "pack": ("hippocampus", "-o", "packed"),
    "demo": ("-o", "shown", *MODEL[2:]),
}
LONG = {  # function that takes long, or asks a server -> what it returns; what follows is said of that
    "train": ("unetpp_monai.workflows.train.train", "trained/model.pt"),
    "run": ("unetpp_monai.workflows.run.run", SimpleNamespace(folder="dist/own", archive="dist/own.zip")),
    "pacs pull": ("unetpp_monai.pacs.pull", ["pulled/study/series"]),
}


def called(*arguments):
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception}"
    return "\n".join(done.output.splitlines()[-3:])


@pytest.mark.long
def test_commands_that_write_end_by_saying_what(image_file, msd_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {path for path in tmp_path.rglob("*") if path.is_file()}
    for command, arguments in COMMANDS.items():
        said = called(command, *(part.format(image=image_file, data=msd_folder) for part in arguments))
        written = {path for path in tmp_path.rglob("*") if path.is_file()} - known
        known |= written
        places = {path: [path, *path.parents] for path in (one.relative_to(tmp_path) for one in written)}
        assert written, command
        assert [p for p, above in places.items() if not any(str(one) in said for one in above[:-1])] == [], command


@pytest.mark.parametrize("command", LONG)
def test_so_do_those_that_take_long(msd_folder, tmp_path, monkeypatch, command):
    function, returned = LONG[command]
    monkeypatch.setattr(function, lambda *arguments, **options: returned)
    options = {
        "train": ("hippocampus",),
        "run": (str(msd_folder), "-o", str(tmp_path)),
        "pacs pull": ("dimse://A@localhost:1", "-o", str(tmp_path), "--study", "1.2"),
    }
    said = called(*command.split(), *options[command])
    paths = [returned] if isinstance(returned, str) else list(getattr(returned, "__dict__", {}).values()) or returned
    assert all(path in said for path in paths)


def test_these_are_all_commands_that_write():
    writing = {name.removeprefix("unetpp ") for name, options in current()["options"].items() if "--output" in options}
    assert writing == COMMANDS.keys() | LONG.keys()
