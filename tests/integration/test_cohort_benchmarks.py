"""What the benchmarks of cohorts leave can be taken into the committed results."""

import json

import pytest
from helpers import ROOT
from helpers.commands import python

RUNS = {
    "kill": ("--cases", 3, "--workers", 1, "--kills", 1, "--pause", 0.1, 0.2),
    "launchers": ("--cases", 4, "--repeats", 1),
    "memory": ("--cases", 2, "--every", 1, "--depth", 1),
    "overhead": ("--stubs", 20, "--cases", 2),
    "spoilt": ("--cases", 3),
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_the_columns_of_the_committed_table(msd_folder, tmp_path, name):
    images = msd_folder / "imagesTr"
    given = ("--images", images) if name == "overhead" else (images,)
    result = python(f"benchmarks.cohort.{name}", *given, "-o", tmp_path / "out", *RUNS[name], folder=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = json.loads((tmp_path / "out" / "table.json").read_text())
    committed = json.loads((ROOT / "benchmarks" / "results" / f"cohort_{name}.json").read_text())
    assert rows and all(set(committed["columns"]) <= set(row) for row in rows)
    whats = {row["what"].partition(" ")[0] for row in rows if "what" in row}
    assert {row[0].partition(" ")[0] for row in committed["rows"] if "what" in rows[0]} <= whats
    assert all(value in result.stdout for row in rows for value in map(str, row.values()))
