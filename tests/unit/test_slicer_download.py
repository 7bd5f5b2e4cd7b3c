"""Bundles from a URL for Slicer's module: from a real server, unpacked and checked by the real `unetpp info`."""

import hashlib
import http.server
import importlib
import io
import json
import shutil
import stat
import sys
import threading
import types
import zipfile

import pytest
from helpers import BUNDLE, ROOT
from helpers.waiting import wait_for

LIB = ROOT / "unetpp_monai" / "slicer" / "UNetPlusPlus" / "UNetPlusPlusLib"
NAMES = ("words", "process", "tasks", "unpack", "download")


@pytest.fixture
def lib(monkeypatch):
    """The library's modules that know nothing of Slicer."""
    package = types.ModuleType("slicer_bundles")
    package.__path__ = [str(LIB)]
    monkeypatch.setitem(sys.modules, "slicer_bundles", package)
    yield types.SimpleNamespace(**{name: importlib.import_module(f"slicer_bundles.{name}") for name in NAMES})
    for name in NAMES:
        sys.modules.pop(f"slicer_bundles.{name}", None)


@pytest.fixture
def serve(tmp_path):
    """Serve a folder; `/elsewhere` leads to a file."""
    (tmp_path / "served").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "served")

        def do_GET(self):
            if self.path != "/elsewhere":
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", "ftp://localhost/a.zip")
            return self.end_headers()

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path / "served"
        server.shutdown()
        thread.join()


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def bundle_zip(path, **changed):
    """The shipped bundle in a folder of a zip, with some files replaced."""
    files = {str(file.relative_to(BUNDLE)): file.read_bytes() for file in BUNDLE.rglob("*") if file.is_file()}
    return zipped(path, {f"hippocampus/{name}": text for name, text in {**files, **changed}.items()})


def download(lib, tmp_path, url, answers, **options):
    """Answer what is asked; return the bundle's folder and the questions."""
    asked = []
    folder = tmp_path / "bundles"
    one = lib.download.BundleDownload(
        lambda question: asked.append(question) or answers[len(asked) - 1], folder, schemes=("http",), **options
    )
    one.begin(url, sys.executable)
    found = []
    try:
        wait_for(lambda: found.append(one.update()) or found[-1] or not one.running, "the bundle")
    finally:
        assert not one.running
        assert not folder.exists() or [path for path in folder.iterdir() if path.name.startswith(".")] == []
    return found[-1], asked


@pytest.mark.slow
def test_a_bundle_is_downloaded_shown_unpacked_and_checked(lib, tmp_path, serve):
    address, served = serve
    path = bundle_zip(served / "my bundle.zip")
    found, asked = download(lib, tmp_path, f"{address}/my%20bundle.zip", [True, True])
    assert found == tmp_path / "bundles" / "my_20bundle"
    for file in (file for file in BUNDLE.rglob("*") if file.is_file()):
        assert (found / file.relative_to(BUNDLE)).read_bytes() == file.read_bytes()
    assert asked[0].startswith(f"Download {address}/my%20bundle.zip to {found}? The server learns your address.")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in asked[1]
    with pytest.raises(lib.process.SegmentationError, match="the bundle must be new"):
        download(lib, tmp_path, f"{address}/my%20bundle.zip", [])


@pytest.mark.slow
def test_a_bundle_that_would_run_something_is_removed(lib, tmp_path, serve):
    address, served = serve
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    config["device"] = "$__import__('os').mkdir('/tmp/ran')"
    bundle_zip(served / "a.zip", **{"configs/inference.json": json.dumps(config)})
    with zipfile.ZipFile(served / "a.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith("SHA256SUMS")], "which would show it first"
    with pytest.raises(lib.process.SegmentationError, match=r"this one would run configs/inference\.json: device"):
        download(lib, tmp_path, f"{address}/a.zip", [True, True])
    assert list((tmp_path / "bundles").iterdir()) == []


@pytest.mark.parametrize("answers", [[False], [True, False]])
def test_nothing_stays_if_the_user_says_no(lib, tmp_path, serve, answers):
    address, served = serve
    zipped(served / "a.zip", {"configs/metadata.json": "{}"})
    assert download(lib, tmp_path, f"{address}/a.zip", answers)[0] is None
    assert not (tmp_path / "bundles" / "a").exists()


def test_what_cannot_be_downloaded_is_told(lib, tmp_path, serve):
    address, served = serve
    (served / "large.zip").write_bytes(bytes(5000))
    for path, options, message in (
        ("none.zip", {}, "the bundle was not downloaded: HTTP Error 404"),
        ("large.zip", {"max_bytes": 4999}, "the bundle was not downloaded: it is larger than"),
        ("elsewhere", {}, "the bundle was not downloaded: a bundle's URL must begin with http://, got ftp://"),
        ("large.zip", {}, "a bundle must be a whole zip without password, got another"),
    ):
        with pytest.raises(lib.process.SegmentationError, match=message):
            download(lib, tmp_path, f"{address}/{path}", [True, True], **options)
    with pytest.raises(lib.process.SegmentationError, match=r"must begin with https://, got http://"):
        lib.download.BundleDownload(bool, tmp_path).begin(f"{address}/a.zip")


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../outside": "", "configs/metadata.json": ""}, "plain files below its folder, got '../outside'"),
        ({"/outside": "", "configs/metadata.json": ""}, "got '/outside'"),
        ({"a/../../outside": "", "configs/metadata.json": ""}, "plain files"),
        ({"C:outside": "", "configs/metadata.json": ""}, "plain files"),
        ({link("models"): "/etc", "configs/metadata.json": ""}, "got 'models'"),
        ({"README": ""}, "one bundle with configs/metadata.json, got 0"),
        ({"a/configs/metadata.json": "", "b/configs/metadata.json": ""}, "one bundle .* got 2"),
        ({"configs/metadata.json": "x" * 101}, "at most 0 MiB unpacked, got more"),
        ({f"{index}": "" for index in range(5001)}, "at most 5000 files, got 5001"),
    ],
)
def test_zips_that_could_do_harm(lib, tmp_path, files, message):
    folder = tmp_path / "bundles"
    folder.mkdir()
    archive = zipped(tmp_path / "a.zip", files)
    with pytest.raises(lib.process.SegmentationError, match=message):
        lib.unpack.unpack(archive, folder / "a", max_bytes=100)
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "bundles"]


def test_a_bundle_without_a_folder_around_it(lib, tmp_path):
    archive = zipped(tmp_path / "a.zip", {"configs/metadata.json": "{}", "models/model.pt": "weights"})
    lib.unpack.unpack(archive, tmp_path / "b")
    assert (tmp_path / "b" / "models" / "model.pt").read_text() == "weights"
    shutil.rmtree(tmp_path / "b")
    archive.write_bytes(archive.read_bytes()[:-30] + io.BytesIO(bytes(30)).read())
    with pytest.raises(lib.process.SegmentationError, match="whole zip"):
        lib.unpack.unpack(archive, tmp_path / "b")
