"""A minute of each hostile command: nothing wrong but what `hostile/known.py` lists, and all of that."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.orthanc import orthanc
from hostile import known

pytestmark = [pytest.mark.slow, pytest.mark.long]


def hostile(command, path, *arguments):
    """Run a hostile command; return what it found."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    line = [sys.executable, "-W", "ignore", "-m", f"hostile.{command}", "--json", str(path), *map(str, arguments)]
    run = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
    assert path.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    assert "Traceback" not in run.stderr, run.stderr[-2000:]
    found = json.loads(path.read_text())
    return run, found


def compare(found, listed, always, said):
    """New faults are wrong, and so is a list that names what is mended."""
    assert not sorted(found - set(listed)), f"new faults:\n{said[-6000:]}"
    assert not sorted(set(always) - found), "mended: take these out of hostile/known.py"


def test_fuzz(tmp_path):
    also = ",".join(f"{name}:{number}" for name, number in known.FUZZ.values())
    run, found = hostile("fuzz", tmp_path / "found.json", "--count", 6, "--workers", 1, "--also", also)
    faults = {
        f"{one['format']}: {one['kind']}" + (f" in {one['where']}" if one["where"] else "")
        for one in found
        if one["verdict"] == "fault"
    }
    compare(faults, {**known.FUZZ, **known.FUZZ_LATE}, known.FUZZ, run.stdout)
    assert run.returncode == int(bool(faults))
    for name in {one["format"] for one in found}:
        verdicts = [one["verdict"] for one in found if one["format"] == name]
        assert len(verdicts) >= 6 and len(set(verdicts)) > 1, name  # it is not all the same to the product


def test_crash(tmp_path):
    run, found = hostile("crash", tmp_path / "found.json", "--kills", 3, "--cases", 5)
    faults = {kind for kind, _ in found}
    compare(faults, known.CRASH, {kind for kind, always in known.CRASH.items() if always}, run.stdout)
    assert run.returncode == int(bool(faults))


@pytest.mark.server
@pytest.mark.parametrize("course", ["orthanc", "dimse"])
def test_load(tmp_path, course):
    with orthanc(tmp_path / "orthanc"):  # skips where there is none
        pass
    options = ("--courses", course, "--studies", 5, "--kills", 1, "--quiet", 15, "--own-ends", 2)
    run, found = hostile("load", tmp_path / "found.json", *options)
    faults = {kind for kind, _ in found}
    listed = {kind: always for kind, always in known.LOAD.items() if kind.startswith(course)}
    compare(faults, listed, {kind for kind, always in listed.items() if always}, run.stdout)
    assert run.returncode == int(bool(faults))
