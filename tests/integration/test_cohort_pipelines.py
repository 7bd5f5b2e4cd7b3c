"""Cohorts inside other people's pipelines: the rule of the docs, run by the real Snakemake; what programs read."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, phantom, save_nifti, slurm
from helpers.commands import unetpp

BIN = Path(sys.executable).parent


def recipe(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "cohort.md").read_text(), re.DOTALL)
    return found


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """`unetpp` on the path, with a task that is quick."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "unetpp"
    command = f'{sys.executable} -W ignore -m unetpp_monai "$@" --bundle hippocampus --depth 1'
    script.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {command}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{BIN}:/usr/sbin:/usr/bin:/sbin:/bin")


def make_images(folder, count):
    folder.mkdir()
    for seed in range(count):
        save_nifti(folder / f"case_{seed}.nii.gz", phantom((32, 48, 32), seed=seed)[0])


@pytest.mark.long
def test_the_snakemake_rule_of_the_docs(tmp_path, on_path, monkeypatch):
    (tmp_path / "Snakefile").write_text(recipe("snakemake"))
    make_images(tmp_path / "images", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [BIN / "snakemake", "--cores", "2", "segmented_volumes.csv"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "segmented_volumes.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [["case_0", "done"], ["case_1", "done"]]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.long
@pytest.mark.server
def test_the_slurm_array_of_the_docs(tmp_path, on_path):
    if reason := slurm.why_not():
        pytest.skip(reason)
    (tmp_path / "cohort.sh").write_text(recipe("bash"))
    make_images(tmp_path / "images", 4)
    command = ("sbatch", "--wait", "--array=1-2", "--requeue", "cohort.sh")
    result = slurm.run(tmp_path / "slurm", *command, cwd=tmp_path)
    said = "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    assert result.returncode == 0, result.stdout + result.stderr + said
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["states"] == {"done": 4} and run["late_results_discarded"] == 0
    assert {one["launcher"]["shard"] for one in run["runs"]} == {"1/2", "2/2"}
    assert sum(one["counts"].get("written", 0) for one in run["runs"]) == 4


@pytest.mark.slow
def test_info_for_programs():
    stated = json.loads(unetpp("info", "--json", "--bundle", "hippocampus").stdout)
    assert [label["index"] for label in stated["labels"]] == [1, 2] and stated["input"]["modality"] == "MR"
    assert len(stated["weights_sha256"]) == 64 and stated["must_be_trusted_for"] == []
    assert stated["parameters"]["1"] < stated["parameters"]["2"]


@pytest.mark.slow
def test_a_quota_flags_the_share_that_was_asked_for_and_belongs_to_its_weights(tmp_path):
    for seed in range(5):
        save_nifti(tmp_path / f"case_{seed}.nii.gz", phantom((32, 48, 32), seed=seed)[0])
    options = ("--bundle", "hippocampus", "--device", "cpu", "--runtime", "eager")
    quota = tmp_path / "quota.json"
    result = unetpp("calibrate", tmp_path, "--unlabelled", "--share", 0.4, "-o", quota, *options)
    assert result.returncode == 0, result.stderr
    stated = json.loads(quota.read_text())["quota"]
    assert stated["share"] == 0.4 and stated["cases"] == 5
    out = tmp_path / "out"
    result = unetpp("cohort", tmp_path, "-o", out, "--uncertainty", "--quota", quota, *options)
    assert result.returncode == 0, result.stderr
    report = (out / "report.html").read_text()
    assert report.count("is in the quota of 40%") == 2 * 2  # on the page and in its data
    assert "set on 5 images of this site to flag 40 %" in report
    quota.write_text(json.dumps({"quota": stated, "weights_sha256": "0"}))
    other = unetpp("cohort", tmp_path, "-o", out, "--uncertainty", "--quota", quota, *options)
    assert other.returncode == 1 and "a quota must be made with the weights in use" in other.stderr
    neither = unetpp("calibrate", tmp_path)
    assert neither.returncode == 1 and "either --references FOLDER or --unlabelled" in neither.stderr
