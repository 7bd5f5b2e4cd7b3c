"""Written segmentations as 3D Slicer's own classes read and draw them: on what they name, in their colours."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import HELPERS, save_nifti
from helpers.viewer_phantom import LETTER, SQUARE, coloured, drawn, likeness, mirrored, shapes, write_phantom
from helpers.waiting import DEADLINE
from PIL import Image

from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.io.seg_nrrd import write_seg_nrrd

pytestmark = pytest.mark.slow

SLICES = (3, 11)


def slice_view(volume, segmentation, point, picture):
    """Run slicer_view.py; return the picture and what it says of the segments."""
    where = ",".join(f"{value:.4f}" for value in point)
    command = [
        sys.executable,
        HELPERS / "slicer_view.py",
        volume,
        segmentation,
        where,
        picture,
        "0,2000",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 0, run.stderr
    return np.asarray(Image.open(picture).convert("RGB")), json.loads(run.stdout)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Of each slice: the picture without and with the segmentation, and its segments."""
    if not importlib.util.find_spec("slicer"):
        pytest.skip("needs Slicer's classes: pip install slicer-core")
    folder = tmp_path_factory.mktemp("slicer")
    labels, series, _ = write_phantom(folder)
    image = read_dicom_series(series).volume
    volume = save_nifti(folder / "volume.nii.gz", image.array[0], image.affine)
    write_seg_nrrd(labels, folder / "labels.seg.nrrd", structures=(LETTER, SQUARE))
    result = {}
    for index in SLICES:
        point = (image.affine @ [*(size / 2 for size in image.shape[:2]), index, 1])[:3]
        bare, _ = slice_view(volume, "-", point, folder / f"{index}_bare.png")
        result[index] = (bare, *slice_view(volume, folder / "labels.seg.nrrd", point, folder / f"{index}.png"))
    return result


def test_names_colours_and_terms(views):
    segments = views[SLICES[0]][2]
    assert [(one["name"], tuple(one["colour"])) for one in segments] == [
        (one.name, one.colour) for one in (LETTER, SQUARE)
    ]
    for segment, label in zip(segments, (LETTER, SQUARE), strict=True):
        category, kind = segment["terms"].split("~")[1:3]
        assert category == "SCT^91723000^Anatomical Structure"
        assert kind == f"SCT^{label.type.value}^{label.type.meaning}"


@pytest.mark.parametrize("index", SLICES)
def test_segments_lie_on_what_they_name(views, index):
    bare, overlaid, _ = views[index]
    for label, shape in zip((LETTER, SQUARE), shapes(bare), strict=True):
        overlay = coloured(overlaid, label)
        assert likeness(overlay, shape) > 0.93, label.name
        assert likeness(overlay, drawn(label, index, bare)) > 0.9, label.name
        assert not coloured(bare, label).any()
        for other in mirrored(shape, bare):
            assert likeness(overlay, other) < 0.6, "the measure would not see a mirrored overlay"


def test_each_slice_has_its_own_segments(views):
    first, last = (views[index] for index in SLICES)
    for label, shape in zip((LETTER, SQUARE), shapes(first[0]), strict=True):
        assert likeness(coloured(last[1], label), shape) < 0.6
