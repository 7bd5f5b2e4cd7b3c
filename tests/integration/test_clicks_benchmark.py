"""The robot clicks where a result is wrong, its results are kept, and the table says what they are."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, phantom
from helpers.interactive import interactive_bundle

from benchmarks.clicks.robot import Case, Corrector, correct, next_click
from unetpp_monai import Volume

AFFINE = np.diag([-1.0, 2.0, 1.0, 1.0])


class Obedient(Corrector):
    """Puts a cube of the label that was clicked there."""

    def begin(self, case):
        self.case, self.labels = case, np.zeros(case.image.shape, int)
        return self.labels

    def add(self, prompt):
        voxel = np.rint(np.linalg.inv(self.case.image.affine) @ [*prompt.position, 1])[:3].astype(int)
        self.labels = self.labels.copy()
        self.labels[tuple(slice(max(at - 2, 0), at + 3) for at in voxel)] = prompt.label
        return self.labels


def made_case():
    image, labels = phantom((24, 30, 20))
    return Case("a", Volume(image[None], AFFINE), Volume(labels[None], AFFINE))


def test_the_robot_clicks_into_the_largest_error():
    case, rng = made_case(), np.random.default_rng(0)
    reference = case.reference.array[0]
    labels = reference.copy()
    assert next_click(case, labels, rng, jitter=1) is None
    labels[12, 15:20, 8:12], labels[0, 0, 0] = 0, 1
    click = next_click(case, labels, rng, jitter=0)
    voxel = np.rint(np.linalg.inv(AFFINE) @ [*click.position, 1])[:3].astype(int)
    assert click.label == 1 and voxel[0] == 12 and 15 <= voxel[1] < 20 and 8 <= voxel[2] < 12


def test_who_obeys_gets_better_and_is_timed():
    times = iter(range(100))
    rows = correct(made_case(), Obedient(), [1, 2], clicks=4, jitter=1, clock=lambda: float(next(times)))
    assert len(rows) == 5 and [seconds for _, _, seconds in rows] == [1.0] * 5
    assert rows[0][0] == 0 and rows[0][1] is None and rows[4][0] > rows[2][0] > rows[0][0] and rows[4][1] > 0
    again = correct(made_case(), Obedient(), [1, 2], clicks=4, jitter=1)
    assert [row[:2] for row in again] == [row[:2] for row in rows]


@pytest.mark.slow
def test_the_command_measures_once_and_writes_a_table(msd_folder, tmp_path):
    weights = interactive_bundle(tmp_path / "made") / "models" / "model.pt"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.clicks", str(msd_folder), "--weights", str(weights)]
    command += ["--clicks", "1", "--depths", "1", "--cases", "1", "--runtime", "eager", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "| depth 1 | 0." in (tmp_path / "out" / "table.md").read_text() and (tmp_path / "out" / "clicks.png").is_file()
    )
    (path,) = (tmp_path / "out" / "cases").glob("*.json")
    before = path.stat().st_mtime_ns
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
        again.returncode == 0
        and path.stat().st_mtime_ns == before
        and len(json.loads(path.read_text())["depth 1"]) == 2
    )
    case = path.stem
    drawn = subprocess.run([*command, "--picture", case], cwd=ROOT, capture_output=True, text=True)
    assert drawn.returncode == 0 and (tmp_path / "out" / f"{case}.png").is_file(), drawn.stderr[-2000:]
