"""What the app does with studies, without its server: series and SEGs of a real Orthanc, a folder of links, devices.

MONAI Label lives in another environment: each test runs a few lines there, which print one line of JSON.
"""

import json
import subprocess

import numpy as np
import pytest
from helpers import BUNDLE, phantom, save_nifti
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.label_server import environment, label_python
from helpers.orthanc import orthanc
from helpers.tiny import make_tiny

from unetpp_monai.annotation.version_store import copy_bundle
from unetpp_monai.bundle import read_bundle
from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.labels import Label
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume

pytestmark = pytest.mark.server

LABELS = read_bundle(BUNDLE).labels
START = (
    f"BUNDLE = {str(BUNDLE)!r}"
    + """
import json, logging, sys
from pathlib import Path
from unetpp_monai.bundle import read_bundle
from unetpp_monai.io import read_volume
from unetpp_monai.annotation.shim import sitecustomize  # as the server does
from unetpp_monai.annotation.datastores import DicomwebStudies, LocalStudies
from unetpp_monai.pacs.dicomweb import Dicomweb

LABELS = read_bundle(Path(BUNDLE)).labels

class Archive(Dicomweb):
    pulled, lost = [], 0

    def pull(self, series, folder):
        self.pulled.append(series.series)
        listed = super().pull(series, folder)
        for path in sorted(folder.glob("*.dcm"))[: self.lost]:
            path.unlink()
        return listed

def studies(url, folder):
    return DicomwebStudies(Archive(url), Path(folder), lambda: [LABELS], ["MR"])

def say(**values):
    sys.stdout.write(json.dumps(values) + "\\n")
"""
)


def in_label(code, *arguments):
    """What `say` says of code that the label environment runs, and what it logs."""
    command = [label_python(), "-W", "ignore", "-c", START + code, *arguments]
    done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def three_planes(dataset, index):
    dataset.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]][index % 3]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Orthanc with a series and a localizer; its address, and the series' UIDs and folder."""
    label_python()
    folder = tmp_path_factory.mktemp("archive")
    series = make_series(folder / "mr", axial_affine((1.0, 1.0, 1.0)), (40, 44, 24))
    localizer = make_series(folder / "localizer", axial_affine(), (24, 24, 3), change=three_planes)
    with orthanc(folder / "orthanc") as running:
        running.upload([*(folder / "mr").iterdir(), *(folder / "localizer").iterdir()])
        yield running, str(series[0].SeriesInstanceUID), str(localizer[0].SeriesInstanceUID), folder / "mr"


def upload_seg(archive, path, names):
    """Add a SEG with a slab of each structure; they are numbered in this order."""
    running, _, _, folder = archive
    series = read_dicom_series(folder)
    array = np.zeros(series.volume.array.shape, np.uint8)
    for number in range(1, len(names) + 1):
        array[0, 5 * number : 5 * number + 3, 8:20, 4:9] = number
    codes = LABELS[0]
    structures = [
        Label(number, name, codes.category, codes.type, (), None) for number, name in enumerate(names, start=1)
    ]
    algorithm = Algorithm("", "", kind="MANUAL")
    labels = Volume(array, series.volume.affine)
    write_dicom_seg(labels, path, structures=structures, sources=series.sources, algorithm=algorithm)
    running.upload([path])
    return array


LABEL_OF = """
store = studies(*sys.argv[1:3])
paths = [store.get_label_uri(sys.argv[3], "final") for _ in range(2)]
say(path=paths[1], info=store.get_label_info(sys.argv[3], "final"), pulled=len(Archive.pulled))
"""
SUBMIT = """
store = studies(*sys.argv[1:3])
store.save_label(sys.argv[3], sys.argv[4], "final", {})
say(path=store.get_label_uri(sys.argv[3], "final"), pulled=len(Archive.pulled))
"""


def test_labels_of_the_archive_keep_their_structures_apart_and_newer_ones_win(archive, tmp_path):
    from unetpp_monai import read_volume

    running, image, _, _ = archive
    options = running.dicomweb_url, tmp_path / "store", image
    array = upload_seg(archive, tmp_path / "one.dcm", ["lesion", LABELS[0].name])
    answer, _ = in_label(LABEL_OF, *options)
    assert np.array_equal(read_volume(answer["path"], labels=True).array, array)
    assert {one["idx"]: one["name"] for one in answer["info"]["label_info"]} == {1: "lesion", 2: LABELS[0].name}
    assert answer["pulled"] == 2  # the image and its label, once
    array = upload_seg(archive, tmp_path / "two.dcm", [LABELS[1].name, LABELS[0].name])
    answer, _ = in_label(LABEL_OF, *options)
    assert np.array_equal(read_volume(answer["path"], labels=True).array, np.array([0, 2, 1])[array])
    assert answer["pulled"] == 1
    own = save_nifti(tmp_path / "own.nii.gz", array[0], read_volume(answer["path"]).affine)
    answer, _ = in_label(SUBMIT, *options, own)
    assert np.array_equal(read_volume(answer["path"], labels=True).array, array)
    assert answer["pulled"] == 0  # what was sent to the archive is here


INCOMPLETE = """
from unetpp_monai.errors import PacsError
store = studies(*sys.argv[1:3])
Archive.lost = 1
try:
    store.get_image_uri(sys.argv[3])
    said = ""
except PacsError as error:
    said = str(error)
say(said=said, left=[path.name for path in Path(sys.argv[2]).glob("[0-9]*")])
"""


def test_incomplete_series_are_not_taken(archive, tmp_path):
    running, image, _, _ = archive
    answer, _ = in_label(INCOMPLETE, running.dicomweb_url, tmp_path, image)
    assert "must send each instance that it lists, got 23 of 24" in answer["said"] and answer["left"] == []


TOGETHER = """
url, folder, image = sys.argv[1:]
server, child = studies(url, folder), studies(url, folder)
child.get_image_uri(image)
before = (Path(folder) / image).stat().st_ino
server.get_image_uri(image)
same = before == (Path(folder) / image).stat().st_ino
server.update_image_info(image, {"strategy": "noted"})
child.update_image_info(image, {"score": 1})
say(same=same, pulled=len(Archive.pulled), info=studies(url, folder).get_image_info(image))
"""


def test_what_one_process_fetches_or_notes_another_leaves_alone(archive, tmp_path):
    running, image, _, _ = archive
    answer, _ = in_label(TOGETHER, running.dicomweb_url, tmp_path, image)
    assert answer["same"] and answer["pulled"] == 1
    assert answer["info"]["strategy"] == "noted" and answer["info"]["score"] == 1


LEARN = """
from unetpp_monai.annotation.scores import read_scores
from unetpp_monai.annotation.scoring import UncertaintyScoring
from unetpp_monai.annotation.strategies import strategies
url, folder, root = sys.argv[1:]
logging.basicConfig(level="WARNING")
store, scoring = studies(url, folder), UncertaintyScoring(Path(root), device="cpu")
store.segs.newest = dict  # whatever other tests labelled
first = strategies({"model": Path(root)})["first"]
chosen = [first({}, store) for _ in range(2)]
done = scoring({}, store)
again = scoring({}, store)
scores = {image: score.error for image, score in read_scores(Path(root)).items()}
say(chosen=chosen, done=done, again=again, due=scoring.is_due(store), scores=scores, pulled=Archive.pulled)
"""


def test_a_series_that_cannot_be_read_stops_neither_annotators_nor_scoring(archive, tmp_path):
    running, image, localizer, _ = archive
    root = make_tiny(copy_bundle(BUNDLE, tmp_path / "bundle"))
    answer, log = in_label(LEARN, running.dicomweb_url, tmp_path / "store", root)
    assert answer["chosen"] == [{"id": image}] * 2
    assert answer["done"] == {"total": 2, "executed": 2, "skipped": 0, "failed": 1}
    assert answer["again"] == {"total": 2, "executed": 0, "skipped": 2, "failed": 0} and not answer["due"]
    assert answer["scores"][image] == "" and answer["scores"][localizer] != ""
    assert answer["pulled"].count(image) == 1 and answer["pulled"].count(localizer) <= 1  # not again and again
    assert not any(uid in line for line in log.splitlines() if "WARNING" in line for uid in (image, localizer))


LINKS = """
from unetpp_monai.annotation.training import labelled
store = LocalStudies(Path(sys.argv[1]), lambda: [LABELS])
for image in store.list_images():
    store.save_label(image, sys.argv[2], "final", {})
say(cases={case.name: [str(case.image), {str(key): name for key, name in case.values.items()}]
           for case in labelled(store)})
"""


def test_cases_of_a_folder_of_links_keep_their_names(tmp_path):
    label_python()
    image, labels = phantom()
    studies, targets = tmp_path / "studies", {}
    studies.mkdir()
    for name in ("p1", "p2"):
        targets[name] = tmp_path / "data" / name / "t1.nii.gz"
        targets[name].parent.mkdir(parents=True)
        (studies / f"{name}.nii.gz").symlink_to(save_nifti(targets[name], image))
    answer, _ = in_label(LINKS, studies, save_nifti(tmp_path / "label.nii.gz", labels))
    meanings = {str(label.index): label.name for label in LABELS}
    assert answer["cases"] == {name: [str(path), meanings] for name, path in targets.items()}


DEVICES = """
import torch
from unetpp_monai.errors import InputError
from unetpp_monai.annotation import scoring, training

class Nothing:
    get_labeled_images = get_unlabeled_images = lambda self: ["image"] * 0

used = []
training.fine_tune = lambda root, cases, options: used.append(options.device)
torch.cuda.is_available = lambda: True  # but the server was started on another device
training.trainers({"model": Path(sys.argv[1])}, "cpu")["model"]({}, Nothing())
torch.cuda.is_available = lambda: False
task = training.trainers({"model": Path(sys.argv[1])}, "auto")["model"]
for request in ({}, {"device": "auto"}, {"device": ["cpu"]}):
    task(request, Nothing())
try:
    task({"device": "cuda:7"}, Nothing())
except InputError as error:
    used.append(str(error))
scoring.Segmenter.from_bundle = lambda root, device, trust: used.append(device)
scoring.UncertaintyScoring.pending = lambda self, store, depth: ["image"]
scoring._score, scoring.write_scores = lambda *rest: scoring.Score(None, "", "", ""), lambda *rest: None
for request in ({}, {"device": ["auto"]}):
    scoring.scoring_methods({"model": Path(sys.argv[1])}, "cpu")["model"](request, Nothing())
say(used=used, choices=task.config()["device"])
"""


def test_the_servers_device_is_that_of_training_and_scoring():
    answer, _ = in_label(DEVICES, BUNDLE)
    *found, refused = answer["used"][:5]
    assert found == ["cpu"] * 4 and "device must exist, got 'cuda:7'" in refused
    assert answer["used"][5:] == ["cpu", "auto"]
    assert answer["choices"][0] == "auto" and "cpu" in answer["choices"]


TRUST = """
from unetpp_monai.annotation.app import LabelApp
from unetpp_monai.annotation.server import ServerOptions, prepare
bundle, folder, *ca = map(Path, sys.argv[1:])
options = ServerOptions("https://127.0.0.1:9/dicom-web", (bundle,), folder, ca=ca[0] if ca else None)
app = LabelApp(str(options.folder), options.studies, prepare(options))
say(verify=app.datastore().archive.client._session.verify)
"""


def test_the_app_trusts_whom_its_conf_names(tmp_path):
    bundle = make_tiny(copy_bundle(BUNDLE, tmp_path / "bundle"))
    (tmp_path / "ca.pem").touch()
    answer, _ = in_label(TRUST, bundle, tmp_path / "state", tmp_path / "ca.pem")
    assert answer["verify"] == str(tmp_path / "ca.pem")
    answer, _ = in_label(TRUST, bundle, tmp_path / "state")
    assert answer["verify"] is True
