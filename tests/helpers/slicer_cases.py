"""An image on a turned grid, and what `unetpp segment` makes of it: what the module in Slicer must give."""

import subprocess
import sys
import zipfile

import numpy as np
import SimpleITK

from helpers import ROOT

SAMPLE = ROOT / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz"
OPTIONS = ("--depth", "full", "--device", "cpu")


def segment_oblique(folder):
    """The MRI sample on a turned grid, as `case.nrrd`, and what `unetpp segment` makes of it."""
    image, turn = read(SAMPLE), SimpleITK.Euler3DTransform()
    turn.SetRotation(0.2, -0.15, 0.3)
    image.SetDirection((np.reshape(turn.GetMatrix(), (3, 3)) @ np.reshape(image.GetDirection(), (3, 3))).ravel())
    SimpleITK.WriteImage(image, str(folder / "case.nrrd"))
    command = [
        sys.executable,
        "-m",
        "unetpp_monai",
        "segment",
        "case.nrrd",
        "--task",
        "hippocampus",
        "-o",
        ".",
        "--format",
        "segnrrd,nifti",
    ]
    subprocess.run([*command, "--uncertainty", *OPTIONS], check=True, capture_output=True, cwd=folder)
    return folder


def read(path):
    return SimpleITK.ReadImage(str(path))


def tiny_wheel(folder):
    """A package that needs no other and no build."""
    wheel, info = folder / "tiny-1.0-py3-none-any.whl", "tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return str(wheel)
