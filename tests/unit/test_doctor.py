"""`unetpp doctor`: each fault is found and has a remedy in one line, and nothing of the user is told."""

import base64
import getpass
import hashlib
import json
import platform
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers import DEFAULT_BUNDLE
from typer.testing import CliRunner

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cli import app
from unetpp_monai.errors import InputError
from unetpp_monai.workflows import doctor
from unetpp_monai.workflows.doctor import examine, without_paths


@pytest.fixture(scope="module")
def healthy():
    return examine(extras=["dicom"], device="cpu", runtime="eager")


@pytest.fixture
def quick(monkeypatch):
    """Examine without segmenting the sample."""
    monkeypatch.setattr(doctor, "_segment", lambda *_: None)


def problems_of(**options):
    return [str(problem) for problem in examine(extras=options.pop("extras", []), **options).problems]


@pytest.mark.slow
def test_a_healthy_installation_segments_the_sample(healthy):
    assert healthy.problems == ()
    assert len(healthy.found["sample"]["ml"]) == 4 and min(healthy.found["sample"]["ml"].values()) > 1
    (bundle,) = healthy.found["bundles"]
    assert bundle["weights_sha256"] == read_bundle().weights_sha256
    assert healthy.found["versions"]["torch"] == metadata.version("torch")
    assert healthy.found["runtimes"]["eager"] == healthy.found["extras"]["dicom"] == "installed"


@pytest.mark.slow
def test_nothing_of_the_user_is_told(healthy):
    text = json.dumps(healthy.found)
    for private in (str(Path.home()), str(Path.cwd()), platform.node(), str(DEFAULT_BUNDLE.parent)):
        assert private not in text
    assert getpass.getuser() in ("root", "user") or getpass.getuser() not in text


def test_a_gpu_build_without_driver_is_a_problem(quick, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (problem,) = problems_of()
    assert "built for GPUs (12.8), but no driver" in problem and "or PyTorch's CPU build" in problem
    assert "\n" not in problem


def test_a_missing_extra_is_a_problem_only_if_it_is_needed(quick, monkeypatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "highdicom" else version(package))
    expected = "the extra dicom lacks highdicom; pip install 'unetpp_monai[dicom]'"
    assert problems_of(extras=["dicom"]) == [expected]
    assert problems_of(extras=["preview"]) == []
    assert expected in problems_of(extras=None)
    assert examine(extras=[]).found["extras"]["pacs"] == "lacks highdicom"  # which it has by dicom
    with pytest.raises(InputError, match=r"must be one of .*dicom.*, got imaging"):
        examine(extras=["imaging"])


@pytest.mark.parametrize(
    ("lacking", "state", "faults"),
    [
        (("dicomweb-client", "pynetdicom"), "not installed", []),  # what it shares with dicom is there
        (("pynetdicom",), "lacks pynetdicom", ["the extra pacs lacks pynetdicom; pip install 'unetpp_monai[pacs]'"]),
    ],
)
def test_an_extra_is_a_problem_in_part_but_not_if_it_is_not_wanted(quick, monkeypatch, lacking, state, faults):
    monkeypatch.setattr(doctor, "_version", lambda package: None if package in (*lacking, "ray", "blosc2") else "1")
    found = examine()
    assert [str(problem) for problem in found.problems] == faults
    extras = found.found["extras"]
    assert extras["pacs"] == state and extras["cluster"] == extras["clicks"] == "not installed"
    assert "docs" not in extras and "dev" not in extras
    assert problems_of(extras=["cluster"]) == ["the extra cluster lacks ray; pip install 'unetpp_monai[cluster]'"]


@pytest.mark.parametrize("extra", doctor.USUAL)
def test_what_the_readme_needs_is_a_problem_without_being_asked_for(quick, monkeypatch, extra):
    own = doctor._packages_by_extra()[extra]
    monkeypatch.setattr(doctor, "_version", lambda package: None if package in own else "1")
    assert f"the extra {extra} lacks {', '.join(own)}; pip install 'unetpp_monai[{extra}]'" in problems_of(extras=None)


@pytest.mark.parametrize("whole", [True, False])
def test_an_altered_bundle_is_a_problem(whole, quick, tmp_path):
    root = tmp_path / "Smith, John" / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, root)
    listed = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()) for path in root.rglob("*.*")}
    (root / "SHA256SUMS").write_text("".join(f"{sum_.hexdigest()}  {name}\n" for name, sum_ in listed.items()))
    if whole:
        assert problems_of(bundle=root) == []
        return
    with (root / "configs/inference.json").open("a") as file:
        file.write("\n")
    (problem,) = problems_of(bundle=root)
    assert problem.startswith("the given bundle is altered") and "configs/inference.json altered" in problem
    assert problem.endswith("take a whole copy of the bundle")
    assert "Smith" not in problem and str(tmp_path) not in problem and "\n" not in problem


def test_an_included_bundle_that_differs_from_pips_record_is_a_problem(quick, monkeypatch):
    class Recorded:
        def __init__(self, content):
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            self.hash = metadata.FileHash(f"sha256={digest}")

        def locate(self):
            return DEFAULT_BUNDLE / "configs" / "metadata.json"

    content = (DEFAULT_BUNDLE / "configs" / "metadata.json").read_bytes()
    monkeypatch.setattr(metadata, "files", lambda _: [Recorded(content)])
    assert problems_of() == []
    monkeypatch.setattr(metadata, "files", lambda _: [Recorded(content + b" ")])
    (problem,) = problems_of()
    assert "configs/metadata.json must be as it was installed" in problem
    assert "pip uninstall unetpp_monai, then pip install unetpp_monai" in problem


def test_a_sample_that_is_not_segmented_is_a_problem(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("/home/someone/secret")

    monkeypatch.setattr(doctor, "Segmenter", broken)
    (problem,) = problems_of()
    assert "the sample was not segmented (RuntimeError" in problem and "secret" not in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a file /data/Smith^John/1.dcm is", "a file <path> is"),
        (r"a file C:\Users\x\1.dcm is", "a file <path> is"),
        ("/b/x y/configs/metadata.json must be", "<bundle>/configs/metadata.json must be"),
        ("runtime must be auto, eager", "runtime must be auto, eager"),
        ("10 voxels/mm", "10 voxels/mm"),
    ],
)
def test_messages_lose_their_paths(text, expected):
    assert without_paths(text, "/b/x y") == expected


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_exits_with_1_and_prints_the_problems(options, quick, monkeypatch):
    found = examine(extras=[])
    monkeypatch.setattr(doctor, "examine", lambda *_, **__: found)
    whole = CliRunner().invoke(app, ["doctor", *options])
    assert whole.exit_code == 0
    problem = doctor.Problem("the extra dicom lacks highdicom", "pip install 'unetpp_monai[dicom]'")
    monkeypatch.setattr(doctor, "examine", lambda *_, **__: replace(found, problems=(problem,)))
    broken = CliRunner().invoke(app, ["doctor", *options])
    assert broken.exit_code == 1
    if options:
        assert json.loads(whole.stdout)["problems"] == [] and json.loads(broken.stdout)["problems"] == [str(problem)]
    else:
        assert "no problems found" in whole.stdout and "no problems found" not in broken.stdout
