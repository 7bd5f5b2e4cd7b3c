"""Our MONAI Label app over the series of a real Orthanc: DICOM in, DICOM SEG out and back into the archive."""

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers import BUNDLE, SHARED, save_nifti
from helpers.dicom_checks import errors_of
from helpers.dicom_phantoms import make_series, oblique_affine
from helpers.label_server import label_python, run_label, serving
from helpers.orthanc import orthanc

from unetpp_monai import read_volume
from unetpp_monai.bundle import read_bundle
from unetpp_monai.dicom.seg import read_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series

pytestmark = pytest.mark.server

MODEL = "unetpp_hippocampus_mri_segmentation"
REAL = SHARED / "data" / "dicom" / "Study1_13_HCropVolume"
LABELS = {label.name: label.index for label in read_bundle(BUNDLE).labels}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Orthanc with an MR series and a CT, our server on it, the MR series' folder and what the command line finds."""
    label_python()
    folder = tmp_path_factory.mktemp("site")
    if REAL.is_dir():
        shutil.copytree(REAL, folder / "mr")
    else:
        make_series(folder / "mr", oblique_affine(), shape=(40, 44, 24))
    make_series(folder / "ct", oblique_affine(), modality="CT")
    with orthanc(folder / "orthanc") as archive:
        archive.upload([*(folder / "mr").iterdir(), *(folder / "ct").iterdir()])
        run_label(
            "segment", "--task", "hippocampus", folder / "mr", "-o", folder / "cli", "--device", "cpu", folder=folder
        )
        with serving(archive.dicomweb_url, folder / "server", "--task", "hippocampus") as server:
            yield archive, server, folder


def uid(folder):
    return str(pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).SeriesInstanceUID)


@pytest.fixture(scope="module")
def expected(site):
    return read_volume(site[2] / "cli" / "mr_seg.nii.gz")


def same_places(one, two):
    """Whether two label maps mark the same points of the patient, grids cropped or turned as they may be."""

    def points(volume):
        voxels = np.argwhere(volume.array[0])
        places = np.round(voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3], 2)
        return {(*place, value) for place, value in zip(places.tolist(), volume.array[volume.array > 0], strict=True)}

    return points(one) == points(two)


def test_series_of_the_bundles_modality_are_offered(site):
    _, server, folder = site
    assert server.call("info")["datastore"] == {"total": 1, "completed": 0, "label_tags": {}}
    sample = server.call("next_sample", "first", {})
    assert sample["id"] == uid(folder / "mr")


def test_voxels_are_those_of_the_command_line(site, expected):
    _, server, folder = site
    files = server.calls(
        [["infer", MODEL, uid(folder / "mr"), {"result_extension": ext}] for ext in (".nii.gz", ".nrrd")]
    )
    for answer in files:
        found = read_volume(answer["result"][0], labels=True)
        assert found.same_grid(expected) and np.array_equal(found.array, expected.array)
    assert expected.array.any()
    # OHIF lays bare voxels over the series: their order must be that of the slices along their normal, as ITK's is
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "mr")))
    image, label = reader.Execute(), SimpleITK.ReadImage(files[1]["result"][0])
    assert image.GetSize() == label.GetSize()
    for index in ((0, 0, 0), tuple(size - 1 for size in image.GetSize())):
        a, b = (one.TransformIndexToPhysicalPoint(index) for one in (image, label))
        np.testing.assert_allclose(a, b, atol=0.05)


def test_clients_can_download_the_image(site):
    _, server, folder = site
    status, body = server.request(f"/datastore/image?image={uid(folder / 'mr')}")
    path = folder / "download.nii.gz"
    path.write_bytes(body)
    volume = read_dicom_series(folder / "mr").volume
    assert status == 200 and read_volume(path).same_grid(volume)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)


def test_dicom_seg_is_ours(site, expected):
    _, server, folder = site
    status, body = server.request(
        f"/infer/{MODEL}?image={uid(folder / 'mr')}&output=dicom_seg",
        method="POST",
        form={"params": '{"depth": "full"}'},
    )
    assert status == 200, body
    path = folder / "answer.dcm"
    path.write_bytes(body)
    labels, structures = read_dicom_seg(path)
    assert [label.name for label in structures] == list(LABELS) and structures[0].type.value == "5366008"
    assert same_places(labels, expected)
    assert errors_of("dciodvfy", path) == []
    header = pydicom.dcmread(path, stop_before_pixels=True)
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == uid(folder / "mr")
    assert header.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_unknown_series_are_refused(site):
    _, server, _ = site
    answers = server.calls([["infer", MODEL, image, {}] for image in ("1.2.3.4", "nothing")])
    assert all("Status: 404" in answer["refused"] and "datastore" in answer["refused"] for answer in answers)


def test_submitted_labels_go_into_the_archive_and_come_back(site, expected, tmp_path):
    """An algorithm's own SEG does not count as a label."""
    archive, server, folder = site
    image = uid(folder / "mr")
    archive.upload([folder / "answer.dcm"])
    assert server.call("info")["datastore"]["completed"] == 0
    swapped = np.array([0, 2, 1], dtype=np.uint8)[expected.array[0]]
    path = save_nifti(tmp_path / "label.nii.gz", swapped, expected.affine)
    names = list(LABELS)
    info = [{"name": names[1], "idx": 1, "color": [1, 2, 3]}, {"name": names[0], "idx": 2}]
    server.call("save_label", image, str(path), "final", {"label_info": info})
    assert server.call("info")["datastore"]["completed"] == 1
    segs = [one["ID"] for one in archive.find(Modality="SEG")]
    assert len(segs) == 2
    manual = []
    for seg in segs:
        (instance,) = archive.rest(f"/series/{seg}")["Instances"]
        (tmp_path / f"{instance}.dcm").write_bytes(archive.rest(f"/instances/{instance}/file"))
        header = pydicom.dcmread(tmp_path / f"{instance}.dcm")
        if header.SegmentSequence[0].SegmentAlgorithmType == "MANUAL":
            manual.append(tmp_path / f"{instance}.dcm")
    (stored,) = manual
    labels, structures = read_dicom_seg(stored)
    assert [label.name for label in structures] == names and same_places(labels, expected)
    assert errors_of("dciodvfy", stored) == []
    # another server, which has fetched nothing yet, trains on what is in the archive
    with serving(archive.dicomweb_url, folder / "second", "--task", "hippocampus") as second:
        status, body = second.request("/datastore/?output=train")
        (pair,) = json.loads(body)
        assert status == 200 and Path(pair["image"]).name == f"{image}.nii.gz"
        found = read_volume(pair["label"])
        assert np.array_equal(found.array, expected.array) and found.same_grid(read_volume(pair["image"]))
