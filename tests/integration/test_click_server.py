"""The server for viewers and nnInteractive's real client: the session's answers, and no harm from others."""

import gc
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from helpers import BUNDLE, phantom
from helpers.interactive import tiny_interactive
from helpers.orthanc import free_port
from monai.bundle import ConfigParser

from unetpp_monai import Segmenter, Volume
from unetpp_monai.click_server import ClickServer, ServerOptions, Setting
from unetpp_monai.click_server.arrays import pack, unpack
from unetpp_monai.click_server.clicked import affine_of
from unetpp_monai.click_server.leases import FullError, Leases, NoLeaseError
from unetpp_monai.errors import InputError
from unetpp_monai.interactive import InitialLabels, Point, Prompting, Scribble
from unetpp_monai.prompts import core

httpx = pytest.importorskip("httpx")
pytest.importorskip("blosc2")
remote = pytest.importorskip("nnInteractive.inference.remote")

LABEL, AXES, SPACING = "posterior hippocampus", "SPL", [1.1, 0.9, 1.0]
SHAPE = (20, 30, 22)
# a client that is refused leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield
    gc.collect()  # here, not in another's test


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_interactive(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture(scope="module")
def segmenter(root):
    return Segmenter.from_bundle(root, device="cpu", runtime="eager")


def serving(segmenter, **options):
    setting = Setting(LABEL, AXES, depth=1)
    server = ClickServer(segmenter, ServerOptions(setting, port=0, **options))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def server(segmenter):
    running = serving(segmenter)
    yield running
    running.shutdown()
    running.server_close()


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def client(server):
    with remote.nnInteractiveRemoteInferenceSession(url(server)) as session:
        yield session


@pytest.fixture(scope="module")
def image():
    return phantom(SHAPE)[0][None]


@pytest.fixture
def ours(segmenter, image):
    return segmenter.session(Volume(image, affine_of(AXES, SPACING)))


def begun(client, image):
    client.set_image(image, {"spacing": np.array(SPACING)})
    buffer = np.zeros(SHAPE, np.uint8)
    client.set_target_buffer(buffer)
    return buffer


def shown(ours):
    return (ours.labels(1).array[0] == 2).astype(np.uint8) if ours.steps else np.zeros(SHAPE, np.uint8)


def test_the_real_client_gets_what_the_session_gives(client, image, ours):
    assert client.ping() and client.supports_undo and client.supports_initial_label
    assert client.supported_interactions == {
        "points": True, "scribble": True, "lasso": True, "bbox2d": False, "bbox3d": False,
    }  # fmt: skip
    buffer = begun(client, image)
    assert client.original_image_shape == (1, *SHAPE)
    scribble, lasso = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    scribble[9, 5:12, 8], lasso[10, 14:22, 6:15] = 1, 1
    deep = np.zeros(SHAPE, bool)
    deep[10] = core(lasso[10] > 0)
    seen = []
    for step in (
        lambda: client.add_point_interaction([5, 6, 7], include_interaction=True),
        lambda: client.add_scribble_interaction(scribble, include_interaction=False),
        lambda: client.add_lasso_interaction(lasso, include_interaction=True),
        lambda: client.add_point_interaction((15, 20, 9), include_interaction=True, run_prediction=False),
        lambda: client._predict(),
    ):
        step()
        seen.append(buffer.copy())
    for number, prompt in enumerate((
        Point(ours.position((5, 6, 7)), LABEL),
        Scribble([ours.position(voxel) for voxel in np.argwhere(scribble)], "background", connected=False),
        Scribble([ours.position(voxel) for voxel in np.argwhere(deep)], LABEL, connected=False, spread=False),
    )):  # fmt: skip
        ours.add(prompt)
        assert np.array_equal(seen[number], shown(ours))
    assert np.array_equal(seen[3], seen[2])
    ours.add(Point(ours.position((15, 20, 9)), LABEL))
    assert np.array_equal(seen[4], shown(ours))
    assert len({each.tobytes() for each in seen}) >= 3
    for number in (2, 1, 0):
        assert client.undo() and np.array_equal(buffer, seen[number])
    assert client.undo() and not buffer.any() and not client.undo()


def test_a_part_with_a_box_and_a_reset(client, image, ours):
    buffer = begun(client, image)
    part = np.zeros((1, 7, 3), np.uint8)
    part[0, :, 1] = 1
    box = [[9, 10], [5, 12], [7, 10]]
    assert client.add_scribble_interaction(part, include_interaction=True, interaction_bbox=box) is not None
    ours.add(Scribble([ours.position((9, y, 8)) for y in range(5, 12)], LABEL, connected=False))
    assert buffer.any() and np.array_equal(buffer, shown(ours))
    client.reset_interactions()
    assert not buffer.any()
    client.add_point_interaction([5, 6, 7], include_interaction=True)
    ours.reset()
    ours.add(Point(ours.position((5, 6, 7)), LABEL))
    assert np.array_equal(buffer, shown(ours))


def test_an_initial_segmentation_is_shown_and_then_refined(client, image, ours):
    buffer = begun(client, image)
    initial = (phantom(SHAPE)[1] == 2).astype(np.uint8)
    client.add_initial_seg_interaction(initial)
    assert np.array_equal(buffer, initial)
    client.add_point_interaction([5, 6, 7], include_interaction=False)
    ours.add(InitialLabels(Volume(2 * initial[None], ours.volume.affine)))
    ours.add(Point(ours.position((5, 6, 7)), 0))
    assert np.array_equal(buffer, shown(ours))
    assert client.undo() and np.array_equal(buffer, initial)


def test_a_heartbeat_leaves_the_connection_to_the_next_request(server, client, image):
    buffer = begun(client, image)
    for _ in range(2):
        client.heartbeat()
        client.add_point_interaction([5, 6, 7], True)
    client.heartbeat()
    assert buffer.any() and client.lease_status()["remaining_seconds"] > 0


def test_an_initial_segmentation_that_is_refined_or_refused_leaves_the_clients_buffer_right(server, client, image):
    buffer = begun(client, image)
    clicked = server.leases.find(client._lease_token, active=True).clicked
    client.add_point_interaction([5, 6, 7], True)
    initial = (phantom(SHAPE)[1] == 2).astype(np.uint8)
    client.add_initial_seg_interaction(initial, run_prediction=True)
    assert np.array_equal(buffer > 0, clicked._shown) and not np.array_equal(buffer, initial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetpp_monai.interactive.marking.core", np.zeros_like)  # as of one voxel of a fine image
        assert "must have a label that takes prompts" in refused(lambda: client.add_initial_seg_interaction(initial))
    assert np.array_equal(buffer > 0, clicked._shown) and not client.undo()
    client.add_point_interaction([5, 6, 7], True)
    assert np.array_equal(buffer > 0, clicked._shown) and not np.array_equal(buffer, initial)


def refused(call, status=400):
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call()
    assert caught.value.response.status_code == status
    detail = caught.value.response.json()["detail"]
    assert len(detail.splitlines()) == 1
    return detail


def test_what_cannot_be_done_is_said_in_a_line(client, image):
    assert "an image must come before" in refused(lambda: client.add_point_interaction([1, 2, 3], True))
    assert "must have spacing" in refused(lambda: client.set_image(image))
    assert "must be finite" in refused(lambda: client.set_image(np.full_like(image, np.nan), {"spacing": SPACING}))
    assert "takes 1 channel, got 2" in refused(lambda: client.set_image(image.repeat(2, 0), {"spacing": SPACING}))
    client.set_image(image, {"spacing": SPACING})
    assert "a target buffer must come before" in refused(lambda: client.add_point_interaction([1, 2, 3], True))
    small = np.zeros((3, 3, 3), np.uint8)
    assert "must be of bool, uint8" in refused(lambda: client.set_target_buffer(np.zeros(SHAPE, complex)))
    assert "shape of the image, [20, 30, 22]" in refused(lambda: client.set_target_buffer(small))
    buffer = begun(client, image)
    assert "not boxes" in refused(lambda: client.add_bbox_interaction([[1, 5], [1, 5], [3, 4]], True))
    assert "within the image" in refused(lambda: client.add_point_interaction([20, 2, 3], True))
    assert "three numbers" in refused(lambda: client.add_point_interaction([2, 3], True))
    assert "must be finite" in refused(lambda: client.add_point_interaction([float("nan"), 3, 3], True))
    assert "three numbers" in refused(lambda: client.add_point_interaction([True, 2, 3], True))
    assert "triples of numbers" in refused(lambda: client.add_point_interaction([10**400, 2, 3], True))
    for spacing in ([0, 1, 1], [-1, 1, 1], [1, 1], "1,1,1", [10**400, 1, 1], [1, 1, float("nan")]):
        assert "must have spacing" in refused(lambda spacing=spacing: client.set_image(image, {"spacing": spacing}))
    begun(client, image)
    assert "image's shape" in refused(lambda: client.add_scribble_interaction(small, True))
    empty = np.zeros(SHAPE, np.uint8)
    assert "must mark 1 to 1000000 voxels, got none" in refused(lambda: client.add_scribble_interaction(empty, True))
    assert "must mark a voxel" in refused(lambda: client.add_initial_seg_interaction(empty))
    box = [[0, 3], [0, 3], [20, 23]]
    assert "or of its box's" in refused(lambda: client.add_scribble_interaction(small, True, interaction_bbox=box))
    assert "or of its box's" in refused(
        lambda: client.add_scribble_interaction(small, True, interaction_bbox=[[0, 3], [0, 3], [0, 3.5]])
    )
    assert not buffer.any()
    buffer = begun(client, image.astype(np.int64))
    client.add_point_interaction([5, 6, 7], True)
    assert buffer.any()


def test_two_clients_and_no_third(server, image):
    make = remote.nnInteractiveRemoteInferenceSession
    with make(url(server)) as first, make(url(server)) as second:
        with pytest.raises(
            remote.ServerAtCapacityError, match="at most 2 sessions are open at a time; try again later"
        ):
            make(url(server))
        buffers = [begun(each, image) for each in (first, second)]
        first.add_point_interaction([5, 6, 7], True)
        assert buffers[0].any() and not buffers[1].any()
        threads = [
            threading.Thread(target=each.add_point_interaction, args=([place, 9, 9], True))
            for each, place in ((first, 9), (first, 10), (second, 9), (second, 11))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert first.undo() and first.undo() and first.undo() and not first.undo()
        assert second.undo() and second.undo() and not second.undo()
    with make(url(server)) as third:
        begun(third, image)


def test_leases_end_when_idle_or_silent_and_not_before(segmenter):
    now = [0.0]
    leases = Leases(lambda: object(), most=1, idle=100.0, silent=10.0, clock=lambda: now[0])
    lease = leases.claim()
    for _ in range(12):  # a heartbeat keeps it, and does not count as use
        now[0] += 9
        if now[0] <= 100:
            assert leases.find(lease.token, active=False) is lease and leases.left(lease) == 100 - now[0]
    with pytest.raises(NoLeaseError):
        leases.find(lease.token, active=False)
    lease = leases.claim()
    with pytest.raises(FullError):
        leases.claim()
    now[0] += 11
    assert len(leases) == 0
    lease = leases.claim()
    with lease.lock:  # it is being answered
        now[0] += 1000
        assert len(leases) == 1
        leases.used(lease)
    now[0] += 9
    assert len(leases) == 1
    now[0] += 2
    assert len(leases) == 0
    leases.release("nothing")


def test_a_session_that_ended_is_told(server, client, image):
    begun(client, image)
    server.leases.release(client._lease_token)
    with pytest.raises(remote.SessionExpiredError, match="released, idle or silent"):
        client.add_point_interaction([5, 6, 7], True)
    large = np.random.default_rng(0).random((1, 80, 160, 160), np.float32)  # 8 MB, still on their way
    with pytest.raises(remote.SessionExpiredError, match="released, idle or silent"):
        client.set_image(large, {"spacing": SPACING})


def test_the_token_is_asked_of_everything_but_health(segmenter):
    running = serving(segmenter, token="secret")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        remote.nnInteractiveRemoteInferenceSession(url(running), api_key="other")
    with remote.nnInteractiveRemoteInferenceSession(url(running), api_key="secret") as session:
        assert session.ping() and session.lease_status()["remaining_seconds"] > 0 and session.heartbeat() > 0
    running.shutdown()
    running.server_close()


def ask(server, path, *, method="POST", body=b"", **headers):
    request = urllib.request.Request(url(server) + path, data=body if method == "POST" else None, method=method)
    for key, value in headers.items():
        request.add_header(key.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_requests_of_nobody(server, client, image):
    lease = {"X_Lease_Token": client._lease_token}
    assert ask(server, "/claim", Origin="http://evil.example")[0] == 403
    assert ask(server, "/claim", Sec_Fetch_Site="cross-site")[0] == 403
    for host, status in (("evil.example", 403), ("", 403), ("localhost:1", 200), ("[::1]", 200), ("10.0.0.7:1", 200)):
        assert ask(server, "/capabilities", method="GET", Host=host)[0] == status
    assert ask(server, "/nothing") == (404, {"detail": "no such path: /nothing"})
    assert ask(server, "/set_image", body=b"x" * 99)[0] == 410
    assert ask(server, "/set_image", body=b"x" * 99, **lease)[0] == 400
    assert ask(server, "/set_image", X_Meta="[1]", **lease)[0] == 400
    for body in (b"{", b"[" * 200_000, b"null", b"\xff"):
        assert ask(server, "/add_point_interaction", body=body, **lease)[0] == 400
    assert ask(server, "/set_image", Content_Length=str(1 << 40), **lease)[0] == 413
    begun(client, image)
    assert ask(server, "/add_point_interaction", body=b'{"coordinates": [1, 2, 3]}', **lease) == (
        400,
        {"detail": "include_interaction must be true or false, got None"},
    )


@pytest.mark.parametrize(
    "request_line", [b"PUT /claim HTTP/1.1", b"\x16\x03\x01", b"GET / HTTP/9", b"GET /" + b"a" * 70000]
)
def test_what_is_no_request_is_answered_in_a_line(server, request_line):
    with socket.create_connection(server.server_address[:2], timeout=20) as connection:
        connection.sendall(request_line + b"\r\n\r\n")
        answer = connection.makefile("rb").read()
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ") and b"must be of HTTP/1.1, and GET or POST" in content
    assert len(json.loads(content)["detail"].splitlines()) == 1


def test_a_client_that_breaks_off_disturbs_nobody(server, client, image):
    buffer = begun(client, image)
    head = f"POST /set_image HTTP/1.1\r\nX-Lease-Token: {client._lease_token}\r\nContent-Length: 99999\r\n\r\n"
    with socket.create_connection(server.server_address[:2]) as broken:
        broken.sendall(head.encode() + b"NNIA")
    client.add_point_interaction([5, 6, 7], True)
    assert buffer.any()


def test_arrays_survive_and_wrong_ones_are_refused():
    wire = pytest.importorskip("nnInteractive.inference.remote.serialization")
    for dtype in ("bool", "uint8", "int16", "float32"):
        array = (np.random.default_rng(0).random((3, 4, 5)) * 9).astype(dtype)
        for content, read in ((pack(array), wire.unpack_array), (wire.pack_array(array), lambda x: unpack(x, axes=3))):
            found = read(content)
            assert found.dtype == array.dtype and np.array_equal(found, array)
    content = pack(np.ones((4, 4, 4), np.uint8))
    huge = content.replace(np.array([4, 4, 4], "<i8").tobytes(), np.array([1 << 40, 4, 4], "<i8").tobytes())
    for wrong in (
        b"",
        b"NNIA",
        content[:-5],
        content[:20],
        huge,
        b"X" + content[1:],
        content.replace(b"uint8", b"wint8"),
    ):
        with pytest.raises(InputError, match="an array must"):
            unpack(wrong, axes=3)
    with pytest.raises(InputError, match="with 4 axes"):
        unpack(content, axes=4)


def test_what_cannot_be_served_is_refused(segmenter, root):
    automatic = Segmenter.from_bundle(BUNDLE, device="cpu", runtime="eager")
    parser = ConfigParser({"prompt_labels": [0, 1], "prompt_radius": 1.0, "pixdim": [1.0] * 3})
    half = Segmenter.from_bundle(root, device="cpu", runtime="eager")
    half.prompting = Prompting.of(parser, half.bundle.labels, 2)
    for one, setting, message in (
        (automatic, Setting(LABEL, AXES), "a bundle must support prompts to serve clicks"),
        (segmenter, Setting("liver", AXES), "a label must be one of anterior hippocampus, posterior"),
        (half, Setting("posterior hippocampus", AXES), "a prompt's label must be one of background, anterior hip"),
        (segmenter, Setting(LABEL, "SPX"), "axes must be one of R L, one of A P and one of S I"),
        (segmenter, Setting(LABEL, "SPI"), "axes must be one of"),
    ):
        with pytest.raises(InputError, match=message):
            ClickServer(one, ServerOptions(setting, port=0))


def test_a_prediction_ends_with_the_server(segmenter, monkeypatch):
    running, computes = serving(segmenter), threading.Event()

    def forever(clicked):
        computes.set()
        while True:
            time.sleep(0.01)

    monkeypatch.setattr("unetpp_monai.click_server.clicked.Clicked.predict", forever)
    _, lease = ask(running, "/claim")
    head = f"POST /predict HTTP/1.1\r\nX-Lease-Token: {lease['lease_token']}\r\n\r\n"
    with socket.create_connection(running.server_address[:2], timeout=20) as connection:
        connection.sendall(head.encode())
        assert computes.wait(20)
        running.end_prediction()
        assert connection.recv(9) == b"" and not running.worker.is_alive()
    running.shutdown()
    running.server_close()


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(root, image):
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "unetpp_monai", "clicks", "--bundle", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "viewers correct one label" in " ".join(done.stderr.replace("│", "").split())
    options = ["--label", LABEL, "--port", str(port), "--depth", "1", "--spacing", "1.1,0.9,1.0", "--runtime", "eager"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert f"http://127.0.0.1:{port}" in process.stderr.readline()
            client = remote.nnInteractiveRemoteInferenceSession(f"http://127.0.0.1:{port}")
            client.set_image(image)
            buffer = np.zeros(SHAPE, np.uint8)
            client.set_target_buffer(buffer)
            client.add_point_interaction([5, 6, 7], True)
            assert buffer.any()
            process.terminate()
            assert process.wait(20) == 143
        finally:
            process.kill()
