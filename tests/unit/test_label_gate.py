"""Who may ask the label server for what: names, hosts, origins, token and the table of endpoints, without a server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import wait_for

from unetpp_monai.annotation.endpoints import ENDPOINTS, Kind, fault_of_name, find_endpoint, is_name, opened
from unetpp_monai.annotation.gate import Gate, Rules, allowed, origin_of
from unetpp_monai.annotation.server import SHIM, ServerOptions
from unetpp_monai.annotation.shim.sitecustomize import SERVER
from unetpp_monai.errors import InputError

PATHS = ["..", "../x", "x/..", "/etc/passwd", "a\\b", "C:\\x", "c:x", "a\0b", "%2e%2e%2fx", "a%5Cb", "", ".", "\ud800"]


@pytest.mark.parametrize("path", [*PATHS, "x" * 300, "line\nbreak"])
def test_paths_are_no_names(path):
    assert not is_name(path)
    assert all(fault_of_name(kind, path) for kind in Kind if kind not in (Kind.FILE, Kind.DICOMWEB))


@pytest.mark.parametrize("name", ["case_1", "Köpfe 3", "a..b", "100%", "1.2.3", "T1 (gado)", "日本"])
def test_names_are(name):
    assert is_name(name) and not fault_of_name(Kind.NEW_IMAGE, name)


@pytest.mark.parametrize("name", [".hidden", " a", "a ", "x" * 201])
def test_new_images_have_plain_names(name):
    assert "must be a name of at most 200 bytes" in fault_of_name(Kind.NEW_IMAGE, name)


@pytest.mark.parametrize("path", ["studies/../../instances", "studies//x", "%2e%2e/x", "a/b\\c"])
def test_the_archive_is_asked_below_its_root_only(path):
    assert fault_of_name(Kind.DICOMWEB, path) and not fault_of_name(Kind.DICOMWEB, "qido/studies/1.2/series")


@pytest.mark.parametrize(
    "text", ["null", "*", "https://*.example", "file:///x", "http://a/b", "http://u@a", "a.example", ""]
)
def test_what_is_no_origin(text):
    with pytest.raises(InputError, match="an origin must be such as"):
        allowed([text])


def test_origins_are_written_as_browsers_do():
    assert allowed(["HTTP://Viewer.example:80/", "https://a.example:8443"]) == {
        "http://viewer.example",
        "https://a.example:8443",
    }
    assert origin_of("http://[::1]:80") == "http://[::1]"


@pytest.mark.parametrize(
    ("listening", "host", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "LOCALHOST:9", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "rebound.example:8000", False),
        ("127.0.0.1", "127.0.0.1.example", False),
        ("127.0.0.1", "192.0.2.7", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[", False),
        ("0.0.0.0", "192.0.2.7:8000", True),
        ("0.0.0.0", "rebound.example", False),
        ("label.example", "label.example:8000", True),
        ("127.0.0.1", "viewer.example", True),
    ],
)
def test_hosts(listening, host, known):
    assert Rules(listening, allowed(["https://viewer.example"])).knows_host(host) is known


def ask(rules, method, path, *headers, query=""):
    """Status and message of a request; 200 where it went through. `x` is the only name that is known."""

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []
    scope = {
        "type": "http", "scheme": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": [(b"host", b"localhost:8000"), *((a.encode(), b.encode()) for a, b in headers)],
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    gate = Gate(behind, rules=rules, knows=lambda kind, value, given: "" if value == "x" else f"no such {kind}")
    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"] if len(sent) > 1 else ""


SELF, OTHER = ("origin", "http://localhost:8000"), ("origin", "http://localhost:3000")
LOOPBACK = Rules("127.0.0.1")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", [OTHER, ("origin", "null"), ("origin", "https://localhost:8000"), ("origin", "")])
def test_other_origins_are_refused_to_read_and_to_write(method, origin):
    assert ask(LOOPBACK, method, "/train/", origin)[0] == 403
    assert ask(LOOPBACK, method, "/train/", SELF, origin)[0] == 403


def test_origins_that_may_ask():
    rules = Rules("127.0.0.1", allowed(["http://localhost:3000"]))
    for headers in ([], [SELF], [OTHER]):
        assert ask(rules, "POST", "/train/", *headers)[0] == 200
    assert ask(rules, "OPTIONS", "/train/", OTHER, ("access-control-request-method", "POST"))[0] == 200


def test_pages_that_only_show_what_is_here():
    """They send no Origin with images and scripts, but browsers say where they are from; a link may be followed."""
    cross = ("sec-fetch-site", "cross-site")
    link = [cross, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    assert ask(LOOPBACK, "GET", "/info/", cross)[0] == 403
    assert ask(LOOPBACK, "GET", "/ohif/", *link)[0] == 200
    assert ask(LOOPBACK, "GET", "/ohif/", cross, link[1], ("sec-fetch-dest", "iframe"))[0] == 403
    assert ask(LOOPBACK, "GET", "/info/", ("sec-fetch-site", "none"))[0] == 200


def test_a_token():
    rules = Rules("127.0.0.1", token="secret" * 4)
    for headers in ([], [("authorization", "Bearer other")], [("authorization", "Basic " + "secret" * 4)]):
        assert ask(rules, "GET", "/info/", *headers)[0] == 401
    assert ask(rules, "GET", "/info/", ("authorization", "Bearer " + "secret" * 4))[0] == 200
    with pytest.raises(InputError, match="at least 16 characters, got 5"):
        ServerOptions("studies", token="short").rules()


def test_every_name_is_asked_for():
    for endpoint in ENDPOINTS:
        open_too = Rules("127.0.0.1", opened=frozenset([endpoint]))
        for name in endpoint.names:
            for method in endpoint.methods.split():
                given = {one: "x" for one in endpoint.names if one not in endpoint.optional} | {name: "y/../z"}
                path = endpoint.path.replace(":path", "").format(**{**given, name: "y..z%2f"})
                query = "&".join(f"{one}={value}" for one, value in given.items())
                assert 400 <= ask(open_too, method, path, query=query)[0] < 405, (method, path, query)


def test_names_that_exist_several_times_or_none():
    assert ask(LOOPBACK, "GET", "/datastore/image", query="image=x")[0] == 200
    assert ask(LOOPBACK, "GET", "/datastore/image", query="image=y") == (404, "no such image")
    assert ask(LOOPBACK, "GET", "/datastore/image", query="image=../x&image=x")[0] == 400
    assert ask(LOOPBACK, "GET", "/datastore/image", query="image=")[0] == 404
    assert ask(LOOPBACK, "POST", "/infer/x", query="image=")[0] == 200  # a file or a session instead


def test_closed_endpoints():
    for endpoint in ENDPOINTS:
        if endpoint.closed:
            path = endpoint.path.replace("{path:path}", "x").format(model="x")
            for method in endpoint.methods.split():
                assert ask(LOOPBACK, method, path, query="id=x&tag=x")[0] == 403
                rules = Rules("127.0.0.1", opened=frozenset([endpoint]))
                assert ask(rules, method, path, query="id=x&tag=x")[0] == 200
    with pytest.raises(InputError, match=r"an endpoint to open must be one of .*got 'PUT /model/\{model\}'"):
        opened(["PUT /model/{model}"])  # stays closed
    assert opened(["GET /logs/"]) == {find_endpoint("GET", "/logs/")[0]}


def test_what_is_not_in_the_table_is_not_here():
    assert ask(LOOPBACK, "GET", "/users/")[0] == 404
    assert ask(LOOPBACK, "PATCH", "/info/") == (405, "method must be one of GET, got PATCH")
    assert ask(LOOPBACK, "GET", "/info/\n")[0] == 404
    assert ask(LOOPBACK, "GET", "/info")[0] == 200  # is sent to /info/


FAMILY = """
import os, subprocess, sys, time
if sys.argv[1:] == ["server"]:
    os.environ.update({"%s": str(os.getpid()), "PYTHONPATH": "%s"})
    subprocess.Popen([sys.executable, __file__])
elif not os.fork():
    print(os.getpid(), os.getppid(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_children_and_grandchildren_end_with_a_killed_server(tmp_path):
    script = tmp_path / "family.py"
    script.write_text(FAMILY % (SERVER, SHIM))
    server = subprocess.Popen([sys.executable, script, "server"], stdout=subprocess.PIPE, text=True)
    family = server.stdout.readline().split()
    assert all(Path("/proc", pid).exists() for pid in family) and len(family) == 2
    os.kill(server.pid, signal.SIGKILL)
    server.communicate()
    wait_for(lambda: not any(is_alive(pid) for pid in family), "the end of both")


def is_alive(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
