"""A real Orthanc (a small PACS) on free loopback ports: DICOM, REST and DICOMweb.

with orthanc(tmp_path) as server:
    server.dicomweb_url, server.aet, server.dicom_port, server.rest("/statistics")
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.marks import must_be_marked
from helpers.waiting import DEADLINE, wait_for

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "fog horn"  # of a server started with authentication=True


def _ports():
    """Ports below those that systems give to outgoing connections, each worker's its own, none twice."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = 20000 + 3000 * worker + os.getpid() % 3000
    yield from range(first, 20000 + 3000 * (worker + 1))
    yield from range(20000 + 3000 * worker, first)


PORTS = _ports()


def free_port():
    """A TCP port that nobody listens on now, and that no connection of others will take meanwhile."""
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise RuntimeError("a port must be free, got none")


class Orthanc:
    """A server process with its own storage; `stop` and `start` keep ports and storage."""

    def __init__(self, folder, *, authentication=False, settings=None, name="ORTHANC"):
        self.folder, self.aet, self.process = Path(folder), name, None
        self.http_port, self.dicom_port = free_port(), free_port()
        self.user, self.password = (USER, PASSWORD) if authentication else (None, None)
        config = {
            "Name": name,
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": name,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": authentication,
            "RegisteredUsers": {USER: PASSWORD} if authentication else {},
            "DicomAlwaysAllowGet": True,  # C-GET, off by default
            "DicomAlwaysAllowMove": True,
            "StableAge": 1,  # seconds without a new instance until a series counts as complete
            "KeepAlive": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
            **(settings or {}),
        }
        (self.folder / "orthanc.json").write_text(json.dumps(config, indent=2))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self):
        return f"{self.url}/dicom-web"

    def rest(self, path, body=None, *, method=None):
        """JSON (or bytes) that Orthanc's own REST interface answers with; a body makes it a POST."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        if self.user:
            token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError:
            return content

    def upload(self, paths):
        """Store files through the REST interface; return Orthanc's answers."""
        return [self.rest("/instances", Path(path).read_bytes()) for path in paths]

    def find(self, level="Series", **query):
        """Main tags of what matches at "Study", "Series" or "Instance" level, with Orthanc's own `ID`."""
        found = self.rest("/tools/find", {"Level": level, "Query": query, "Expand": True})
        return [{"ID": one["ID"], **one.get("MainDicomTags", {})} for one in found]

    def start(self):
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(self.folder / "orthanc.json")],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_for(lambda: self._listens() or self.process.poll() is not None, "Orthanc's start")
        if self.process.poll() is not None:
            log = (self.folder / "orthanc.log").read_text(errors="replace")
            raise RuntimeError(f"Orthanc did not start:\n{log[-2000:]}")

    def _listens(self):
        return all(_listens(port) for port in (self.http_port, self.dicom_port))

    def stop(self):
        """End it as an administrator would; its ports are free afterwards."""
        self._end(signal.SIGTERM)

    def kill(self):
        """Pull the plug."""
        self._end(signal.SIGKILL)

    def restart(self):
        self.stop()
        self.start()

    def _end(self, number):
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)
            self.process.wait(DEADLINE)


@contextmanager
def orthanc(folder, **options):
    """Start Orthanc with its storage in `folder`; skip the test where it is not installed.

    Options: `authentication` (basic: `server.user`, `server.password`), `settings` (more of orthanc.json), `name` (AE).
    """
    must_be_marked("server")
    if not (shutil.which("Orthanc") or Path("/usr/sbin/Orthanc").exists()) or not PLUGIN.exists():
        pytest.skip("needs Orthanc with its DICOMweb plugin: apt-get install orthanc orthanc-dicomweb")
    Path(folder).mkdir(parents=True, exist_ok=True)
    server = Orthanc(folder, **options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def make_certificates(folder):
    """Write a self-signed certificate of 127.0.0.1, `cert.pem`, and its key, `key.pem`, into a folder; return it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *names]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def _listens(port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
