"""Commands as a user runs them, from another folder."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from helpers import HELPERS

UNETPP = [sys.executable, "-W", "ignore", "-m", "unetpp_monai"]


@cache
def _server():
    command = [sys.executable, str(HELPERS / "command_server.py")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)  # closes its stdin, and so ends it
    return server


def python(module, *arguments, folder=None, environment=None):
    """Run `python -W ignore -m MODULE ...`, in a process that need not load the libraries anew."""
    server = _server()
    with tempfile.TemporaryDirectory() as outputs:
        files = [Path(outputs) / name for name in ("stdout", "stderr")]
        command = {
            "module": module,
            "arguments": list(map(str, arguments)),
            "folder": str(folder or Path.cwd()),
            "environment": dict(environment or os.environ),
            "files": list(map(str, files)),
        }
        server.stdin.write(json.dumps(command) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, code, *(path.read_text() for path in files))


def unetpp(*arguments, folder=None, environment=None):
    return python("unetpp_monai", *arguments, folder=folder, environment=environment)


def read(path):
    return json.loads(path.read_text())


def run(*arguments, folder, check=True):
    """Run `python -m monai.bundle run` as a user does, from another folder."""
    result = python("monai.bundle", "run", *arguments, folder=folder)
    assert not check or result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result
