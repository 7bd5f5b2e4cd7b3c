"""Points of a request of MONAI Label, and how many sessions are held for how long. Needs its environment."""

import subprocess

import pytest
from helpers import ROOT
from helpers.label_server import environment, label_python

SCRIPT = """
import sys
sys.path.insert(0, "tests")
import threading
import time
from pathlib import Path
import tempfile
import numpy as np
from helpers import phantom
from helpers.interactive import tiny_interactive
from unetpp_monai import Segmenter, Volume
from unetpp_monai.annotation.corrections import Corrected, Corrections, clicks_of
from unetpp_monai.interactive import Point
root = tiny_interactive(Path(tempfile.mkdtemp()) / "made")
segmenter = Segmenter.from_bundle(root, device="cpu", runtime="eager")
volumes = [Volume(phantom((18, 18, 18), seed=seed)[0][None], np.eye(4)) for seed in range(3)]
held = Corrections(most=2, idle=0.2)
first = held.of(segmenter, volumes[0], "a")
assert held.of(segmenter, volumes[0], "a") is first and len(held) == 1
held.of(segmenter, volumes[1], "b")
held.of(segmenter, volumes[0], None)
assert len(held) == 2 and held.of(segmenter, volumes[0], "a") is first
held.of(segmenter, volumes[2], "c")
assert len(held) == 2 and held.of(segmenter, volumes[0], "a") is first
other = Segmenter.from_bundle(root, device="cpu", runtime="eager")
assert held.of(other, volumes[0], "a") is not first
assert sum(isinstance(one, threading.Timer) for one in threading.enumerate()) == 1
time.sleep(1.0)
assert len(held) == 0, len(held)
shown = volumes[0]  # what the client was given; what is segmented has another order of voxels
turned = Volume(shown.array[:, ::-1].copy(), shown.affine @ [[-1, 0, 0, 17], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
clicks = clicks_of({"background": [[2, 3, 4]], "posterior hippocampus": [[9, 9, 9]]}, segmenter.session(shown).names)
results = []
for volume, affine in ((shown, None), (turned, shown.affine)):
    corrected = Corrected(segmenter, held, clicks, image=None, affine=affine)
    results.append(corrected(volume, depth=1))
assert np.array_equal(results[0].labels.array, results[1].labels.array[:, ::-1])
session = segmenter.session(shown)
session.add(Point(session.position((2, 3, 4)), "background"))
session.add(Point(session.position((9, 9, 9)), "posterior hippocampus"))
assert np.array_equal(session.labels(1).array, results[0].labels.array)
"""


@pytest.mark.server
def test_few_sessions_are_held_and_none_for_long():
    done = subprocess.run(
        [str(label_python()), "-W", "ignore", "-c", SCRIPT], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
