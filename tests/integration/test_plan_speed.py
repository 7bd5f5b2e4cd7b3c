"""The benchmark of a plan's check and of the preparation of a training."""

import json

import pytest
from helpers import ROOT
from helpers.commands import python
from helpers.datasets import made_cases, msd


@pytest.mark.slow
def test_a_plan_and_the_preparation_are_timed(tmp_path):
    dataset = msd(tmp_path / "data", cases := made_cases(shape=(12, 16, 10)))
    done = python("benchmarks.plan_speed", dataset, "-o", tmp_path / "rows.json", folder=ROOT)
    assert done.returncode == 0, done.stderr
    check, prepare = json.loads((tmp_path / "rows.json").read_text())
    size = sum(image.nbytes + label.nbytes for image, label in cases.values()) / 1e6
    for row, what in ((check, "check"), (prepare, "prepare")):
        assert (row["what"], row["cases"], row["MB"]) == (what, len(cases), pytest.approx(size, abs=0.06))
        assert row["wall s"] > 0 and row["CPU s"] > 0 and row["MB/s"] > 0 and row["MB/s and core"] > 0
