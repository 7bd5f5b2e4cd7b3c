"""How often `unetpp segment` opens a file: on a network, opening and reading are what takes time."""

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from helpers import BUNDLE
from helpers.dicom_phantoms import axial_affine, label_phantom, make_enhanced, make_series
from helpers.dicom_pieces import dicomdir

from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.files import sha256
from unetpp_monai.labels import Label
from unetpp_monai.provenance import Algorithm

pytestmark = [pytest.mark.slow, pytest.mark.long]

SHAPE = (40, 56, 36)
COUNTED = """
import json, os, sys
events = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        events.append(("write" if arguments[2] & (os.O_WRONLY | os.O_RDWR) else "read", os.fsdecode(arguments[0])))
    elif event in ("os.listdir", "os.scandir") and isinstance(arguments[0], str | os.PathLike):
        events.append(("list", os.fsdecode(arguments[0])))
sys.addaudithook(note)
from unetpp_monai.cli import main
try:
    main()
finally:
    with open(os.environ["EVENTS"], "w") as file:
        json.dump(events, file)
"""


def make_sources(folder):
    """A series among other files and with a SEG of it, a medium, a multi-frame object in a folder, and a zip."""
    headers = make_series(folder / "series", axial_affine(), SHAPE)
    (folder / "series" / "000_about.txt").write_text("what comes first is no DICOM")
    (folder / "series" / "zzz.bin").write_bytes(b"\x01" * 5000)
    label = Label(1, "box", None, None, (), None)
    options = {"structures": [label], "sources": headers, "algorithm": Algorithm("test", "1")}
    write_dicom_seg(label_phantom(SHAPE, axial_affine(), 1), folder / "series" / "seg.dcm", **options)
    make_series(folder / "medium", axial_affine(), SHAPE)
    dicomdir(folder / "medium")
    make_enhanced(folder / "enhanced" / "one", axial_affine(), SHAPE)
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for path in sorted((folder / "series").glob("0*.dcm")):
            archive.write(path, path.name)
    return [folder / "series", folder / "medium" / "disc" / "DICOMDIR", folder / "enhanced", folder / "packed.zip"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Sources, the folder of results, and (what, path) -> how often."""
    folder = tmp_path_factory.mktemp("opens")
    sources, output, events = make_sources(folder), folder / "out", folder / "events.json"
    command = [sys.executable, "-W", "ignore", "-c", COUNTED, "segment", *map(str, sources), "-o", output]
    command += ["--format", "nifti,dicomseg,sr,rtstruct,segnrrd", "--bundle", BUNDLE]
    command += ["--runtime", "eager", "--depth", "1"]
    done = subprocess.run(command, env={**os.environ, "EVENTS": str(events)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sources, output, Counter((what, Path(path)) for what, path in json.loads(events.read_text()))


def test_a_dicom_file_is_opened_twice_and_any_other_once(run):
    (series, medium, enhanced, archive), _, counts = run
    opens = {
        path: counts["read", path] for path in series.parent.rglob("*") if path.is_file() and path.parent != run[1]
    }
    del opens[series.parent / "events.json"]
    others = {path for path in opens if path.suffix in (".txt", ".bin")}
    assert {opens[path] for path in others} == {1}
    assert {opens[path] for path in opens.keys() - others} == {2}
    assert len(opens) == 2 * SHAPE[2] + len([*others, "SEG", medium, enhanced, archive])


def test_folders_are_listed_a_few_times(run):
    (series, _, enhanced, _), _, counts = run
    assert 1 <= max(counts["list", folder] for folder in (series, enhanced)) <= 4


@pytest.mark.parametrize("name", ["series_seg.dcm", "series_sr.dcm", "series_rtstruct.dcm"])
def test_a_written_object_is_read_back_once(run, name):
    """Of an SEG the hash is taken in the same opening; of the others it takes one more."""
    reads = sum(count for (what, path), count in run[2].items() if (what, path.name) == ("read", name))
    assert reads == (1 if name.endswith("_seg.dcm") else 2)


def test_hashes_are_those_of_the_files(run):
    sources, output, _ = run
    for source, name in zip(sources, ("series", "disc", "enhanced", "packed"), strict=True):
        report = json.loads((output / f"{name}.json").read_text())
        assert report["input_sha256"] == sha256(source)
        for written in report["outputs"].values():
            assert written["sha256"] == sha256(output / written["file"])


def test_a_picture_for_a_cohorts_report_opens_nothing_again(tmp_path):
    make_series(tmp_path / "in" / "series", axial_affine(), SHAPE)
    opens = {}
    for name, options in {"with": (), "without": ("--no-pictures",)}.items():
        output, events = tmp_path / name, tmp_path / "events.json"
        command = [sys.executable, "-W", "ignore", "-c", COUNTED, "cohort", tmp_path / "in", "-o", output]
        command += ["--bundle", BUNDLE, "--runtime", "eager", "--depth", "1", *options]
        done = subprocess.run(command, env={**os.environ, "EVENTS": str(events)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = (Path(path) for what, path in json.loads(events.read_text()) if what == "read")
        opens[name] = Counter(path for path in found if path.suffix == ".dcm")
    assert list((tmp_path / "with" / ".cohort" / "pictures").glob("*.webp"))
    assert opens["with"] == opens["without"] and len(opens["with"]) == SHAPE[2]
