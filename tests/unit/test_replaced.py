"""Results that are replaced stay until others take their place, also if the process is killed in between."""

import signal
import subprocess
import sys

import pytest
from helpers import ROOT

from unetpp_monai.files import TEMPORARY, complete_folder, finish_interrupted, remove_remains, whole_folder

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from unetpp_monai import files
left, rename = {moves}, Path.replace
def replace(path, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(path, target)
Path.replace = replace
with files.{begun} as folder:
    for name in ("a_seg.nii.gz", "a.json"):
        (folder / name).write_text('"new"')
"""


def killed(begun, moves):
    """Write results in a process that is killed after so many of its renames."""
    script = KILLED.format(root=str(ROOT), begun=begun, moves=moves)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(TEMPORARY)}


OLD, NEW = ({"a_seg.nii.gz": f'"{age}"', "a.json": f'"{age}"'} for age in ("old", "new"))


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("moves", [0, 1])
def test_files_of_a_case(results, moves):
    """The new ones are whole in a folder of their own; the next run moves those that were not."""
    killed(f"complete_folder(Path({str(results)!r}), last='a.json')", moves)
    assert contents(results) == {**OLD, **(NEW if moves else {}), "a.json": OLD["a.json"]}
    finish_interrupted(results, ending=".json")
    assert contents(results) == NEW and {path.name for path in results.iterdir()} == set(NEW)


@pytest.mark.parametrize("moves", [0, 1])
def test_a_folder(results, moves):
    """Two folders cannot change places at once: the next writer ends what was begun, be it that it fails."""
    killed(f"whole_folder(Path({str(results)!r}))", moves)
    assert results.exists() == (moves == 0)
    with pytest.raises(KeyError), whole_folder(results):
        assert contents(results) == (NEW if moves else OLD)
        raise KeyError
    assert contents(results) == (NEW if moves else OLD) and [path.name for path in results.parent.iterdir()] == [
        "results"
    ]


def test_remains_of_a_killed_pack_are_removed_and_no_others(tmp_path):
    for place, name in (("a", "bundle"), ("b", "case_seg.nii.gz")):
        (tmp_path / f"{TEMPORARY}{place}" / name).mkdir(parents=True)
    remove_remains(tmp_path, lambda name: name == "bundle")
    assert [path.name for path in tmp_path.iterdir()] == [f"{TEMPORARY}b"]


def test_remains_of_a_killed_writer_are_removed(tmp_path):
    for name in ("new", "other"):
        killed(f"whole_folder(Path({str(tmp_path / name)!r}))", 0)
    with whole_folder(tmp_path / "new") as folder:
        (folder / "a.json").write_text('"new"')
    left = [path.name for path in tmp_path.iterdir() if path.name != "new"]
    assert len(left) == 1 and (tmp_path / left[0] / "other").is_dir()


def test_a_writer_that_fails_leaves_what_there_was(results):
    for begun in (complete_folder(results), whole_folder(results)):
        with pytest.raises(KeyError), begun as folder:
            (folder / "a.json").write_text('"new"')
            raise KeyError
        assert contents(results) == OLD
    with whole_folder(results) as folder:
        (folder / "b.json").write_text('"new"')
    assert contents(results) == {"b.json": '"new"'} and [path.name for path in results.parent.iterdir()] == ["results"]
