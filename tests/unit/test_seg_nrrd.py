"""Slicer's segmentations: written by us and read by Slicer's own classes, and the other way round."""

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK
import slicerio
from helpers import HELPERS
from helpers.dicom_phantoms import (
    TURNS,
    axial_affine,
    label_phantom,
    oblique_affine,
    tilted_affine,
    turned,
    voxel_places,
)

from unetpp_monai.errors import AmbiguityError, InputError, OutputError
from unetpp_monai.io.seg_nrrd import read_seg_nrrd, write_seg_nrrd
from unetpp_monai.labels import Code, Label, label_colour
from unetpp_monai.volume import Volume

SHAPE = (7, 6, 5)
ANATOMY, LEFT = Code("123037004", "SCT", "Anatomical Structure"), Code("7771000", "SCT", "Left")
ANTERIOR = Code("255549009", "SCT", "Anterior")
HIPPOCAMPUS = Code("5366008", "SCT", "Hippocampus")
STRUCTURES = (
    Label(1, "Hippocampus, größer 日本", ANATOMY, HIPPOCAMPUS, (LEFT, ANTERIOR), (10, 20, 255)),
    Label(2, "no category", None, Code("1", "99PRIVATE", "thing"), (), (0, 1, 2)),
    Label(3, "no codes \\ at all", None, None, (), None),
    Label(200, "no voxels", ANATOMY, HIPPOCAMPUS, (), (255, 0, 0)),
)


def grids():
    """One label map in all orders and directions of its axes, and on an oblique and a sheared grid."""
    axial = label_phantom(SHAPE, axial_affine())
    yield from ((f"{order}{flips}", turned(axial, order, flips)) for order, flips in TURNS)
    for name, affine in (("oblique", oblique_affine()), ("sheared", tilted_affine())):
        volume = label_phantom(SHAPE, affine)
        yield from ((name, volume), (f"{name}, left-handed", turned(volume, (1, 0, 2), (0, 0, 0))))


def in_slicer(tmp_path, files, *options):
    """What Slicer finds in files: name of file -> list of what each segment is, and where its voxels are."""
    if importlib.util.find_spec("slicer") is None:
        pytest.skip("needs slicer-core")
    script = HELPERS / "slicer_segmentations.py"
    out = tmp_path / "slicer.npz"
    run = subprocess.run([sys.executable, script, out, *options, *files], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with np.load(out) as arrays:
        found = json.loads(str(arrays["found"]))
        return {
            name: [(segment, arrays[f"{name}:{index}"]) for index, segment in enumerate(segments)]
            for name, segments in found.items()
        }


def in_order(places):
    places = np.round(places, 3) + 0.0
    return places[np.lexsort(places.T)]


def places_of(volume, value):
    return in_order(voxel_places(volume)[volume.array.ravel() == value])


@pytest.mark.slow
def test_slicer_finds_every_voxel_name_colour_and_code(tmp_path):
    volumes = {f"{number}.seg.nrrd": volume for number, (_, volume) in enumerate(grids())}
    for name, volume in volumes.items():
        proof = write_seg_nrrd(volume, tmp_path / name, structures=STRUCTURES)
        assert (proof.voxels, proof.different) == (np.count_nonzero(volume.array), 0)
        assert proof.largest_mm < 1e-6
    found = in_slicer(tmp_path, [tmp_path / name for name in volumes])
    for name, volume in volumes.items():
        assert len(found[name]) == len(STRUCTURES)
        for (segment, places), label in zip(found[name], STRUCTURES, strict=True):
            assert (segment["name"], segment["value"]) == (label.name, label.index)
            assert np.rint(np.multiply(segment["colour"], 255)).tolist() == list(label_colour(label))
            np.testing.assert_allclose(in_order(places), places_of(volume, label.index), atol=2e-3)
    terms = [segment["terms"].split("~")[1:4] for segment, _ in found["0.seg.nrrd"]]
    assert terms[0] == ["SCT^123037004^Anatomical Structure", "SCT^5366008^Hippocampus", "SCT^7771000^Left"]
    assert terms[1] == ["^^", "99PRIVATE^1^thing", "^^"]
    assert terms[3][2] == "^^"


@pytest.mark.parametrize(
    ("name", "volume"), [*grids()][::-7], ids=lambda value: value if isinstance(value, str) else ""
)
def test_we_read_what_we_wrote(tmp_path, name, volume):
    path = tmp_path / "case.seg.nrrd"
    write_seg_nrrd(volume, path, structures=STRUCTURES)
    read, structures = read_seg_nrrd(path)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.array.dtype == np.uint8
    assert read.same_grid(volume)
    assert structures == (
        *STRUCTURES[:2],
        Label(3, STRUCTURES[2].name, None, None, (), (111, 184, 210)),
        STRUCTURES[3],
    )
    assert b"encoding: gzip" in path.read_bytes()[:2000]


@pytest.mark.parametrize("affine", [axial_affine(), oblique_affine()], ids=["axial", "oblique"])
def test_what_slicer_saves_cropped_lies_where_it_did(tmp_path, affine):
    volume = label_phantom((9, 8, 7), affine)
    write_seg_nrrd(volume, tmp_path / "case.seg.nrrd", structures=STRUCTURES)
    (tmp_path / "cropped").mkdir()
    in_slicer(tmp_path, [tmp_path / "case.seg.nrrd"], "--crop", tmp_path / "cropped")
    cropped, structures = read_seg_nrrd(tmp_path / "cropped" / "case.seg.nrrd")
    for saved, label in zip(structures, STRUCTURES, strict=True):
        assert (saved.index, saved.name) == (label.index, label.name)
        assert not label.type or saved.type == label.type  # Slicer calls what has no code a tissue
        assert saved.modifiers == label.modifiers  # Slicer's own term has room for the first alone
    assert cropped.array.size < volume.array.size
    for label in structures:
        np.testing.assert_allclose(places_of(cropped, label.index), places_of(volume, label.index), atol=2e-3)


def layers(tmp_path, *masks):
    """A segmentation of overlapping or separate masks, as slicerio and Slicer lay them in layers."""
    segmentation = slicerio.create_segmentation((4, 5, 6), np.diag([-1.0, -1.0, 2.0, 1.0]))
    for number, mask in enumerate(masks):
        slicerio.add_segment(segmentation, mask, {"id": f"s{number}", "name": f"name {number}"})
    if segmentation["voxels"].ndim == 3:
        segmentation["voxels"] = np.stack([segmentation["voxels"], np.zeros_like(segmentation["voxels"])])
        segmentation["voxels"][1][masks[1]] = 1
        segmentation["voxels"][0][masks[1]] = 0
        segmentation["segments"][1].update(layer=1, labelValue=1)
    slicerio.write_segmentation(str(tmp_path / "layers.seg.nrrd"), segmentation)
    return tmp_path / "layers.seg.nrrd"


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # pynrrd, in Python 3.12
def test_layers_are_merged_unless_they_overlap(tmp_path):
    first, second = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    first[:2], second[2:, 1:3] = True, True
    volume, structures = read_seg_nrrd(layers(tmp_path, first, second))
    np.testing.assert_array_equal(volume.array[0], first + 2 * second)
    assert [(label.index, label.name) for label in structures] == [(1, "name 0"), (2, "name 1")]
    np.testing.assert_allclose(volume.affine, np.diag([1, 1, 2, 1]))
    second[1, 1, 1] = True
    with pytest.raises(AmbiguityError, match="must not overlap to be a label map, got 'name 1' over others"):
        read_seg_nrrd(layers(tmp_path, first, second))


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # pynrrd, in Python 3.12
def test_old_slicers_store_each_segment_on_a_layer_of_its_own(tmp_path):
    first, second = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    first[:2], second[2:, 1:3] = True, True
    path = layers(tmp_path, first, second)
    head, data = path.read_bytes().split(b"\n\n", 1)
    lines = [line for line in head.split(b"\n") if not re.match(rb"Segment\d_(Layer|LabelValue)", line)]
    assert len(lines) == len(head.split(b"\n")) - 4
    path.write_bytes(b"\n".join(lines) + b"\n\n" + data)
    volume, structures = read_seg_nrrd(path)
    np.testing.assert_array_equal(volume.array[0], first + 2 * second)
    assert [(label.index, label.name) for label in structures] == [(1, "name 0"), (2, "name 1")]


def test_what_cannot_be_written(tmp_path):
    volume, path = label_phantom(SHAPE, axial_affine()), tmp_path / "case.seg.nrrd"
    with pytest.raises(OutputError, match=r"must have a structure, got \[3\] besides \[1, 2\]"):
        write_seg_nrrd(volume, path, structures=STRUCTURES[:2])
    with pytest.raises(OutputError, match="must have 1 channel, got 2"):
        write_seg_nrrd(Volume(np.repeat(volume.array, 2, axis=0), volume.affine), path, structures=STRUCTURES)
    broken = Label(3, "c", ANATOMY, Code("1", "SCT", "one|two~three"), (), None)  # Slicer's own separators
    with pytest.raises(OutputError, match="must not contain Slicer's separators ~"):
        write_seg_nrrd(volume, path, structures=(*STRUCTURES[:2], broken))
    with pytest.raises(OutputError, match="must be writable"):
        write_seg_nrrd(volume, tmp_path / "missing" / "case.seg.nrrd", structures=STRUCTURES)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_segmentation(tmp_path):
    path = tmp_path / "case.seg.nrrd"
    path.write_bytes(b"NRRD0004\n")
    with pytest.raises(InputError, match="not a readable image"):
        read_seg_nrrd(path)
    write_seg_nrrd(label_phantom(SHAPE, axial_affine()), path, structures=STRUCTURES)
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    with pytest.raises(InputError, match="not a readable image"):
        read_seg_nrrd(path)
    path.write_bytes(data.replace(b"Segment1_LabelValue:=2", b"Segment1_LabelValue:=7"))
    with pytest.raises(InputError, match=r"must belong to a segment, got \d+ voxels more"):
        read_seg_nrrd(path)
    path.write_bytes(data.replace(b"Segment1_LabelValue:=2", b"Segment1_LabelValue:=b"))
    with pytest.raises(InputError, match="must describe its segments as Slicer does"):
        read_seg_nrrd(path)
    SimpleITK.WriteImage(SimpleITK.Image(3, 4, 5, SimpleITK.sitkUInt8), str(path))
    with pytest.raises(InputError, match="got 0 segments, but a label map takes 1 to 255"):
        read_seg_nrrd(path)


def test_values_are_kept_unless_they_do_not_fit(tmp_path):
    path = tmp_path / "case.seg.nrrd"
    write_seg_nrrd(Volume(np.full((1, 2, 2, 2), 200, np.uint8), np.eye(4)), path, structures=STRUCTURES[3:])
    assert read_seg_nrrd(path)[1][0].index == 200
    image = SimpleITK.ReadImage(str(path))
    wide = SimpleITK.Cast(image, SimpleITK.sitkUInt16) + 100
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment"):
            wide.SetMetaData(key, "300" if key.endswith("LabelValue") else image.GetMetaData(key))
    SimpleITK.WriteImage(wide, str(path))
    volume, structures = read_seg_nrrd(path)
    assert (np.unique(volume.array).tolist(), structures[0].index) == ([1], 1)
