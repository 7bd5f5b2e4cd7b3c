"""A packed task of one's own, served as it is: by the label server, and by the listener at a PACS."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import phantom, save_nifti
from helpers.commands import read, unetpp
from helpers.dicom_phantoms import add_pixels, axial_affine, make_series
from helpers.label_server import label_python, run_label, serving
from helpers.orthanc import orthanc
from helpers.own_task import leave_run, make_own_task
from helpers.waiting import wait_for

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.dicom.seg import read_dicom_seg

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The folder that `unetpp pack` wrote of one fold."""
    task = make_own_task(tmp_path_factory.mktemp("own"))
    leave_run(task, "fold0")
    done = unetpp("pack", task, "-o", task.parent / "dist", "--device", "cpu", folder=task.parent)
    assert done.returncode == 0, done.stderr
    assert "one fold of 2" in done.stdout
    return task.parent / "dist" / "own_organ"


def test_the_label_server_serves_it(packed, tmp_path):
    label_python()
    studies = tmp_path / "studies"
    studies.mkdir()
    save_nifti(studies / "new.nii.gz", phantom((30, 34, 28), seed=50)[0], np.diag([-1.0, -1.0, 1.0, 1.0]))
    depth = read(packed / "configs" / "inference.json")["displayable_configs"]["depth"]
    run_label("segment", studies / "new.nii.gz", "-o", tmp_path / "out", "--bundle", packed, folder=tmp_path)
    with serving(studies, tmp_path / "server", "--bundle", packed) as server:
        assert server.call("info")["models"]["own_organ"]["labels"] == {"front": 1, "back": 2}
        file, report = server.call("infer", "own_organ", "new", {})
    assert report["depth"] == (2 if depth == "full" else depth)
    found, expected = (read_volume(path, labels=True) for path in (file, tmp_path / "out" / "new_seg.nii.gz"))
    assert found.same_grid(expected) and found.array.any()
    np.testing.assert_array_equal(found.array, expected.array)


def test_the_listener_segments_with_it(packed, tmp_path):
    image = np.round(phantom((34, 40, 30), seed=51)[0]).clip(0).astype(np.uint16)
    headers = make_series(
        tmp_path / "series",
        axial_affine((1.0, 1.0, 1.0)),
        image.shape,
        change=lambda dataset, index: add_pixels(dataset, image[:, :, index].T),
    )
    (tmp_path / "rules.json").write_text(json.dumps([{"modality": "MR"}]))
    with orthanc(tmp_path / "archive") as archive:
        archive.upload((tmp_path / "series").iterdir())
        options = ["--orthanc", archive.url, "--rules", "rules.json", "--bundle", packed, "--all", "--poll", "0.1"]
        command = [sys.executable, "-W", "ignore", "-m", "unetpp_monai", "listen", *options, "--format", "dicomseg"]
        process = subprocess.Popen([*map(str, command), "--device", "cpu", "--runtime", "eager"], cwd=tmp_path)
        try:
            study = {"StudyInstanceUID": headers[0].StudyInstanceUID, "Modality": "SEG"}
            wait_for(lambda: archive.find("Instance", **study), "a SEG")
        finally:
            process.terminate()
            assert process.wait(60) == 143
        (instance,) = archive.find("Instance", **study)
        (tmp_path / "result.dcm").write_bytes(archive.rest(f"/instances/{instance['ID']}/file"))
    found, structures = read_dicom_seg(tmp_path / "result.dcm")
    expected = Segmenter.from_bundle(packed, device="cpu", runtime="eager")(read_volume(tmp_path / "series"))
    assert [structure.name for structure in structures] == ["front", "back"]
    counts = {structure.name: int((found.array[0] == structure.index).sum()) for structure in structures}
    assert counts == expected.voxels and all(counts.values())
