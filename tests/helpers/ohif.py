"""The real OHIF viewer in a real browser: its built files and an archive's DICOMweb behind one loopback port.

    with ohif(server.dicomweb_url) as url, viewer(url, study_uid) as view:
        view.open_segmentation()
        view.picture()

Fetch the viewer once with `bash .ci/install_viewers .cache/ohif`. As a command, it stores a series and its SEG in an
Orthanc of its own and takes a screenshot:
`PYTHONPATH=tests python -m helpers.ohif SERIES SEG SLICE OUT.png [DIST [LOW,HIGH]]`.
"""

import base64
import io
import json
import re
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from helpers import ROOT
from helpers.marks import must_be_marked
from helpers.orthanc import orthanc
from helpers.waiting import DEADLINE, wait_for

DIST = ROOT / ".cache" / "ohif" / "dist"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")  # runs as root and in small containers
SHOWN = """window.cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())
    .find(viewport => viewport.element.closest("[data-cy=viewport-grid]"))"""  # thumbnails are drawn by others
PICTURE = f"""async () => {{
    const viewport = {SHOWN};
    await new Promise(done => {{
        viewport.element.addEventListener("CORNERSTONE_IMAGE_RENDERED", done, {{ once: true }});
        viewport.render();
    }});
    return viewport.canvas.toDataURL();
}}"""  # of what is drawn now, not of what was drawn before the last step
WINDOW = f"([lower, upper]) => {SHOWN}.setProperties({{ voiRange: {{ lower, upper }} }})"
SEGMENTS = """rows => rows.map(row => [
    row.innerText.split("\\n")[1],
    row.querySelector("[style*=background-color]").style.backgroundColor,
])"""
TOURS = ["basicViewerTour"]  # introductions that would cover the image
PASSED_ON = ("Content-Type", "Accept")
SETTINGS = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "maxNumberOfWebWorkers": 1,
    "showCPUFallbackMessage": False,
    "disableConfirmationPrompts": True,  # opens a segmentation without asking
    "investigationalUseDialog": {"option": "never"},  # covers the image
    "defaultDataSourceName": "archive",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "archive",
            "configuration": {
                "friendlyName": "archive",
                "name": "archive",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


class _Handler(SimpleHTTPRequestHandler):
    """The viewer's files, our settings, and a way through to the archive."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args, archive, **options):
        self.archive = archive
        super().__init__(*args, **options)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            self._answer(200, "text/javascript", f"window.config = {json.dumps(SETTINGS)};".encode())
        elif path.startswith("/dicom-web/"):
            self._pass_on()
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"  # a page of the viewer's own router
            super().do_GET()

    def do_POST(self):
        self._pass_on()

    def _pass_on(self):
        size = int(self.headers.get("Content-Length", 0))
        headers = {name: self.headers[name] for name in PASSED_ON if self.headers[name]}
        headers["Host"] = self.headers["Host"]  # for the addresses that the archive answers with
        url = self.archive + self.path.removeprefix("/dicom-web")
        request = urllib.request.Request(url, data=self.rfile.read(size) if size else None, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, "text/plain", error.read())

    def _answer(self, status, kind, content):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def ohif(dicomweb_url, dist=DIST):
    """Serve the viewer on a free loopback port; yield its address. Skips the test where the viewer is missing."""
    if not (dist / "index.html").exists():
        pytest.skip("needs the OHIF viewer: bash .ci/install_viewers .cache/ohif")
    handler = partial(_Handler, archive=dicomweb_url, directory=str(dist))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Viewer:
    """The viewer with one study open, in a page of a browser."""

    def __init__(self, page):
        self.page = page

    def wait_for(self, condition, what):
        """Poll until `condition()` is true, while the page goes on; return what it gave."""
        return wait_for(condition, what, pause=lambda seconds: self.page.wait_for_timeout(1000 * seconds))

    def open_segmentation(self):
        """Overlay the study's only SEG, and wait for its segments in the panel."""
        self.page.locator("[data-cy=study-browser-thumbnail-no-image]").dblclick()
        self.wait_for(self.segments, "the list of segments")

    def segments(self):
        """Names and colours, as CSS, of the segments in the panel."""
        return self.page.locator("[data-cy=data-row]").evaluate_all(SEGMENTS)

    def slice(self):
        """Instance number and place in the stack, from 1, of what is shown; None while nothing is."""
        text = self.page.locator("[data-cy=viewport-overlay-bottom-right]").inner_text()
        found = re.search(r"I:\s*(\d+)\s*\((\d+)/\d+\)", text)
        return found and (int(found[1]), int(found[2]))

    def go_to(self, place):
        """Turn the wheel until the slice at this place of the stack is shown; return its instance number."""
        self.page.locator("[data-cy=viewport-grid] canvas.cornerstone-canvas").hover()

        def step():
            now = self.wait_for(self.slice, "a slice")
            if now[1] != place:
                self.page.mouse.wheel(0, 100 if now[1] < place else -100)
                for _ in range(20):  # a step may need a moment, or be lost while the viewer is busy
                    if self.slice() != now:
                        break
                    self.page.wait_for_timeout(50)
            return now[1] == place

        self.wait_for(step, f"slice {place}")
        return self.slice()[0]

    def window(self, lowest, highest):
        """Show these values in black and white, and what lies between in grey."""
        self.page.evaluate(WINDOW, [lowest, highest])

    def picture(self):
        """The image with its overlays as drawn now, without texts: `(rows, columns, RGB)` uint8."""
        data = self.page.evaluate(PICTURE).partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@contextmanager
def viewer(url, study, width=1200, height=800):
    """Open a study in a headless Chromium, whose software WebGL needs no graphics card; skips where that is missing."""
    must_be_marked("browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(1000 * DEADLINE)
            page.add_init_script(f"localStorage.setItem('shownTours', '{json.dumps(TOURS)}')")
            page.goto(f"{url}/viewer?StudyInstanceUIDs={study}")
            view = Viewer(page)
            page.locator("[data-cy=panelSegmentation-btn]").click()
            view.wait_for(view.slice, "the image")
            yield view
        finally:
            browser.close()


def store(dicomweb_url, paths):
    """Send files over DICOMweb (STOW); return their study's UID."""
    from dicomweb_client.api import DICOMwebClient

    datasets = [pydicom.dcmread(path) for path in paths]
    answer = DICOMwebClient(dicomweb_url).store_instances(datasets)
    assert len(answer.ReferencedSOPSequence) == len(datasets), answer
    return datasets[0].StudyInstanceUID


def main(series, segmentation, place, picture, dist=DIST, window=None):
    """Show a segmented series as a person would see it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        orthanc(folder) as server,
        ohif(server.dicomweb_url, Path(dist)) as url,
        viewer(url, store(server.dicomweb_url, [*Path(series).iterdir(), segmentation])) as view,
    ):
        view.open_segmentation()
        view.go_to(int(place))
        if window:
            view.window(*map(float, window.split(",")))
        view.picture()
        view.page.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
