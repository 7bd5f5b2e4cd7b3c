"""Commands as a user runs them, from another folder."""

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from helpers import HELPERS

UNETPP = [sys.executable, "-W", "ignore", "-m", "unetpp_monai"]
SPAWNING = """
import multiprocessing, runpy, sys
multiprocessing.set_start_method("spawn")
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@cache
def _server():
    command = [sys.executable, str(HELPERS / "command_server.py")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)  # closes its stdin, and so ends it
    return server


def python(module, *arguments, folder=None, environment=None):
    """Run `python -W ignore -m MODULE ...`, in a process that need not load the libraries anew unless it must spawn."""
    arguments, folder = list(map(str, arguments)), str(folder or Path.cwd())
    if multiprocessing.get_start_method() == "spawn":
        command = [sys.executable, "-W", "ignore", "-c", SPAWNING, module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    server = _server()
    with tempfile.TemporaryDirectory() as outputs:
        files = [Path(outputs) / name for name in ("stdout", "stderr")]
        command = {
            "module": module,
            "arguments": arguments,
            "folder": folder,
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
