"""The command of docs/clicks.md that shows both servers and the real clients of viewers, and its transcript."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.interactive import tiny_interactive
from helpers.label_server import environment, label_python
from helpers.waiting import DEADLINE

pytestmark = pytest.mark.server

DEMO = ROOT / "docs" / "clicks_demo.py"


def calls(text):
    """Return the calls without ports; the answers depend on the weights and contain times."""
    return [re.sub(r"\b\d{4,5}\b", "PORT", line) for line in text.splitlines() if line.startswith((">>> ", "$ "))]


def test_transcript_is_what_the_demo_does(tmp_path):
    pytest.importorskip("nnInteractive.inference.remote")
    variables = {**environment(), "UNETPP_LABEL_PYTHON": str(label_python())}
    root = tiny_interactive(tmp_path / "made").rename(tmp_path / "hippocampus_interactive_bundle")
    command = [sys.executable, str(DEMO), str(root)]
    run = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert calls(run.stdout) == calls((ROOT / "docs" / "clicks_transcript.txt").read_text())
    assert '"1 click anterior hippocampus"' in run.stdout and run.stdout.endswith("0 new, 0 gone\n")
