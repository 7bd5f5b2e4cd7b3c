"""The real OHIF viewer in a real browser: its built files and an archive's DICOMweb behind one loopback port.

    with ohif(server.dicomweb_url) as url, browser_page() as page:
        page.goto(f"{url}/viewer?StudyInstanceUIDs={uid}")

Fetch the viewer once with `bash .ci/install_viewers .cache/ohif`.
"""

import base64
import io
import json
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

DIST = ROOT / ".cache" / "ohif" / "dist"
PATIENCE_MS = 60_000  # for one step of the viewer on a busy machine
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")  # runs as root and in small containers
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
            with urllib.request.urlopen(request, timeout=60) as answer:
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


@contextmanager
def browser_page(width=1200, height=800):
    """A page of a headless Chromium; its software WebGL needs no graphics card. Skips the test where it is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(PATIENCE_MS)
            page.add_init_script(f"localStorage.setItem('shownTours', '{json.dumps(TOURS)}')")
            yield page
        finally:
            browser.close()
