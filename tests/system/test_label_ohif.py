"""The OHIF that MONAI Label's wheel ships, in a real browser, on our server over a real Orthanc.

As a command, it writes the picture of docs/:
`PYTHONPATH=tests python tests/system/test_label_ohif.py docs/monailabel_ohif.png`.
"""

import base64
import io
import json
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import ROOT
from helpers import dicom_pieces as make
from helpers.label_server import label_python, run_label, serving
from helpers.marks import must_be_marked
from helpers.ohif import CHROMIUM, FLAGS
from helpers.orthanc import orthanc
from helpers.viewer_phantom import likeness
from helpers.waiting import DEADLINE
from PIL import Image
from pydicom.uid import MRImageStorage

from unetpp_monai import read_volume

pytestmark = [pytest.mark.server, pytest.mark.browser]

SAMPLE = ROOT / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz"
MODEL = "unetpp_hippocampus_mri_segmentation"
VIEWS = ("mpr-axial", "mpr-sagittal", "mpr-coronal")
NAMES = ["anterior hippocampus", "posterior hippocampus"]
LPS = np.diag([-1, -1, 1, 1])  # RAS mm to what DICOM and the viewer count in
VIEW = "id => cornerstone.getRenderingEngines().flatMap(one => one.getViewports()).find(one => one.id === id)"
PICTURE = f"""async id => {{
    const viewport = ({VIEW})(id);
    await new Promise(done => {{
        viewport.element.addEventListener("CORNERSTONE_IMAGE_RENDERED", done, {{ once: true }});
        viewport.render();
    }});
    const corners = [[0, 0], [1, 0], [0, 1]].map(place => Array.from(viewport.canvasToWorld(place)));
    return [viewport.canvas.toDataURL(), corners];
}}"""
SEGMENTS = """() => services.segmentationService.getSegmentations().flatMap(
    one => Object.values(one.segments).map(segment => segment.label))"""
COLOURS = """() => [1, 2].map(index => Array.from(
    cornerstoneTools.segmentation.config.color.getSegmentIndexColor("mpr-axial", "1", index)).slice(0, 3))"""


def write_series(folder):
    """Write the package's MRI sample as a DICOM series; return its study's UID."""
    image = nib.load(SAMPLE)
    stored = np.asanyarray(image.dataobj).astype(np.uint16)
    slices = make.make_slices(stored, LPS @ image.affine, intercept=("0",), key="ohif")
    make.each(Modality="MR", SOPClassUID=MRImageStorage, SeriesDescription="T1 right hippocampus")(slices)
    make.write_files(folder, slices)
    return slices[0].StudyInstanceUID


class Annotator:
    """The viewer in MONAI Label's mode, in a page of a browser."""

    def __init__(self, page):
        self.page, self.panel, self.posted = page, page.locator(".monaiLabelPanel"), []
        page.on("request", self._note)

    def _note(self, request):
        if request.method == "POST" and "/infer/" in request.url:
            self.posted.append((request.url, request.post_data))

    def studies(self, url, patient):
        """What the list of studies offers for a patient: addresses of the viewer's modes."""
        self.page.goto(f"{url}/ohif/")
        self.page.get_by_text(patient).first.click()
        links = self.page.locator("a[href*=StudyInstanceUIDs]")
        links.first.wait_for()
        return links.evaluate_all("all => all.map(one => one.getAttribute('href'))")

    def open(self, url, study):
        self.page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}")
        self.page.locator("[data-cy=confirm-and-hide-button]").click()
        self.panel.locator("#monailabelServerURL").fill(f"{url}/")
        self.page.wait_for_function(f"[...{list(VIEWS)}].every(id => ({VIEW})(id)?.getImageData?.())")

    def connect(self):
        self.panel.locator(".actionButton").first.click()
        self.panel.get_by_text("Auto-Segmentation").wait_for()
        self.page.wait_for_function(f"services.segmentationService.getLabelmapVolume('1') && ({COLOURS})()")

    def choose(self, option, value):
        """Set an option of the model in the dialog "Options / Configurations"."""
        self.panel.get_by_text("Options / Configurations").click()
        row = self.page.locator("tr", has=self.page.locator(f"td:text-is('{option}')"))
        row.locator("select").select_option(value)
        self.page.get_by_text("Confirm", exact=True).click()

    def segment(self):
        self.panel.locator("button[title='Run Segmentation']").click()
        self.page.get_by_text("Running Segmentation - Successful").wait_for()
        self.page.wait_for_function(
            "services.segmentationService.getLabelmapVolume('1').voxelManager.getCompleteScalarDataArray().some(Boolean)"
        )

    def next_sample(self):
        """Text of the dialog that names the next image."""
        self.panel.get_by_text("Active Learning").click()
        self.panel.get_by_role("button", name="Next Sample").click()
        dialog = self.page.locator(".nextSampleForm, [role=dialog]", has_text="Next Sample").last
        dialog.wait_for()
        return dialog.inner_text()

    def view(self, name):
        """What is drawn, `(rows, columns, RGB)`, and where its pixels' centres are, `(rows, columns, XYZ)`, LPS mm."""
        data, corners = self.page.evaluate(PICTURE, name)
        content = base64.b64decode(data.partition(",")[2])
        picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        origin, right, down = np.array(corners)
        rows, columns = np.indices(picture.shape[:2])[..., None] + 0.5
        return picture, origin + columns * (right - origin) + rows * (down - origin)


@contextmanager
def annotator():
    """Start a browser; skips where Chromium is missing."""
    must_be_marked("browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": 1200, "height": 800})
            page.set_default_timeout(1000 * DEADLINE)
            yield Annotator(page)
        finally:
            browser.close()


@contextmanager
def opened(folder):
    """Start Orthanc with the sample (`folder/mr`), our server and a browser; give viewer, address, study's UID."""
    label_python()
    study = write_series(folder / "mr")
    with orthanc(folder / "orthanc") as archive:
        archive.upload((folder / "mr").iterdir())
        with serving(archive.dicomweb_url, folder / "server", "--task", "hippocampus") as server, annotator() as view:
            yield view, server.url, study


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """What an annotator does and sees: connect, depth 2, run, next sample; each view before and after."""
    folder = tmp_path_factory.mktemp("annotator")
    with opened(folder) as (view, url, study):
        seen = {"links": view.studies(url, "Torture"), "study": study}
        view.open(url, study)
        view.connect()
        seen |= {"panel": view.panel.inner_text(), "segments": view.page.evaluate(SEGMENTS)}
        view.choose("depth", "2")
        seen["bare"] = {name: view.view(name) for name in VIEWS}
        view.segment()
        seen["overlaid"] = {name: view.view(name) for name in VIEWS}
        seen["colours"] = np.array(view.page.evaluate(COLOURS), float)
        seen["posted"], seen["next"] = view.posted, view.next_sample()
    run_label(
        "segment",
        "--task",
        "hippocampus",
        folder / "mr",
        "-o",
        folder / "cli",
        "--depth",
        "2",
        "--device",
        "cpu",
        folder=folder,
    )
    return seen, folder


def sampled(volume, places):
    """Values of the voxels that lie at places in mm, LPS; 0 outside."""
    affine = np.linalg.inv(LPS @ volume.affine)
    index = np.rint(places @ affine[:3, :3].T + affine[:3, 3]).astype(int)
    shape = np.array(volume.array.shape[1:])
    inside = ((index >= 0) & (index < shape)).all(axis=-1)
    return np.where(inside, volume.array[0][tuple(np.moveaxis(np.clip(index, 0, shape - 1), -1, 0))], 0)


def painted(bare, overlaid, colours):
    """Per pixel 0, or the label (from 1) whose colour was laid over it, however thinly."""
    before, after = bare.astype(float), overlaid.astype(float)
    misfit = []
    for colour in colours:
        towards = colour - before
        share = ((after - before) * towards).sum(axis=2) / np.maximum((towards**2).sum(axis=2), 1)
        misfit.append(np.linalg.norm(after - before - share[..., None] * towards, axis=2))
    changed = np.abs(after - before).max(axis=2) > 12
    return np.where(changed, np.argmin(misfit, axis=0) + 1, 0)


def test_the_list_of_studies_leads_to_the_panel(session):
    seen, _ = session
    assert any("monai-label" in link and seen["study"] in link for link in seen["links"]), seen["links"]


def test_panel_offers_what_the_server_has(session):
    seen, _ = session
    assert all(part in seen["panel"] for part in ("UNet++", MODEL, "least_certain", "random", "first"))
    assert seen["segments"] == NAMES


def test_depth_reaches_the_server(session):
    ((url, body),) = session[0]["posted"]
    fields = next(line for line in body.splitlines() if line.startswith("{"))
    assert f"/infer/{MODEL}?" in url and json.loads(fields)["depth"] == "2"


@pytest.mark.parametrize("view", VIEWS)
def test_the_measure_knows_where_a_pixel_lies(session, view):
    """Grey values of the bare picture are those of the sample at the places that the viewer names."""
    seen, _ = session
    picture, places = seen["bare"][view]
    volume = read_volume(SAMPLE)
    grey, expected = picture.mean(axis=2), sampled(volume, places)
    inside = expected > 0
    assert np.corrcoef(grey[inside], expected[inside])[0, 1] > 0.9
    assert grey[~inside].mean() < 20


@pytest.mark.parametrize("view", VIEWS)
def test_overlays_lie_where_the_command_line_finds_the_labels(session, view):
    seen, folder = session
    labels = read_volume(folder / "cli" / "mr_seg.nii.gz", labels=True)
    (bare, places), (overlaid, same) = seen["bare"][view], seen["overlaid"][view]
    np.testing.assert_array_equal(places, same)
    found, expected = painted(bare, overlaid, seen["colours"]), sampled(labels, places)
    assert likeness(found > 0, expected > 0) > 0.97  # a voxel aside: at most 0.91
    for index in np.unique(expected[expected > 0]):
        assert likeness(found == index, expected == index) > 0.97, NAMES[index - 1]
    for other in (np.flip(expected, 0), np.flip(expected, 1), np.flip(expected)):
        assert likeness(found > 0, other > 0) < 0.7, "the measure would not see a mirrored overlay"


def test_next_sample_names_the_series(session):
    assert make.uid("series", "ohif") in session[0]["next"]


def main(picture):
    """Show the sample segmented, as an annotator would see it."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as (view, url, study):
        view.open(url, study)
        view.connect()
        view.segment()
        for name in VIEWS:
            view.view(name)
        view.page.get_by_text("Running Segmentation - Successful").wait_for(state="hidden")
        view.page.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
