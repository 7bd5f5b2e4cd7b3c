"""Commands as a user runs them, from another folder."""

import json
import subprocess
import sys

UNETPP = [sys.executable, "-W", "ignore", "-m", "unetpp_monai"]


def unetpp(*arguments, folder=None, **options):
    return subprocess.run([*UNETPP, *map(str, arguments)], cwd=folder, capture_output=True, text=True, **options)


def read(path):
    return json.loads(path.read_text())


def run(*arguments, folder, check=True):
    """Run `python -m monai.bundle run` as a user does, from another folder."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not check or result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result
