"""Scoring and training on the series of a real Orthanc: what annotators submit goes to the archive and is learned."""

import numpy as np
import pydicom
import pytest
from helpers import BUNDLE, phantom, save_nifti
from helpers.dicom_phantoms import add_pixels, make_series
from helpers.label_server import label_python, serving
from helpers.learning import FAST, ask, idle, model_of
from helpers.orthanc import orthanc
from helpers.tiny import make_tiny

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.annotation.scores import read_scores
from unetpp_monai.annotation.version_store import VersionStore, copy_bundle
from unetpp_monai.dicom.series import read_dicom_series

pytestmark = pytest.mark.server

SERIES, SUBMITTED = 4, 3
SPACING_LPS = np.diag([1.1, 0.9, 1.2, 1.0])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Orthanc with four series of phantoms, and their folders by Series Instance UID."""
    label_python()
    folder = tmp_path_factory.mktemp("archive")
    folders = {}
    for seed in range(SERIES):
        voxels = np.clip(phantom(seed=seed)[0], 0, None).astype(np.uint16)

        def draw(dataset, index, voxels=voxels):
            add_pixels(dataset, voxels[:, :, index].T)

        headers = make_series(folder / f"series_{seed}", SPACING_LPS, voxels.shape, change=draw)
        folders[str(headers[0].SeriesInstanceUID)] = folder / f"series_{seed}"
    with orthanc(folder / "orthanc") as running:
        running.upload([path for series in folders.values() for path in series.iterdir()])
        yield running, folders


def annotate(volume, path):
    """A label map of the bright ellipsoid, its halves along the second axis, on the image's grid."""
    inside = volume.array[0] > 70
    halves = np.where(np.arange(inside.shape[1])[None, :, None] > inside.shape[1] / 2, 1, 2)
    return save_nifti(path, np.where(inside, halves, 0).astype(np.uint8), volume.affine)


def test_a_network_learns_from_an_archive(archive, tmp_path):
    running, folders = archive
    bundle = make_tiny(copy_bundle(BUNDLE, tmp_path / "bundle"))
    with serving(running.dicomweb_url, tmp_path / "server", "--bundle", bundle) as server:
        model = model_of(server)
        (root,) = (tmp_path / "server" / "state" / "bundles").iterdir()
        idle(server, "scoring")
        ask(server, f"/scoring/{model}", "POST", max_samples=0)
        task = idle(server, "scoring")
        assert task["status"] == "DONE", task
        segmenter = Segmenter.from_bundle(root, device="cpu")
        volumes = {uid: read_dicom_series(folder).volume for uid, folder in folders.items()}
        expected = {uid: segmenter(volume, uncertainty=True).score for uid, volume in volumes.items()}
        found = {uid: score.value for uid, score in read_scores(root).items()}
        assert found == {uid: pytest.approx(score, rel=1e-3) for uid, score in expected.items()}
        sample = server.call("next_sample", "least_certain", {})
        assert sample["id"] == max(expected, key=expected.get) and sample["scored"] == f"{SERIES} of {SERIES}"
        submitted, (other,) = list(folders)[:SUBMITTED], list(folders)[SUBMITTED:]
        for number, uid in enumerate(submitted):
            path = annotate(volumes[uid], tmp_path / f"{number}.nii.gz")
            server.call("save_label", uid, str(path), "final", {})
        assert server.call("info")["datastore"]["completed"] == SUBMITTED
        server.call("train_start", model, FAST)
        task = idle(server, "train")
        assert task["status"] == "DONE" and any("published version 2" in line for line in task["details"]), task
        assert VersionStore(root).served().number == 2
        file, _ = server.call("infer", model, other, {})
        after = Segmenter.from_bundle(root, device="cpu")(volumes[other]).labels
        answer = read_volume(file, labels=True)
        assert answer.same_grid(after)  # the server may use another runtime, which rounds otherwise
        assert np.mean(answer.array != after.array) < 1e-3
        assert not np.array_equal(after.array, segmenter(volumes[other]).labels.array)
    kept = set()
    for series in running.find(Modality="SEG"):
        (instance,) = running.rest(f"/series/{series['ID']}")["Instances"]
        (tmp_path / f"{instance}.dcm").write_bytes(running.rest(f"/instances/{instance}/file"))
        header = pydicom.dcmread(tmp_path / f"{instance}.dcm", stop_before_pixels=True)
        assert header.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
        kept.add(str(header.ReferencedSeriesSequence[0].SeriesInstanceUID))
    assert kept == set(submitted)
