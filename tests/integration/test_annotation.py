"""The annotation experiment: what each strategy adds, and one run end to end on phantoms."""

import argparse
import json
import sys

import pytest
from helpers import ROOT
from helpers.commands import python

sys.path.insert(0, str(ROOT))
from benchmarks.annotation import TASK, check_settings, choose, dice, divide, write_table

pytestmark = pytest.mark.slow

COUNTS = [1, 3]
TINY = ["--features", "[4,8,8,8]", "--patch_size", "[24,24,24]", "--roi_size", "[24,24,24]"]


@pytest.fixture
def options(msd_folder, tmp_path):
    values = {
        "dataset_dir": msd_folder,
        "output": tmp_path,
        "labelled": COUNTS,
        "seeds": [0],
        "steps": 20,
        "precision": "float32",
    }
    return argparse.Namespace(**values, task=TASK, overrides=[])


def write_start(options, scores):
    """A first round of seed 0, as `run_round` leaves it."""
    _, pool = divide(options)
    (start,) = choose(options, pool, 0, "random", 1)
    others = [name for name in pool if name != start]
    result = {"labelled": [start], "pool": {name: {"score": s} for name, s in zip(others, scores, strict=True)}}
    (options.output / "seed0_start_1.json").write_text(json.dumps(result))
    return start, others


def test_the_fold_is_in_no_pool(options):
    held_out, pool = divide(options)
    assert len(held_out) == 2 and len(pool) == 4 and not held_out.keys() & pool.keys()


def test_strategies_begin_with_the_same_cases(options):
    _, pool = divide(options)
    for seed in range(3):
        assert choose(options, pool, seed, "random", 1) == choose(options, pool, seed, "least_certain", 1)
        assert choose(options, pool, seed, "random", 3)[:1] == choose(options, pool, seed, "random", 1)
    assert len({choose(options, pool, seed, "random", 1)[0] for seed in range(10)}) > 1


@pytest.mark.parametrize(
    ("scores", "added"), [([0.1, 0.3, 0.2], [1, 2]), ([0.1, 0.3, None], [2, 1]), ([0.4, 0.1, 0.2], [0, 2])]
)
def test_the_least_certain_are_added_those_without_a_finding_first(options, scores, added):
    start, others = write_start(options, scores)
    _, pool = divide(options)
    assert choose(options, pool, 0, "least_certain", 3) == [start, *(others[index] for index in added)]


def run(msd_folder, folder):
    options = ("--dataset_dir", msd_folder, "-o", folder, "--seeds", 0, "--labelled", 1, 3, "--steps", 10, *TINY)
    result = python("benchmarks.annotation", *options, folder=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_a_run_resumes_and_repeats_itself(msd_folder, tmp_path, capsys, options):
    first = run(msd_folder, tmp_path)
    names = {"seed0_start_1", "seed0_least_certain_3", "seed0_random_3"}
    assert {path.stem for path in tmp_path.glob("seed*.json")} == names
    assert all(f"{name}: " in first for name in names) and (tmp_path / "annotation.png").exists()
    start, ours = (json.loads((tmp_path / f"seed0_{name}.json").read_text()) for name in ("start_1", "least_certain_3"))
    assert len(start["held_out"]) == 2 and len(start["pool"]) == 3 and not ours["pool"]
    assert set(ours["labelled"]) - set(start["labelled"]) <= set(start["pool"])

    (tmp_path / "seed0_least_certain_3.json").unlink()
    assert run(msd_folder, tmp_path).count("seed0_") == 1  # what is complete is not repeated
    repeated = json.loads((tmp_path / "seed0_least_certain_3.json").read_text())
    assert repeated["held_out"] == ours["held_out"] and repeated["labelled"] == ours["labelled"]

    write_table(options)
    assert capsys.readouterr().out == (tmp_path / "table.md").read_text()
    gain = dice(ours) - dice(json.loads((tmp_path / "seed0_random_3.json").read_text()))
    assert f"| {gain:+.4f} | {gain:+.4f} |" in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit, match="rounds of these settings"):
        check_settings(options)  # other steps
