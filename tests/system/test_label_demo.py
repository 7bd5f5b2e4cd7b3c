"""The command of README and docs/monailabel.md that shows the annotation server, and its transcript."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.label_server import environment, label_python
from helpers.waiting import DEADLINE

pytestmark = pytest.mark.server

DEMO = ROOT / "docs" / "label_demo.py"


def calls(text):
    """What was called, without the port; what came back has times in it."""
    return [re.sub(r"\b\d{4,5}\b", "PORT", line) for line in text.splitlines() if line.startswith((">>> ", "$ "))]


def test_transcript_is_what_the_demo_does(tmp_path):
    variables = {**environment(), "UNETPP_LABEL_PYTHON": str(label_python())}
    command = [sys.executable, str(DEMO), "--train"]
    run = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert calls(run.stdout) == calls((ROOT / "docs" / "monailabel_transcript.txt").read_text())
    assert "\nc_noisier\n" in run.stdout and 'status: "DONE"' in run.stdout and "completed: 3" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_the_environment_one_sentence_says_so(tmp_path):
    variables = {**environment(), "UNETPP_LABEL_PYTHON": str(tmp_path / "python")}
    # -I -S: a python that has nothing, even if this one has MONAI Label
    run = subprocess.run([sys.executable, "-I", "-S", str(DEMO)], env=variables, capture_output=True, text=True)
    assert run.returncode == 1 and "make label" in run.stderr and run.stderr.count("\n") == 1, run.stderr
