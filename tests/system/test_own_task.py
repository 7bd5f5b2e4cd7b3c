"""From a folder of images and labels to a DICOM SEG of a new case, with three commands and no number."""

import zipfile

import numpy as np
import pytest
from helpers import phantom, save_nifti
from helpers.commands import unetpp
from helpers.dicom_pieces import lps, make_slices, write_files
from helpers.reports import valid_report

from unetpp_monai import read_volume
from unetpp_monai.dicom.seg import read_dicom_seg
from unetpp_monai.workflows.metrics import mean_dice

pytestmark = [pytest.mark.slow, pytest.mark.long]

BRIEF = ("--set", "steps_per_epoch=14", "--set", "max_epochs=1", "--set", "warmup_epochs=0")  # for a test


def test_from_a_folder_to_a_dicom_seg(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        image, label = phantom(tuple(rng.integers(28, 40, 3)), seed=number)
        save_nifti(tmp_path / "data" / "images" / f"scan{number}.nii.gz", image)
        save_nifti(tmp_path / "data" / "labels" / f"scan{number}.nii.gz", (label > 0).astype(np.uint8))

    for command in (
        ("plan", "data", "-o", "organ", "--modality", "ct"),
        ("train", "organ", "--fold", "0", *BRIEF),
        ("pack", "--task", "organ", "-o", "dist"),
    ):
        done = unetpp(*command, folder=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    (bundle,) = (path for path in (tmp_path / "dist").iterdir() if path.is_dir())
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.zip"))) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith((".json", ".md", ".txt"))]
    assert not [text for text in texts if b"ippocamp" in text or str(tmp_path).encode() in text or b"scan0" in text]

    image, label = phantom((33, 37, 31), seed=99)
    stored = np.round(image).astype(np.int16)  # (columns, rows, slices): the organ is the same in a mirror
    write_files(tmp_path / "new", make_slices(stored, lps(spacing=(1, 1, 1)), intercept=("0",)))
    done = unetpp("segment", "new", "-o", "out", "--bundle", bundle, "--format", "dicomseg", folder=tmp_path)
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
