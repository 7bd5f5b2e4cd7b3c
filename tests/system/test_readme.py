"""Commands and code of README and manual run as they are written; long ones get smaller numbers at their end."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import BUNDLE, DEFAULT_BUNDLE, HEAD, ROOT, phantom, save_nifti
from helpers.commands import python, unetpp
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.label_server import label_python
from PIL import Image

from unetpp_monai import Volume, read_bundle, read_volume
from unetpp_monai.io.seg_nrrd import write_seg_nrrd
from unetpp_monai.networks import UNetPlusPlus

pytestmark = pytest.mark.slow

PAGES = (
    "first_segmentation",
    "dicom_to_seg",
    "segment",
    "pacs",
    "annotate",
    "depth",
    "evaluate",
    "bundles",
    "network",
    "conformance",
)  # in the order in which they run
README = (ROOT / "README.md").read_text()
MANUAL = "\n".join([README, *((ROOT / "docs" / f"{name}.md").read_text() for name in PAGES)])
ORTHANC = Path("/usr/sbin/Orthanc")
SMALL = "--max_epochs 1 --features [4,8,8,8] --patch_size [24,24,24] --roi_size [24,24,24] --out_channels 3"
QUICK = {
    "max_epochs": 1,
    "features": [4, 8, 8, 8],
    "patch_size": [24] * 3,
    "roi_size": [24] * 3,
    "head_weights": [1] * 3,
}
SET_UP = ("make ", "python3 -m venv", ".venv/bin/")  # what set-up does, seen by CI itself


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", MANUAL, re.DOTALL)


LINES = [line for block in blocks("bash") for line in block.splitlines() if not line.startswith(SET_UP)]
COMMANDS = list(dict.fromkeys(LINES))  # README repeats some of the manual's


@pytest.fixture(scope="module")
def desk(tmp_path_factory, msd_folder):
    """A folder that holds what the README names."""
    folder = tmp_path_factory.mktemp("desk")
    save_nifti(folder / "case.nii.gz", phantom()[0])
    (folder / "folder_of_heads").mkdir()
    for name in ("head", "folder_of_heads/other"):
        shutil.copy(HEAD, folder / f"{name}.nii.gz")
    for name in ("folder_of_nifti", "folder"):
        (folder / name).mkdir()
        save_nifti(folder / name / f"{name}.nii.gz", phantom((20, 20, 20))[0])
    make_series(folder / "dicom_series", axial_affine())
    for description in ("localizer", "T1 right hippocampus"):
        make_series(
            folder / "study" / description,
            axial_affine(),
            change=lambda dataset, _, text=description: setattr(dataset, "SeriesDescription", text),
        )
    labels = read_volume(folder / "dicom_series")
    labels = Volume((labels.array > 900).astype(np.uint8), labels.affine)
    write_seg_nrrd(labels, folder / "corrected.seg.nrrd", structures=read_bundle(BUNDLE).labels)
    (folder / "docs").mkdir()
    for name in ("listener_demo.py", "label_demo.py"):
        shutil.copy(ROOT / "docs" / name, folder / "docs")
    shutil.copytree(msd_folder, folder / "Task04_Hippocampus")
    shutil.copytree(DEFAULT_BUNDLE, folder / "bundle")
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "unetpp_monai" / "base", folder / "unetpp_monai" / "base")
    shutil.copytree(msd_folder, folder / "data" / "LeftAtrium")
    for path in (folder / "data" / "LeftAtrium" / "labelsTr").iterdir():
        save_nifti(path, (nib.load(path).get_fdata() > 0).astype(np.uint8))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)).save(
        folder / "picture.png"
    )
    return folder


def marked(line):
    """Demos of servers start some."""
    return pytest.param(line, marks=[pytest.mark.server] if "_demo.py" in line else [])


@pytest.mark.parametrize("line", [marked(line) for line in COMMANDS])
def test_commands(desk, line, monkeypatch):
    if "label_demo" in line:
        monkeypatch.setenv("UNETPP_LABEL_PYTHON", str(label_python()))
    if "listener_demo" in line and not ORTHANC.exists():
        pytest.skip(f"needs {ORTHANC}")
    if "train.json" in line and "evaluate.json" not in line:
        line += f" {SMALL} --ckpt_dir trained"
        line += " --head_weights [0.4,0.3,0.3]"
    if line.startswith("unetpp train"):
        line += " " + " ".join(f"--set '{key}={value}'" for key, value in QUICK.items())
    if "--task configs/left_atrium" in line:
        features = json.loads((desk / "configs" / "left_atrium" / "task.json").read_text())["features"]
        torch.save(UNetPlusPlus(3, 1, 2, features).state_dict(), desk / "configs" / "left_atrium" / "model.pt")
    result = as_in_a_shell(line, desk)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]


def as_in_a_shell(line, folder):
    """Run a line; the commands that can do without a shell share the libraries that are loaded."""
    words = shlex.split(line)
    if not re.search(r"[|&;<>$*~`]", line):
        if words[:2] == ["python", "-m"]:
            return python(*words[2:], folder=folder)
        if words[0] == "unetpp":
            return unetpp(*words[1:], folder=folder)
    line = re.sub(r"^python ", f"{sys.executable} -W ignore ", line)
    line = re.sub(r"^unetpp ", f"{Path(sys.executable).parent / 'unetpp'} ", line)
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, executable="/bin/bash")


def test_code(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setattr("builtins.print", lambda *_: None)
    first, second = blocks("python")
    exec(first, {})
    assert (desk / "head_seg.nii.gz").exists()
    names = {"images": torch.rand(1, 1, 16, 16, 16)}
    exec(second, names)
    assert len(names["heads"]) == 3 and names["small"].depth == 2


def test_make_demo():
    if not (Path(sys.prefix) / "installed").exists():
        pytest.skip("needs the virtual environment that make made")
    result = subprocess.run(["make", "demo", f"VENV={sys.prefix}"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "anterior hippocampus" in result.stdout, result.stderr


def test_set_up_lines_name_what_exists():
    text = "\n".join(line for block in blocks("bash") for line in block.splitlines() if line.startswith(SET_UP))
    extras = re.findall(r"\.\[([\w,]+)\]", text)
    project = (ROOT / "pyproject.toml").read_text()
    for extra in {name for group in extras for name in group.split(",")}:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    assert (ROOT / "constraints.txt").exists()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_the_front_page_is_short():
    assert len(README.splitlines()) <= 120


def test_links_and_pictures_exist():
    for document in (path for place in ("*.md", "docs/*.md", "configs/*/docs/*.md") for path in ROOT.glob(place)):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            elsewhere = target.startswith(("https://", "generated/"))  # the second: made and checked by `make docs`
            assert elsewhere or (document.parent / target).exists(), target
