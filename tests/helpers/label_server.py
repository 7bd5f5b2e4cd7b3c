"""The real MONAI Label server with our app, in its own environment, and the real client.

with serving(studies) as server:
    server.call("info"), server.post("/infer/...")
"""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.marks import must_be_marked
from helpers.orthanc import free_port
from helpers.waiting import DEADLINE, wait_for

CLIENT = Path(__file__).with_name("label_client.py")


def label_python():
    """Python of the environment that `make label` makes; skip the test where there is none."""
    must_be_marked("server")
    named = os.environ.get("UNETPP_LABEL_PYTHON")
    python = Path(named or ROOT / ".venv-label" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"needs MONAI Label's environment: make label, or UNETPP_LABEL_PYTHON (no {python})")
    return python


def environment():
    """This process's environment without what would reach into the other Python; no other network than loopback."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    nowhere = "http://127.0.0.1:9"  # port of the discard service: nobody listens
    proxies = {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": "127.0.0.1,localhost"}
    return {**kept, **proxies, **{key.upper(): value for key, value in proxies.items()}, "OMP_NUM_THREADS": "1"}


def run_label(*arguments, folder, check=True):
    """Run `unetpp` of the label environment."""
    command = [str(label_python()), "-W", "ignore", "-m", "unetpp_monai", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def run_cli(*commands):
    """Run commands of the command line one after the other in one process of the label environment."""
    script = (
        "import json, sys\n"
        "from unetpp_monai.cli import app\n"
        "for command in json.loads(sys.argv[1]): app(command, standalone_mode=False)\n"
    )
    command = [str(label_python()), "-W", "ignore", "-c", script, json.dumps(commands)]
    subprocess.run(command, env=environment(), check=True)


class LabelServer:
    """A server process; its output goes to `log`."""

    def __init__(self, folder, command, port, **variables):
        self.folder, self.url, self.log = Path(folder), f"http://127.0.0.1:{port}", Path(folder) / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=folder,
                env={**environment(), **variables},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self, token=None):
        """Until it answers; its log says why if it ends instead."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        def answers():
            return self.process.poll() is not None or self.request("/openapi.json", headers=headers)[0] == 200

        wait_for(answers, "an answer")
        if self.process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def request(self, path, *, method="GET", form=None, files=None, headers=None, body=None):
        """Status and content of a bare HTTP request.

        `form` fields and `files`, (name, content) by field, are sent as multipart, `body` as JSON.
        """
        headers, data = dict(headers or {}), None
        if form is not None or files is not None:
            parts = [(f'name="{key}"', value.encode()) for key, value in (form or {}).items()]
            parts += [(f'name="{key}"; filename="{name}"', value) for key, (name, value) in (files or {}).items()]
            heads = (f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() for head, _ in parts)
            values = (value + b"\r\n" for _, value in parts)
            data = b"".join(head + value for head, value in zip(heads, values, strict=True)) + b"--x--\r\n"
            headers["Content-Type"] = "multipart/form-data; boundary=x"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()

    def calls(self, steps, *, together=False):
        """What the client returns for each `[method, *arguments]`: {"result": ...} or {"refused": message}."""
        command = [label_python(), CLIENT, self.url, self.folder, json.dumps(steps), *["--together"] * together]
        done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def call(self, *step):
        """Result of one call of the client."""
        (answer,) = self.calls([step])
        assert "result" in answer, answer
        return answer["result"]

    def stop(self):
        """End it as an administrator would; return its exit code."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self):
        """Pull the plug, of the processes that it started too."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def serving(studies, folder, *options, token=None):
    """Serve `studies` (a folder or address); `folder` gets the server's own files, its log and the client's."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    start = ["label", "start", "--studies", studies, "--state", folder / "state", "--port", port]
    command = [label_python(), "-W", "ignore", "-m", "unetpp_monai", *start, "--device", "cpu", *options]
    server = LabelServer(folder, command, port)
    try:
        server.wait(token)
        yield server
    finally:
        server.kill()
