"""Cohorts: every case is delivered once, whoever is killed, by whatever launcher; voxels are those of segment."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT, phantom, save_nifti
from helpers.commands import unetpp
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.waiting import wait_for

sys.path.insert(0, str(ROOT))
from benchmarks.cohort.stub import BuildsStub
from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Selection, list_cohort
from unetpp_monai.cohort.claims import Claims
from unetpp_monai.cohort.launch import Launch
from unetpp_monai.cohort.ledger import Ledger
from unetpp_monai.cohort.run import Cohort, prepare, run_cases, state_of_runs, write_results
from unetpp_monai.cohort.work import Work
from unetpp_monai.errors import OutputError
from unetpp_monai.workflows.request import Request

NAMES = [f"case_{index}" for index in range(6)]
FAST = {"beat": 0.2, "stale": 1.0}
MODEL = ("--bundle", "hippocampus", "--device", "cpu", "--runtime", "eager", "--depth", 1)

OPENVINO = ("--bundle", "hippocampus", "--device", "cpu", "--runtime", "openvino")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers find the stub."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "marks").mkdir()
    return tmp_path


def stub_cohort(folder, names=NAMES):
    for name in names:
        (folder / "in" / f"{name}.nii.gz").write_text(name)
    listed = list_cohort([folder / "in"], folder / "out", Selection())
    cohort = Cohort(listed, folder / "out", read_bundle("hippocampus"))
    prepare(cohort)
    return cohort


def run_stub(folder, launch, names=NAMES, **options):
    """Segment by the stub; status of each case, and counts."""
    cohort = stub_cohort(folder, names)
    work = Work(Request(), **FAST)
    builds = BuildsStub(work, marks=folder / "marks", **options)
    came = {}
    crew = launch.crew(builds, work, cohort.ledger)
    counts = run_cases(
        cohort,
        launch.part(cohort.listed),
        crew,
        launcher=launch.stated(),
        progress=lambda outcome: came.setdefault(outcome.id, outcome),
    )
    return came, counts


def tries_of(folder, name):
    return [line.split()[1] for line in (folder / "marks" / name).read_text().splitlines()]


LAUNCHES = {"in-process": Launch(), "processes": Launch(workers=2)}


@pytest.mark.slow
@pytest.mark.parametrize("launch", LAUNCHES.values(), ids=LAUNCHES)
def test_every_case_is_segmented_once_and_the_rest_goes_on(folder, launch):
    names = [*NAMES, "wrong", "huge"]
    came, counts = run_stub(folder, launch, names)
    assert counts == {"written": 7, "failed": 1, "late": 0}
    assert came["wrong"].reason == "ValueError: it is wrong" and came["wrong"].kind == "ValueError"
    assert tries_of(folder, "huge") == ["usual", "smallest"] and "lack of memory" in came["huge"].note
    assert all(tries_of(folder, name) == ["usual"] for name in [*NAMES, "wrong"])
    _, counts = run_stub(folder, Launch(), names)
    assert counts == {"done": 7, "failed": 1, "late": 0}
    assert "lack of memory" in Ledger(folder / "out").row("huge").note  # still
    assert not list((folder / "out" / ".cohort" / "claims").glob("[!.]*"))


@pytest.mark.long
def test_a_worker_that_is_killed_is_replaced_and_its_case_tried_again(folder):
    names = [*NAMES, "once", "kills"]
    came, counts = run_stub(folder, Launch(workers=2), names)
    assert counts == {"written": 7, "failed": 1, "late": 0}
    assert tries_of(folder, "once") == ["usual"] * 2 and came["once"].note == ""
    assert "alone with smaller batches because its worker was killed by SIGKILL" in came["kills"].note
    assert tries_of(folder, "kills") == ["usual", "usual", "smallest"]
    assert came["kills"].reason == "its worker was killed by SIGKILL, again" and came["kills"].status == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["no such weights", "killed"])
def test_workers_that_cannot_start_end_the_run_in_one_line(folder, broken):
    said = "ValueError: no such weights" if broken != "killed" else "workers must load the model, got 3 that did not"
    with pytest.raises(OutputError, match=said):
        run_stub(folder, Launch(workers=1), broken=broken)


def test_shards_are_disjoint_and_complete(folder):
    counts = Counter()
    for index in (1, 2, 3):
        counts += run_stub(folder, Launch(shard=(index, 3)))[1]
    assert counts["written"] == len(NAMES) and counts["done"] == 0
    assert {len(tries_of(folder, name)) for name in NAMES} == {1}


def test_a_case_that_another_loop_has_claimed_is_waited_for_and_taken_over_when_it_dies(folder):
    cohort = stub_cohort(folder)
    claim = cohort.ledger.claims / NAMES[0]
    claim.write_text(json.dumps({"token": "of another", "host": "elsewhere"}))
    start = time.monotonic()
    came, counts = run_stub(folder, Launch())
    assert counts["written"] == 6 and time.monotonic() - start > 0.9
    assert list(came)[-1] == NAMES[0] and tries_of(folder, NAMES[0]) == ["usual"]


def test_a_late_result_is_discarded_and_counted(folder, monkeypatch):
    """Its worker was taken for dead: another has its claim."""
    real = Claims.secure

    def overtaken(claims, name):
        if name == NAMES[1]:
            (claims.folder / name).write_text(json.dumps({"token": "of another", "host": "elsewhere"}))
        return real(claims, name)

    monkeypatch.setattr(Claims, "secure", overtaken)
    came, counts = run_stub(folder, Launch())
    assert counts["late"] == 1 and came[NAMES[1]].late and not (folder / "out" / f"{NAMES[1]}.json").exists()
    assert json.loads((folder / "out" / ".cohort" / "claims" / NAMES[1]).read_text())["token"] == "of another"
    assert Ledger(folder / "out").late() == 1


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {paths}
from test_cohort import run_stub
from unetpp_monai.cohort.launch import Launch
run_stub(Path({folder!r}), Launch(workers=2), {names!r}, seconds=0.3)
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_driver_and_the_rest_is_done_by_the_next(folder, how):
    names = [f"slow_{index}" for index in range(12)]
    paths = [str(ROOT / "tests"), str(Path(__file__).parent), str(ROOT)]
    script = DRIVER.format(paths=paths, folder=str(folder), names=names)
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], start_new_session=True)
    marks = folder / "marks"
    wait_for(lambda: len(list(marks.iterdir())) >= 4, "four cases to be begun")
    workers = {int(line.split()[0]) for path in marks.iterdir() for line in path.read_text().splitlines()}
    driver.send_signal(how)
    driver.wait(10)
    start = time.monotonic()
    wait_for(lambda: not any(map(alive, workers)), "workers to end")
    assert time.monotonic() - start < 5
    delivered = {path.stem: path.stat().st_mtime_ns for path in (folder / "out").glob("*.json")}
    assert 1 <= len(delivered) < len(names)
    _, counts = run_stub(folder, Launch(), names)
    assert counts["done"] == len(delivered) and counts["written"] == len(names) - len(delivered)
    assert {name: (folder / "out" / f"{name}.json").stat().st_mtime_ns for name in delivered} == delivered
    assert not list((folder / "out").glob(".unetpp_*"))


@pytest.mark.long
def test_results_that_are_replaced_stay_until_others_take_their_place(folder):
    """Killed while it segments cases again, a cohort has a result of each; the next run goes on with the older ones."""
    names = [f"slow_{index}" for index in range(12)]
    run_stub(folder, Launch(), names)
    ledger, old = Ledger(folder / "out"), delivered_in(folder)
    for name in names:
        ledger.want_again(name)
        (folder / "out" / f"{name}_seg.dcm").write_text("of a format that is not wanted any more")
    shutil.rmtree(folder / "marks")
    (folder / "marks").mkdir()
    paths = [str(ROOT / "tests"), str(Path(__file__).parent), str(ROOT)]
    script = DRIVER.format(paths=paths, folder=str(folder), names=names)
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], start_new_session=True)
    wait_for(lambda: len(list((folder / "marks").iterdir())) >= 5, "five cases to be begun")
    workers = {int(line.split()[0]) for path in (folder / "marks").iterdir() for line in path.read_text().splitlines()}
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(alive, workers)), "workers to end")
    assert all((folder / "out" / f"{name}_seg.nii.gz").is_file() for name in names)
    assert delivered_in(folder).keys() == old.keys()
    waiting = {name for name in names if ledger.is_wanted_again(name)}
    assert (
        1 <= len(waiting) < len(names)
        and {name for name in names if delivered_in(folder)[name] == old[name]} <= waiting
    )
    write_results(stub_cohort(folder, names))
    assert (folder / "out" / "results_wide.csv").read_text().count("this is the older result") == len(waiting)
    _, counts = run_stub(folder, Launch(), names)
    assert counts == {"written": len(waiting), "done": len(names) - len(waiting), "late": 0}
    assert not any(delivered_in(folder)[name] == old[name] for name in names)
    assert not any(map(ledger.is_wanted_again, names)) and not list((folder / "out").glob("*_seg.dcm"))


def delivered_in(folder):
    return {path.stem: path.stat().st_mtime_ns for path in (folder / "out").glob("slow_*.json")}


def test_status_tells_from_elsewhere(folder):
    run_stub(folder, Launch(), [*NAMES, "wrong"])
    Claims(folder / "out" / ".cohort" / "claims").take("another")
    state = state_of_runs(folder / "out")
    assert (state["cases"], state["done"], state["failed"], state["waiting"]) == (7, 6, 1, 0)
    assert [one["case"] for one in state["running"]] == ["another"] and state["running"][0]["pid"] == os.getpid()
    assert [one["case"] for one in state["failures"]] == ["wrong"]
    with pytest.raises(OutputError, match="a folder must contain a cohort"):
        state_of_runs(folder)


def test_tables_hold_every_case(folder):
    run_stub(folder, Launch(), [*NAMES, "wrong", "=cmd"])
    write_results(stub_cohort(folder, [*NAMES, "wrong", "=cmd", "new"]))
    wide = (folder / "out" / "results_wide.csv").read_text().splitlines()
    status = {line.split(",")[0]: line.split(",")[1] for line in wide[1:]}
    assert status == {**dict.fromkeys(NAMES, "done"), "wrong": "failed", "new": "waiting", "'=cmd": "done"}
    errors = (folder / "out" / "errors.csv").read_text().splitlines()
    assert len(errors) == 2 and errors[1].startswith("wrong,ValueError,ValueError: it is wrong")
    run = json.loads((folder / "out" / "run.json").read_text())
    assert run["states"] == {"done": 7, "failed": 1, "waiting": 1} and len(run["weights_sha256"]) == 64
    assert [one["launcher"]["kind"] for one in run["runs"]] == ["in-process"] and "torch" in run["runs"][0]["software"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(4):
        save_nifti(folder / f"case_{seed}.nii.gz", phantom((32, 48, 32), seed=seed)[0])
    return folder


@pytest.fixture(scope="module")
def serial(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("serial")
    assert unetpp("segment", images, "-o", out, *MODEL).returncode == 0
    return out


def same_label_maps(one, other):
    names = sorted(path.name for path in one.glob("*_seg.nii.gz"))
    assert len(names) == 4
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.mark.long
def test_label_maps_are_those_of_segment_byte_by_byte(images, serial, tmp_path):
    assert (serial / "case_0_seg.nii.gz").read_bytes()[4:8] == bytes(4)  # gzip's time of writing
    for name, options in {"alone": (), "workers": ("--workers", 2)}.items():
        result = unetpp("cohort", images, "-o", tmp_path / name, *MODEL, *options, "--progress")
        assert result.returncode == 0, result.stderr
        assert result.stderr.splitlines()[-1] == "progress 4/4 failed 0"
        assert same_label_maps(serial, tmp_path / name)
    again = unetpp("cohort", images, "-o", tmp_path / "workers", *MODEL)
    assert again.stderr == "4 of 4 cases were done before and are left as they are\n"
    other = unetpp("cohort", images, "-o", tmp_path / "workers", *MODEL[:-1], 2)
    assert other.returncode == 1 and "by other settings" in other.stderr
    assert unetpp("cohort", images, "-o", tmp_path / "workers", *MODEL[:-1], 2, "--overwrite").returncode == 0


@pytest.mark.slow
def test_a_case_that_is_refused_keeps_the_flag_that_helps_and_the_rest_is_counted(images, serial, tmp_path):
    shutil.copytree(images, tmp_path / "in")
    shutil.copytree(serial, tmp_path / "out")
    report = tmp_path / "out" / "case_1.json"
    stated = json.loads(report.read_text())
    report.write_text(json.dumps({**stated, "weights_sha256": "0" * 64}))
    result = unetpp("cohort", tmp_path / "in", "-o", tmp_path / "out", *MODEL)
    assert result.returncode == 1 and "allow overwriting (--overwrite)" in result.stderr
    assert result.stdout == f"3 of 4 cases done; report: {tmp_path / 'out' / 'report.html'}\n"


@pytest.mark.slow
def test_what_segment_has_done_is_done(images, serial, tmp_path):
    shutil.copytree(serial, tmp_path / "out")
    result = unetpp("cohort", images, "-o", tmp_path / "out", *MODEL)
    assert result.returncode == 0 and result.stderr.startswith("4 of 4 cases were done before")
    assert result.stdout == f"4 of 4 cases done; report: {tmp_path / 'out' / 'report.html'}\n"
    state = json.loads(unetpp("cohort", tmp_path / "out", "--status", "--json").stdout)
    assert (state["cases"], state["done"]) == (4, 4)
    reports = {name: json.loads((serial / f"{name}.json").read_text()) for name in ("case_0", "case_1")}
    rows = (
        f"{name},{mark},why,A. Reader,2099-01-01T00:00:00Z,{reports[name]['outputs']['nifti']['sha256']}"
        for name, mark in {"case_0": "exclude", "case_1": "redo"}.items()
    )
    (tmp_path / "review.csv").write_text("\n".join(["case,mark,note,reviewer,time,sha256", *rows]))
    reviewed = unetpp("cohort", images, "-o", tmp_path / "out", *MODEL, "--review", tmp_path / "review.csv")
    assert reviewed.returncode == 0 and reviewed.stderr.startswith("2 of 3 cases were done before"), reviewed.stderr
    wide = (tmp_path / "out" / "results_wide.csv").read_text()
    assert "case_0,excluded" in wide and "A. Reader: why" in wide and "case_1,done" in wide
    again = json.loads((tmp_path / "out" / "case_1.json").read_text())
    assert again["seconds"] != reports["case_1"]["seconds"] and again["outputs"] == reports["case_1"]["outputs"]


@pytest.mark.slow
def test_a_case_that_cannot_be_segmented_again_keeps_its_result(images, serial, tmp_path):
    shutil.copytree(images, tmp_path / "in")
    shutil.copytree(serial, tmp_path / "out")
    old = (serial / "case_0_seg.nii.gz").read_bytes()
    sound = (tmp_path / "in" / "case_0.nii.gz").read_bytes()
    (tmp_path / "in" / "case_0.nii.gz").write_bytes(sound[:2000])
    result = unetpp("cohort", tmp_path / "in", "-o", tmp_path / "out", *MODEL, "--overwrite")
    assert result.returncode == 1 and "case_0" in result.stderr
    assert (tmp_path / "out" / "case_0_seg.nii.gz").read_bytes() == old
    (tmp_path / "in" / "case_0.nii.gz").write_bytes(sound)
    result = unetpp("cohort", tmp_path / "in", "-o", tmp_path / "out", *MODEL)
    assert result.returncode == 0 and result.stderr.startswith("3 of 4 cases were done before"), result.stderr
    assert same_label_maps(serial, tmp_path / "out")


@pytest.mark.long
def test_openvino_gives_the_same_with_its_threads_divided(images, tmp_path):
    for name, options in {"alone": (), "workers": ("--workers", 2)}.items():
        result = unetpp("cohort", images, "-o", tmp_path / name, *OPENVINO, *options)
        assert result.returncode == 0, result.stderr
    assert same_label_maps(tmp_path / "alone", tmp_path / "workers")


@pytest.mark.slow
def test_arguments_that_contradict_each_other(tmp_path):
    for arguments, said in {
        ("in",): "cohort needs -o FOLDER",
        ("in", "-o", "out", "--shard", "9/8"): "a shard must be one of 1/8 to 8/8, got 9/8",
        ("in", "-o", "out", "--shard", "x"): "a shard must be such as 2/8, got 'x'",
        ("in", "-o", "out", "--bundle", "a"): "a task must be a folder with task.json",
    }.items():
        result = unetpp("cohort", *arguments, folder=tmp_path)
        assert result.returncode == 1 and said in result.stderr


@pytest.mark.slow
def test_a_bids_app_writes_derivatives_that_the_validator_takes(images, tmp_path):
    anat = tmp_path / "raw" / "sub-01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    shutil.copy(images / "case_0.nii.gz", anat / "sub-01_ses-1_T1w.nii.gz")
    (tmp_path / "raw" / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    out = tmp_path / "derivatives"
    result = unetpp("cohort", tmp_path / "raw", out, "participant", "--participant_label", "01", *MODEL)
    assert result.returncode == 0, result.stderr
    written = sorted(path.name for path in (out / "sub-01" / "ses-1" / "anat").iterdir())
    assert written == [f"sub-01_ses-1_desc-unetpp_dseg.{ending}" for ending in ("json", "nii.gz", "tsv")]
    validator = Path(sys.executable).parent / "bids-validator-deno"
    checked = subprocess.run([validator, out, "--json"], capture_output=True, text=True)
    issues = json.loads(checked.stdout)["issues"]["issues"]
    assert checked.returncode == 0 and [one["code"] for one in issues if one["severity"] == "error"] == []
    again = unetpp("cohort", tmp_path / "raw", out, "participant", *MODEL)
    assert again.returncode == 0 and again.stderr.startswith("1 of 1 case was done before")


@pytest.mark.slow
def test_nothing_that_is_written_names_the_patient(tmp_path):
    """Neither tables, claims and file names, nor what is said of a failure."""

    def named(dataset, index):
        dataset.PatientName, dataset.PatientID = "Secretperson^Jane", "SECRETID7"

    for name in ("Secretperson_1", "Secretperson_2"):
        make_series(tmp_path / "in" / name, axial_affine((1.0, 1.0, 1.0)), change=named)
    last = sorted((tmp_path / "in" / "Secretperson_2").iterdir())[4]
    last.unlink()  # a slice is missing: an error that names the folder
    (tmp_path / "key").write_bytes(bytes(range(32)))
    out = tmp_path / "out"
    options = ("--pseudonymise", tmp_path / "key", "--format", "nifti,dicomseg")
    result = unetpp("cohort", tmp_path / "in", "-o", out, *MODEL, *options, "--progress")
    assert result.returncode == 1
    assert "Secret" not in result.stderr + result.stdout and "MissingSliceError" in result.stderr
    for path in out.rglob("*"):
        assert "Secret" not in str(path.relative_to(out))
        content = path.read_bytes() if path.is_file() else b""
        assert b"Secret" not in content and b"SECRETID7" not in content, path
    wide = (out / "results_wide.csv").read_text()
    assert wide.count("done") == 1 and wide.count("failed") == 1
    again = unetpp("cohort", tmp_path / "in", "-o", out, *MODEL, *options)
    assert "1 of 2 cases was done before" in again.stderr
