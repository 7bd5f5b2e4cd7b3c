"""The label server asked by those who mean no good, and by those who click twice: nothing outside, nothing unasked."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import BUNDLE, phantom, save_nifti
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.label_server import environment, label_python, serving
from helpers.learning import idle
from helpers.tiny import make_tiny
from helpers.waiting import wait_for

from unetpp_monai.annotation.endpoints import ENDPOINTS
from unetpp_monai.annotation.version_store import copy_bundle
from unetpp_monai.files import sha256

pytestmark = [pytest.mark.server, pytest.mark.slow]

MODEL = "unetpp_hippocampus_mri_segmentation"
CASES = ("case_0", "case_1", "case_2")
OUTSIDE = [
    "../../secret",
    "..%2F..%2Fsecret",
    "%252e%252e%252fsecret",
    "/etc/hostname",
    "labels/../../secret",
    "C:%5Cx",
]
OUTSIDE += ["..", "a%00b", "x" * 300, "..%5C..%5Csecret", "labels%2Ffinal%2Fcase_0"]
LOOK = 10  # seconds within which a copied file is noticed
STOP = 15  # seconds within which all processes end


def image_of(seed=0):
    return phantom(seed=seed)[0]


def place_of(folder):
    """Studies, a bundle that learns quickly, and a file outside that must stay as it is."""
    (folder / "studies").mkdir()
    for seed, case in enumerate(CASES):
        save_nifti(folder / "studies" / f"{case}.nii.gz", image_of(seed))
    save_nifti(folder / "secret.nii.gz", image_of(9))
    return make_tiny(copy_bundle(BUNDLE, folder / "bundle"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    label_python()
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def server(place):
    with serving(place / "studies", place / "server", "--bundle", place_of(place)) as running:
        yield running


@pytest.fixture(scope="module")
def image(place, server):
    return save_nifti(place / "sent.nii.gz", image_of(7)).read_bytes()


def refusal(answer, *statuses):
    """Message of a refusal, which is one line of one of these statuses."""
    status, body = answer
    assert status in statuses, answer
    detail = json.loads(body)["detail"] if body else ""
    assert "\n" not in detail and "Traceback" not in detail
    return detail


def files_below(folder):
    """Content of all files outside of the server's own folder, less the list that MONAI Label keeps."""
    left_out = ("server", "datastore_v2.json", ".lock")
    paths = (path for path in folder.rglob("*") if path.is_file())
    parts = {path.relative_to(folder): path for path in paths}
    return {
        part: sha256(path) for part, path in parts.items() if part.parts[0] != "server" and part.name not in left_out
    }


def test_every_endpoint_of_monai_label_is_decided():
    script = (
        "import json, os, tempfile\n"
        "os.environ['MONAI_LABEL_AUTH_ENABLE'] = 'true'\n"
        "from unetpp_monai.annotation.shim import sitecustomize\n"
        "from monailabel.app import app\n"
        "from starlette.routing import Mount\n"
        "def walk(routes):\n"
        "    for route in routes:\n"
        "        inner = getattr(route, 'original_router', None)\n"
        "        if isinstance(route, Mount): yield 'GET', route.path + '/{path:path}'\n"
        "        elif inner is not None: yield from walk(inner.routes)\n"
        "        else: yield from ((method, route.path) for method in route.methods)\n"
        "print(json.dumps(list(walk(app.routes))))\n"
    )
    done = subprocess.run([label_python(), "-c", script], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    routes = {(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])}
    table = {(method, one.path) for one in ENDPOINTS for method in one.methods.split()}
    proxies = {
        (method, f"/proxy/dicom/{part}/{{path:path}}")
        for method in ("GET", "POST")
        for part in ("wado", "qido", "stow")
    }
    assert proxies < routes and len(routes) > 50
    assert routes - proxies - table == set()


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_lead_nowhere_outside(server, place, image, name):
    before = files_below(place)
    sent, form = {"file": ("a.nii.gz", image)}, {"params": "{}", "info": "{}"}
    for path in ("/datastore/", "/datastore/image"):
        refusal(server.request(f"{path}?image={name}", method="PUT", files=sent), 400)
        refusal(server.request(f"{path}?id={name}", method="DELETE"), 403)
    label = {"label": ("a.nii.gz", image)}
    refusal(server.request(f"/datastore/label?image={name}", method="PUT", files=label), 404)
    refusal(server.request(f"/datastore/label?image=case_0&tag={name}", method="PUT", files=label), 404)
    for path in ("image?image={}", "image/info?image={}", "label?label={}&tag=final", "label?label=case_0&tag={}"):
        refusal(server.request("/datastore/" + path.format(name)), 404)
    for path in ("image/info?image={}", "label/info?label={}&tag=final", "updatelabelinfo?label=case_0&tag={}"):
        refusal(server.request("/datastore/" + path.format(name), method="PUT", form=form), 404)
    refusal(server.request(f"/infer/{MODEL}?image={name}", method="POST", form=form), 404)
    refusal(server.request(f"/infer/{MODEL}?image=case_0&session_id={name}", method="POST", form=form), 404)
    for method in ("GET", "DELETE"):
        refusal(server.request(f"/session/{name}", method=method), 404, 405)
    for path in ("/train/", "/scoring/", "/batch/infer/", "/activelearning/", "/infer/"):
        refusal(server.request(path + name, method="POST", body={}), 404, 405)
    refusal(server.request(f"/ohif/{name}/../../x"), 404)
    refusal(server.request(f"/proxy/dicom/{name}"), 404)
    assert files_below(place) == before


def test_paths_in_parameters_lead_nowhere_outside(server, place):
    before = files_below(place)
    secret = str(place / "secret.nii.gz")
    odd = {
        "image": secret,
        "model": "../x",
        "label": secret,
        "label_file": secret,
        "bundle_path": str(place),
        "file": secret,
    }
    url = f"/infer/{MODEL}?image=case_0&output=json"
    status, body = server.request(url, method="POST", form={"params": json.dumps(odd)})
    own = server.request(url, method="POST", form={"params": "{}"})
    assert status == own[0] == 200 and json.loads(body)["ml"] == json.loads(own[1])["ml"]
    for params in (
        {"result_extension": "/../x"},
        {"save_label": True, "label_tag": "../x"},
        {"label_tag": "final", "save_label": True},
    ):
        refusal(server.request(url, method="POST", form={"params": json.dumps(params)}), 400)
    for tag in ("../x", "final"):
        refusal(server.request(f"/batch/infer/{MODEL}", method="POST", body={"label_tag": tag}), 400)
    refusal(server.request(f"/infer/{MODEL}?image=server.log", method="POST", form={}), 404)  # it lies where it runs
    for text in ("[1]", "{", '{"label_info": [{"idx": "x"}]}', '{"label_info": 7}', '{"a": "' + "x" * 70_000 + '"}'):
        refusal(server.request("/datastore/image/info?image=case_0", method="PUT", form={"info": text}), 400)
    assert files_below(place) == before


def test_other_origins_may_not_ask(server, image):
    port = server.url.rpartition(":")[2]
    foreign = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": f"evil.example:{port}"}]
    for headers in [*foreign, {"Origin": "http://localhost:1"}, {"Sec-Fetch-Site": "cross-site"}]:
        for method, path in (("GET", "/info/"), ("POST", "/train/"), ("DELETE", "/train/"), ("OPTIONS", "/datastore/")):
            refusal(server.request(path, method=method, headers=headers), 403)
        refusal(server.request("/datastore/", method="PUT", files={"file": ("a.nii.gz", image)}, headers=headers), 403)
    for headers in ({"Origin": server.url}, {}, {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"}):
        assert server.request("/info/", headers=headers)[0] == 200


def hostile_images(image):
    """Name -> content of what is no image that the bundle takes."""
    header = nib.Nifti1Header()
    header.set_data_shape((20_000, 20_000, 20_000))
    header.set_data_dtype(np.float64)
    huge = header.binaryblock + bytes(4 + 64)
    series = gzip.compress(nib.Nifti1Image(np.ones((8, 8, 8, 3), np.float32), np.eye(4)).to_bytes())
    nrrd = b"NRRD0004\ntype: double\ndimension: 3\nsizes: 20000 20000 20000\nencoding: raw\n\n"
    return {
        "rubbish.nii.gz": b"no image " * 99,
        "empty.nii.gz": b"",
        "cut.nii.gz": image[: len(image) // 2],
        "huge.nii": huge,
        "huge.nii.gz": gzip.compress(huge),
        "huge.nrrd": nrrd + bytes(64),
        "elsewhere.nrrd": nrrd.replace(b"\n\n", b"\ndata file: /etc/hostname\n\n"),
        "elsewhere.mhd": b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
        "series.nii.gz": series,
        "page.html": b"<script>",
        "none": b"",
    }  # fmt: skip


def test_uploads_that_are_no_images_leave_nothing(server, place, image):
    before = files_below(place)
    said = []
    for name, content in hostile_images(image).items():
        sent = {
            "/datastore/image?image=new": ("PUT", "file"),
            "/datastore/label?image=case_0&tag=final": ("PUT", "label"),
            "/datastore/label?image=case_0&tag=original": ("PUT", "label"),
            "/session/": ("PUT", "files"),
            f"/infer/{MODEL}": ("POST", "file"),
        }
        for path, (method, field) in sent.items():
            files = {field: (name, content)}
            said.append(refusal(server.request(path, method=method, form={"params": "{}"}, files=files), 400))
    assert not [text for text in said if str(place) in text]
    refusal(server.request("/session/?uncompress=true", method="PUT", files={"files": ("a.nii.gz", image)}), 400)
    assert files_below(place) == before
    state = place / "server" / "state"
    assert not list(state.glob("uploads/*/unetpp_*")) and not list((state / "sessions").glob("*"))


def test_an_image_that_is_there_stays(server, place, image):
    put = {"method": "PUT", "files": {"file": ("a.nii.gz", image)}}
    assert server.request("/datastore/image?image=mine", **put) == (200, b'{"image":"mine"}')
    assert server.request("/datastore/image?image=mine", **put)[0] == 200  # sent again, as after a break
    before = sha256(place / "studies" / "case_1.nii.gz")
    assert "which exists" in refusal(server.request("/datastore/image?image=case_1", **put), 409)
    other = {"method": "PUT", "files": {"file": ("a.nii", gzip.decompress(image))}}
    assert "which exists" in refusal(server.request("/datastore/image?image=mine", **other), 409)
    assert sha256(place / "studies" / "case_1.nii.gz") == before


def test_links_are_replaced_and_what_they_lead_to_stays(server, place):
    link, before = place / "studies" / "labels" / "final" / "case_2.nii.gz", sha256(place / "secret.nii.gz")
    link.symlink_to(place / "secret.nii.gz")
    label = save_nifti(place / "label.nii.gz", phantom(seed=2)[1]).read_bytes()
    sent = {"label": ("a.nii.gz", label)}
    assert server.request("/datastore/label?image=case_2", method="PUT", files=sent)[0] == 200
    assert not link.is_symlink() and sha256(place / "secret.nii.gz") == before
    link.unlink()


def series_of(folder, modality):
    """A zip of a DICOM series."""
    make_series(folder / "series", axial_affine((1.0, 1.0, 1.0)), (40, 44, 24), modality=modality)
    with zipfile.ZipFile(folder / "series.zip", "w") as archive:
        for path in (folder / "series").iterdir():
            archive.write(path, path.name)
    return {"file": ("series.zip", (folder / "series.zip").read_bytes())}


def test_another_modality_is_refused(server, tmp_path):
    """The other server of this file was started with --any-modality."""
    sent = {"method": "POST", "form": {"params": "{}"}, "files": series_of(tmp_path, "CT")}
    assert "modality" in refusal(server.request(f"/infer/{MODEL}?output=json", **sent), 400).lower()


def test_weights_are_nobodys_to_replace(server, place, image):
    (weights,) = (place / "server" / "state" / "bundles").glob("*/models/model.pt")
    before = sha256(weights)
    for name in (MODEL, "other"):
        refusal(server.request(f"/model/{name}", method="PUT", files={"file": ("model.pt", b"rubbish")}), 403)
        refusal(server.request(f"/model/{name}", method="DELETE"), 403)
    assert sha256(weights) == before and server.request(f"/model/{MODEL}")[1] == weights.read_bytes()


def test_what_is_unknown_is_said_at_once(server):
    for path in (
        "/train/wrong",
        "/scoring/wrong",
        "/batch/infer/wrong",
        "/activelearning/wrong",
        "/infer/wrong?image=case_0",
    ):
        assert "must be one of" in refusal(server.request(path, method="POST", body={}), 404)
    for path in (
        "/model/wrong",
        "/model/info/wrong",
        "/session/wrong",
        "/datastore/image?image=wrong",
        "/datastore/dataset",
    ):
        refusal(server.request(path), 404)
    for path in ("label?label=wrong&tag=final", "label?label=case_2&tag=odd", "label/info?label=case_2&tag=final"):
        refusal(server.request(f"/datastore/{path}"), 404)
    for method, path in (
        ("train", {"max_epochs": "many"}),
        ("train", {"device": "cuda:7"}),
        ("train", {"val_split": 2}),
    ):
        refusal(server.request(f"/{method}/{MODEL}", method="POST", body=path), 400)
    for options in ({"depth": "9x"}, {"max_samples": -1}, {"depth": "1"}):
        refusal(server.request(f"/scoring/{MODEL}", method="POST", body=options), 400)
    for path in ("/logs/", "/logs/gpu"):
        assert "when the server is started" in refusal(server.request(path), 403)
    for path in ("/reload", f"/infer/wsi/{MODEL}", f"/infer/wsi_v2/{MODEL}", "/proxy/dicom/stow/studies"):
        refusal(server.request(path, method="POST", body={}), 403)


def total(server):
    return json.loads(server.request("/datastore/")[1])["total"]


def test_copied_files_are_noticed_after_quick_uploads(server, place):
    contents = [save_nifti(place / "sent.nii.gz", image_of(20 + number)).read_bytes() for number in range(20)]
    before = total(server)

    def put(number):
        sent = {"file": ("a.nii.gz", contents[number] if number % 3 else b"rubbish")}
        return server.request(f"/datastore/image?image=quick_{number}", method="PUT", files=sent)[0]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(put, range(20))) == [200] * 13 + [400] * 7
    assert total(server) == before + 13
    for name in ("copied_1", "copied_2"):
        start = time.monotonic()
        shutil.copy(place / "studies" / "case_0.nii.gz", place / "studies" / f"{name}.nii.gz")
        wait_for(lambda name=name: server.request("/datastore/?output=all")[1].find(name.encode()) > 0, "the copy")
        assert time.monotonic() - start < LOOK
    (place / "studies" / "copied_1.nii.gz").unlink()
    wait_for(lambda: total(server) == before + 14, "its end")
    assert not list((place / "server" / "state" / "uploads").glob("*/unetpp_*"))


def test_a_batch_as_the_admin_page_starts_it(server, place):
    """Its own defaults ask for all GPUs; while it runs, nothing that the server notes is lost."""
    asked = {"device": "cuda", "multi_gpu": True, "gpus": "all", "logging": "WARNING", "save_label": True}
    asked |= {"label_tag": "original", "max_workers": 1, "max_batch_size": 3}
    assert server.request(f"/batch/infer/{MODEL}?images=all", method="POST", body=asked)[0] == 200
    refusal(server.request(f"/batch/infer/{MODEL}?images=all", method="POST", body=asked), 409)
    for number in range(50):
        noted = {"info": json.dumps({f"note_{number}": 1})}
        assert server.request("/datastore/image/info?image=mine", method="PUT", form=noted)[0] == 200
    task = idle(server, "batch/infer")
    assert task["status"] == "DONE", task
    status = json.loads(server.request("/datastore/")[1])
    assert status["label_tags"]["original"] == 3
    info = json.loads(server.request("/datastore/image/info?image=mine")[1])
    assert sum(key.startswith("note_") for key in info) == 50
    label = nib.load(place / "studies" / "labels" / "original" / "case_0.nii.gz")
    assert label.shape == nib.load(place / "studies" / "case_0.nii.gz").shape


TOKEN = "a token of this test"
VIEWER = "http://viewer.example:3000"


def test_a_server_with_a_token_and_an_open_endpoint_ends_whole(tmp_path):
    """Who knows the token, from an allowed page: labels, one training of a double click, deletes; SIGTERM ends all."""
    options = [
        "--any-modality",
        "--token",
        TOKEN,
        "--allow-origin",
        VIEWER,
        "--open-endpoint",
        "DELETE /datastore/image",
    ]
    bundle, studies = place_of(tmp_path), tmp_path / "studies"
    (studies / "linked.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    with serving(studies, tmp_path / "server", "--bundle", bundle, *options, token=TOKEN) as server:
        headers = {"Authorization": f"Bearer {TOKEN}", "Origin": VIEWER}
        check_token(server, headers)
        assert server.request("/datastore/image?id=linked", method="DELETE", headers=headers)[0] == 200
        assert not (studies / "linked.nii.gz").is_symlink() and (tmp_path / "secret.nii.gz").is_file()
        refusal(server.request("/datastore/image?id=linked", method="DELETE", headers=headers), 404)
        refusal(server.request("/datastore/label?id=case_0&tag=final", method="DELETE", headers=headers), 403)
        sent = {"form": {"params": "{}"}, "files": series_of(tmp_path, "CT")}
        assert server.request(f"/infer/{MODEL}?output=json", method="POST", headers=headers, **sent)[0] == 200
        check_double_click(server, headers, tmp_path)
        check_end(server, headers)


def check_token(server, headers):
    assert server.request("/info/", headers=headers)[0] == 200
    refusal(server.request("/info/"), 401)
    refusal(server.request("/info/", headers={**headers, "Authorization": "Bearer guess"}), 401)
    refusal(server.request("/info/", headers={**headers, "Origin": "http://evil.example"}), 403)
    preflight = {
        "Origin": VIEWER,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert server.request("/train/", method="OPTIONS", headers=preflight)[0] == 200


def check_double_click(server, headers, folder):
    for seed, case in enumerate(CASES):
        path = save_nifti(folder / "label.nii.gz", phantom(seed=seed)[1])
        sent = {"label": ("label.nii.gz", path.read_bytes())}
        answer = server.request(f"/datastore/label?image={case}", method="PUT", files=sent, headers=headers)
        assert answer[0] == 200, answer
    asked = {"method": "POST", "headers": headers, "body": {"max_epochs": 100_000, "device": "cpu"}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.request(f"/train/{MODEL}", **asked), range(4)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409], answers
    for path in (f"/train/{MODEL}?enqueue=true", "/train/"):
        assert "already running" in refusal(server.request(path, **{**asked, "body": {}}), 409)

    def epoch():
        (stats,) = json.loads(server.request("/info/", headers=headers)[1])["train_stats"].values()
        return stats.get("epoch", 0) >= 1

    wait_for(epoch, "an epoch")


def check_end(server, headers):
    asked = {"method": "POST", "form": {"params": "{}"}, "headers": headers}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.request, f"/infer/{MODEL}?image=case_0", **asked)
        family = processes_of(server)
        assert len(family) > 1
        start = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        server.process.wait(STOP)
        wait_for(lambda: not any(Path("/proc", pid).exists() for pid in family), "the end of all")
        assert time.monotonic() - start < STOP
        running.result()
    assert not list((server.folder / "state" / "uploads").iterdir())


def processes_of(server):
    """Ids of the processes of a server's session, as text."""
    stats = {path.name: path / "stat" for path in Path("/proc").iterdir() if path.name.isdecimal()}
    fields = {pid: stat.read_text().rpartition(")")[2].split() for pid, stat in stats.items() if stat.exists()}
    return [pid for pid, values in fields.items() if values[3] == str(server.process.pid) and values[0] != "Z"]
