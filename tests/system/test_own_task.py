"""docs/own_data.md word for word: from a folder of images and labels to a DICOM SEG of a new case, without a number."""

import re
import shlex
import zipfile
from io import BytesIO

import numpy as np
import pytest
from helpers import ROOT, phantom
from helpers.commands import unetpp
from helpers.dicom_pieces import lps, make_slices, write_files
from helpers.own_task import make_data
from helpers.reports import valid_report
from PIL import Image

from unetpp_monai import read_volume
from unetpp_monai.dicom.seg import read_dicom_seg
from unetpp_monai.workflows.metrics import mean_dice

pytestmark = [pytest.mark.slow, pytest.mark.long]

PAGE = (ROOT / "docs" / "own_data.md").read_text()
BRIEF = ("--set", "steps_per_epoch=14", "--set", "max_epochs=1", "--set", "warmup_epochs=0")  # for a test


def commands(block):
    """Those of a block of the page, without `unetpp`."""
    text = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[block]
    return [shlex.split(line)[1:] for line in text.splitlines()]


def foreign_words(archive, words):
    """Files of a packed zip and what is in them that must not be; the package's own texts speak of the hippocampus."""
    for name in archive.namelist():
        content = archive.read(name)
        own = "/unetpp_monai/" not in name
        yield from ((name, word) for word in (*words, *["ippocamp"] * own) if word.encode() in content)
        if name.endswith(".png"):
            with Image.open(BytesIO(content)) as picture:
                yield from ((name, key) for key in picture.info.keys() - {"Software", "dpi"})


def test_from_a_folder_to_a_dicom_seg(tmp_path):
    make_data(tmp_path / "data")
    three = commands(0)
    assert [command[0] for command in three] == ["plan", "train", "pack"]
    for command in three:
        done = unetpp(*command, *(BRIEF if command[0] == "train" else ()), folder=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "one fold of 3, 2 cases" in done.stdout and "to the same voxels" in done.stdout
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.zip"))) as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} >= {"json", "md", "txt", "png", "pt"}
        assert list(foreign_words(archive, (str(tmp_path), "kim_lee"))) == []

    image, label = phantom((33, 37, 31), seed=99)
    stored = np.round(image).astype(np.int16)  # (columns, rows, slices): the organ is the same in a mirror
    write_files(tmp_path / "new", make_slices(stored, lps(spacing=(1, 1, 1)), intercept=("0",)))
    (segment,) = commands(1)
    done = unetpp(*segment, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    report = valid_report(tmp_path / "out" / "new.json")
    assert report["outputs"]["dicomseg"]["read_back"]["different"] == 0
    grid = read_volume(tmp_path / "new")
    found, structures = read_dicom_seg(tmp_path / "out" / "new_seg.dcm")
    assert [structure.name for structure in structures] == ["label 1"]
    on_grid = np.zeros(grid.shape, bool)
    places = np.argwhere(found.array[0]) @ found.affine[:3, :3].T + found.affine[:3, 3]
    indices = np.rint((places - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T).astype(int)
    on_grid[tuple(indices.T)] = True
    assert mean_dice(on_grid[None].astype(np.uint8), (label > 0)[None].astype(np.uint8), [1]) > 0.8
