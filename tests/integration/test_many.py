"""Many cases: one row each, done ones are skipped, nothing half-written is left."""

import errno
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers import phantom, save_nifti
from helpers.commands import unetpp
from helpers.dicom_phantoms import axial_affine, make_series

from unetpp_monai import Segmenter
from unetpp_monai.errors import OutputError
from unetpp_monai.files import TEMPORARY, complete_file, complete_folder, finish_interrupted, whole_folder
from unetpp_monai.io import case_name
from unetpp_monai.workflows import many
from unetpp_monai.workflows.many import LOG, collect_cases, segment_cases
from unetpp_monai.workflows.request import Request


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_bundle("hippocampus", device="cpu", runtime="eager", depth=1)


@pytest.fixture
def cases(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shape = (32, 48, 32)
    return [save_nifti(tmp_path / "in" / f"case_{seed}.nii.gz", phantom(shape, seed=seed)[0]) for seed in range(3)]


def rows_of(segmenter, cases, out, request=None, **options):
    return [
        (case_name(row.case), row.status)
        for row in segment_cases(segmenter, cases, out, request or Request(), **options)
    ]


class PanicException(BaseException):
    """As decoders written in Rust raise."""


RAISED = [
    PanicException("a decoder panicked"),
    RuntimeError("can't allocate\nmemory"),
    MemoryError(),
    OverflowError("too large"),
    OSError(36, "File name too long"),
    RecursionError("maximum depth"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_case_raises_is_its_row(segmenter, cases, tmp_path, monkeypatch, error):
    real = many.segment_case

    def spoilt(segmenter, case, *arguments, **options):
        if case == cases[1]:
            raise error
        return real(segmenter, case, *arguments, **options)

    monkeypatch.setattr(many, "segment_case", spoilt)
    rows = list(segment_cases(segmenter, cases, tmp_path / "out", Request()))
    assert [row.status for row in rows] == ["written", "failed", "written"]
    assert rows[1].reason.startswith(type(error).__name__) and "\n" not in rows[1].reason
    assert rows[1].reason.endswith(f"(see {LOG})")
    assert "Traceback" in (tmp_path / "out" / LOG).read_text()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_stops(segmenter, cases, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(many, "segment_case", lambda *arguments, **options: (_ for _ in ()).throw(stop))
    with pytest.raises(stop):
        list(segment_cases(segmenter, cases, tmp_path / "out", Request()))


def test_done_cases_are_not_read_again(segmenter, cases, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert {status for _, status in rows_of(segmenter, cases, out)} == {"written"}
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr("unetpp_monai.workflows.segment.read_case", None)  # it would be an error to call it
    monkeypatch.setattr("unetpp_monai.workflows.done.facts_of", None)
    monkeypatch.setattr("unetpp_monai.workflows.done.sha256", None)
    assert {status for _, status in rows_of(segmenter, cases, out)} == {"done"}
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_case_that_was_touched_is_hashed_and_one_that_was_changed_is_said(segmenter, cases, tmp_path):
    out = tmp_path / "out"
    rows_of(segmenter, cases, out)
    os.utime(cases[0])
    stat = cases[1].stat()
    save_nifti(cases[1], phantom((32, 48, 32), seed=9)[0])
    rows = list(segment_cases(segmenter, cases, out, Request()))
    assert [row.status for row in rows] == ["done", "failed", "done"]
    assert "of another input" in rows[1].reason and rows[1].error.option == "overwrite"
    content = bytearray(cases[2].read_bytes())
    content[-1] ^= 1
    stat = cases[2].stat()
    cases[2].write_bytes(content)
    os.utime(cases[2], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only its bytes tell
    assert rows_of(segmenter, cases[2:], out) == [("case_2", "done")]
    assert rows_of(segmenter, cases[2:], out, verify=True) == [("case_2", "failed")]


def test_voxels_apart_from_their_header_are_the_input_too(segmenter, tmp_path):
    source = tmp_path / "case.hdr"
    (tmp_path / "out").mkdir()
    nib.save(nib.Nifti1Pair(phantom((32, 48, 32), seed=1)[0], np.diag([-1.0, 1, 1, 1])), source)
    for name in ("case.img", "case.hdr"):  # as git-annex keeps files, each in its own folder
        kept = tmp_path / "store" / name / "key"
        kept.parent.mkdir(parents=True)
        (tmp_path / name).rename(kept)
        (tmp_path / name).symlink_to(kept)
    assert rows_of(segmenter, [source], tmp_path / "out") == [("case", "written")]
    assert rows_of(segmenter, [source], tmp_path / "out") == [("case", "done")]
    with (tmp_path / "case.img").open("r+b") as file:
        file.write(b"1234")
    assert rows_of(segmenter, [source], tmp_path / "out") == [("case", "failed")]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(depth="full", mirror_axes=(0,)), "mirror_axes [] instead of [0]"),
        (Request(uncertainty=True), "request"),
        (Request(formats=("nifti", "segnrrd")), "request"),
    ],
)
def test_results_of_other_settings_are_named_as_such(segmenter, cases, tmp_path, request_, said):
    out = tmp_path / "out"
    rows_of(segmenter, cases[:1], out)
    (row,) = segment_cases(segmenter, cases[:1], out, request_)
    assert row.status == "failed" and "by other settings" in row.reason and said in row.reason


def test_what_is_missing_is_written_again_and_what_was_altered_is_kept(segmenter, cases, tmp_path):
    out = tmp_path / "out"
    rows_of(segmenter, cases[:2], out)
    (out / "case_0_seg.nii.gz").unlink()
    shutil.copy(cases[0], out / "case_1_seg.nii.gz")
    assert rows_of(segmenter, cases[:2], out) == [("case_0", "written"), ("case_1", "done")]
    (row,) = segment_cases(segmenter, cases[1:2], out, Request(), verify=True)
    assert "altered since: case_1_seg.nii.gz" in row.reason


@pytest.mark.parametrize("name", ["case_0_seg.tsv", "case_0_uncertainty.nii.gz"])
def test_a_case_is_done_only_with_all_of_its_files(segmenter, cases, tmp_path, name):
    out, request = tmp_path / "out", Request(uncertainty=True)
    list(segment_cases(segmenter, cases[:1], out, request))
    (out / name).unlink()
    (row,) = segment_cases(segmenter, cases[:1], out, request)
    assert row.status == "written" and (out / name).is_file()


def test_what_a_person_altered_is_kept_even_if_other_files_are_missing(segmenter, cases, tmp_path):
    out = tmp_path / "out"
    rows_of(segmenter, cases[:1], out)
    (out / "case_0_seg.tsv").unlink()
    shutil.copy(cases[0], out / "case_0_seg.nii.gz")
    (row,) = segment_cases(segmenter, cases[:1], out, Request())
    assert row.status == "failed" and "altered since: case_0_seg.nii.gz" in row.reason
    assert (out / "case_0_seg.nii.gz").read_bytes() == cases[0].read_bytes()


def test_what_another_living_writer_has_begun_is_left_alone(tmp_path):
    """Whatever it writes: a file, a folder or a case."""
    for begun in (complete_file(tmp_path / "a.json"), whole_folder(tmp_path / "b"), complete_folder(tmp_path)):
        with begun as temporary:
            (temporary if temporary.suffix else temporary / "a.json").write_text("{}")
            finish_interrupted(tmp_path, ending=".json")
            assert not (tmp_path / "a.json").exists() and temporary.exists()
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        (tmp_path / "a.json").unlink(missing_ok=True)


def test_without_locks_files_are_written_and_nothing_is_cleared_up(tmp_path, monkeypatch):
    """As on some network file systems: who is alive cannot be told."""
    (tmp_path / f"{TEMPORARY}left").mkdir()

    def unsupported(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("unetpp_monai.posix_only.fcntl.flock", unsupported)
    with complete_file(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    finish_interrupted(tmp_path, ending=".json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{TEMPORARY}left", "a.json"]


def test_results_of_others_are_not_replaced(segmenter, cases, tmp_path):
    (tmp_path / "out" / "case_0_seg.nii.gz").write_text("mine")
    (row,) = segment_cases(segmenter, cases[:1], tmp_path / "out", Request())
    assert row.status == "failed" and (tmp_path / "out" / "case_0_seg.nii.gz").read_text() == "mine"


def test_what_a_killed_run_left_is_finished_or_removed(tmp_path):
    """The report is moved last: whole beside the others, it says that they are whole, too."""
    whole, half, alive = (tmp_path / f"{TEMPORARY}{name}" for name in ("whole", "half", "alive"))
    for folder in (whole, half):
        folder.mkdir()
        (folder / "a_seg.nii.gz").write_text(folder.name)
    (whole / "a.json").write_text("{}")
    (half / "a.json").write_text('{"outputs": ')
    with complete_folder(tmp_path) as living:
        finish_interrupted(tmp_path, ending=".json")
        assert living.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a_seg.nii.gz"]
    assert (tmp_path / "a_seg.nii.gz").read_text() == whole.name
    assert not alive.exists()


def test_two_writers_write_a_case_once(segmenter, cases, tmp_path, monkeypatch):
    out = tmp_path / "out"
    real = many.segment_case

    def overtaken(segmenter, case, output, request, **options):
        original = segmenter.__call__
        monkeypatch.setattr(many, "segment_case", real)

        class Slow:
            def __getattr__(self, name):
                return getattr(segmenter, name)

            def __call__(self, *arguments, **more):
                rows_of(segmenter, [case], out)  # the other writer is faster
                return original(*arguments, **more)

        return real(Slow(), case, output, request, **options)

    monkeypatch.setattr(many, "segment_case", overtaken)
    assert rows_of(segmenter, cases[:1], out) == [("case_0", "done")]
    assert sorted(path.name for path in out.iterdir()) == ["case_0.json", "case_0_seg.nii.gz", "case_0_seg.tsv"]


def test_pseudonymised_cases_are_skipped_by_a_keyed_hash(segmenter, tmp_path):
    make_series(tmp_path / "mr", axial_affine((1.0, 1.0, 1.0)))
    (tmp_path / "out").mkdir()
    request = Request(key=bytes(range(32)))
    first = list(segment_cases(segmenter, [tmp_path / "mr"], tmp_path / "out", request))
    assert [row.status for row in first] == ["written"]
    assert [row.status for row in segment_cases(segmenter, [tmp_path / "mr"], tmp_path / "out", request)] == ["done"]
    (report,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json"))
    assert "input_hmac" in report and not {"input", "input_state", "input_sha256", "series"} & set(report)


def test_an_input_that_cannot_be_listed_takes_no_other_with_it(cases, tmp_path):
    folder = tmp_path / "in"
    (folder / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    (folder / "study").symlink_to("not there")
    (folder / "notes.md").symlink_to("not there either")
    (folder / "case_1.nrrd").write_text("same name")
    found, rows = collect_cases([tmp_path / "missing", folder])
    assert [case.name for case in found] == ["case_0.nii.gz", "case_1.nii.gz", "case_2.nii.gz", "gone.nii.gz", "study"]
    assert [row.case.name for row in rows] == ["missing", "case_1.nrrd"]
    assert "case_1.nii.gz" in rows[1].reason and "rename" in rows[1].reason


def test_a_link_to_nothing_is_a_failed_case(segmenter, cases, tmp_path):
    link = tmp_path / "in" / "gone.nii.gz"
    link.symlink_to("nowhere.nii.gz")
    rows = list(segment_cases(segmenter, [link, cases[0]], tmp_path / "out", Request()))
    assert [row.status for row in rows] == ["failed", "written"] and "a link to nowhere.nii.gz" in rows[0].reason


def test_a_name_that_is_too_long_for_its_results(segmenter, cases, tmp_path):
    long = cases[0].rename(tmp_path / "in" / f"{'n' * 246}.nii.gz")
    rows = list(segment_cases(segmenter, [long, cases[1]], tmp_path / "out", Request()))
    assert [row.status for row in rows] == ["failed", "written"]
    assert isinstance(rows[0].error, OutputError) and "File name too long" in rows[0].reason


@pytest.mark.slow
def test_the_same_command_again_is_a_success(cases, tmp_path):
    command = (
        "segment",
        tmp_path / "in",
        "--task",
        "hippocampus",
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--runtime",
        "eager",
        "--depth",
        1,
    )
    assert unetpp(*command).returncode == 0
    again = unetpp(*command)
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == "3 of 3 cases were done before and are left as they are\n"
    other = unetpp("segment", cases[0], *command[2:-1], 2)  # of one case the reason is one line
    assert other.returncode == 1 and "depth 1 instead of 2" in other.stderr
    assert unetpp(*command[:-1], 2, "--overwrite").returncode == 0
