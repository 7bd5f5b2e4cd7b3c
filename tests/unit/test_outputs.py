"""From a series to every format and from format to format; what is written is read by other programs."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from helpers import phantom, save_nifti
from helpers.dicom_checks import array_and_affine, errors_of, masks_by_matplotlib, through_dcmqi
from helpers.dicom_phantoms import (
    LPS_TO_RAS,
    TURNS,
    axial_affine,
    label_phantom,
    make_series,
    oblique_affine,
    sampled_at,
    tilted_affine,
    turned,
    voxel_places,
)
from PIL import Image
from typer.testing import CliRunner

from unetpp_monai import Segmenter
from unetpp_monai.cli import app
from unetpp_monai.dicom.identity import check_modality
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import InputError, OutputError
from unetpp_monai.files import make_folder, results_folder, sha256
from unetpp_monai.io import read_volume, write_nifti
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.io.label_table import write_label_table
from unetpp_monai.labels import Code, Label
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume
from unetpp_monai.workflows.outputs import FORMATS, OFFERED, Findings, check_formats, write_outputs
from unetpp_monai.workflows.request import Request
from unetpp_monai.workflows.segment import segment_case

ALL = ("nifti", "segnrrd", "dicomseg", "rtstruct", "sr")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LEFT, SUPERIOR = Code("7771000", "SCT", "Left"), Code("264217000", "SCT", "Superior")
STRUCTURES = tuple(
    Label(index, name, ANATOMY, Code(code, "SCT", meaning), modifiers, (index * 60, 200, 40))
    for index, name, code, meaning, modifiers in (
        (
            1,
            "left kidney",
            "64033007",
            "Kidney",
            (LEFT, SUPERIOR),
        ),
        (2, "liver", "10200004", "Liver", ()),
        (3, "spleen", "78961009", "Spleen", ()),
    )
)
AFFINES = {"axial": axial_affine(), "oblique": oblique_affine(), "tilted": tilted_affine()}
SHAPE = (14, 12, 6)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Per geometry: folder, and what is read from it."""
    folder = tmp_path_factory.mktemp("series")
    found = {}
    for name, affine in AFFINES.items():
        make_series(folder / name, affine, SHAPE)
        found[name] = (folder / name, read_dicom_series(folder / name))
    return found


def findings_of(labels, sources):
    counts = np.bincount(labels.array.ravel(), minlength=4)
    ml = {label.name: float(counts[label.index] * labels.voxel_ml) for label in STRUCTURES}
    return Findings(labels, STRUCTURES, ml, Algorithm("phantom", "1", {"depth": "3"}), sources)


def values_at(labels, array, affine):
    """What another program found at the places of the label map's voxels."""
    return sampled_at(array, affine, voxel_places(labels)).reshape(labels.shape)


@pytest.mark.parametrize(
    ("geometry", "turns"), [("oblique", TURNS), ("axial", TURNS[::7]), ("tilted", TURNS[::7])], ids=AFFINES
)
@pytest.mark.slow
def test_a_label_map_in_any_orientation_lies_where_it_should_in_every_format(tmp_path, images, geometry, turns):
    """All 48 orders and directions of axes, once, as other programs read each format."""
    _, image = images[geometry]
    straight = label_phantom(image.volume.shape, LPS_TO_RAS @ image.volume.affine)
    for number, turn in enumerate(turns):
        labels, folder = turned(straight, *turn), tmp_path / str(number)
        folder.mkdir()
        written = write_outputs(findings_of(labels, image.sources), folder, "case", formats=ALL)
        assert set(written) == set(ALL)
        paths = {kind: folder / entry["file"] for kind, entry in written.items()}
        found = {kind: array_and_affine(paths[kind]) for kind in ("nifti", "segnrrd")}
        found["dicomseg"] = through_dcmqi(paths["dicomseg"], folder / "dcmqi")[:2]
        for kind, (array, affine) in found.items():
            np.testing.assert_array_equal(values_at(labels, array, affine), labels.array[0], err_msg=f"{kind} {turn}")
        if geometry != "tilted":  # whose planes are not those of the upright label map
            dataset = pydicom.dcmread(paths["rtstruct"])
            for label in STRUCTURES:
                masks = masks_by_matplotlib(dataset, label.index, image.sources)
                np.testing.assert_array_equal(masks, straight.array[0] == label.index, err_msg=f"rtstruct {turn}")
        if number % 8 == 0:
            for kind in ("dicomseg", "rtstruct", "sr"):
                assert errors_of("dciodvfy", paths[kind]) == []


@pytest.mark.slow
@pytest.mark.parametrize("geometry", AFFINES)
def test_every_format_becomes_every_other(tmp_path, images, geometry):
    folder, image = images[geometry]
    labels = label_phantom(image.volume.shape, LPS_TO_RAS @ image.volume.affine)
    write_outputs(findings_of(labels, image.sources), tmp_path, "case", formats=ALL)
    for kind in ("nifti", "segnrrd", "dicomseg", "rtstruct"):
        output = tmp_path / kind
        command = ["convert", str(tmp_path / f"case{FORMATS[kind][0]}"), "-o", str(output), "--format", ",".join(ALL)]
        result = CliRunner().invoke(app, [*command, "--source", str(folder), "--made-by", "automatic:phantom:1"])
        assert result.exit_code == 0, result.exception
        assert len(list(output.iterdir())) == 6 == len(result.stdout.split()) + 1  # the table is not named
        for ending in ("_seg.nii.gz", ".seg.nrrd", "_seg.dcm", "_rtstruct.dcm"):
            found, structures = read_label_file(output / f"case{ending}", grid=image.volume)
            back = sampled_at(found.array[0], found.affine, voxel_places(labels)).reshape(labels.shape)
            np.testing.assert_array_equal(back, labels.array[0])
            assert structures == STRUCTURES, (kind, ending)


def test_a_segmentation_of_what_dcm2niix_made_of_the_series_fits_the_series(tmp_path, images):
    """The NIfTI that others work with has other axes than the series, but the same places."""
    folder, image = images["oblique"]
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "image", "-o", tmp_path, folder]
    subprocess.run(command, check=True, capture_output=True)
    nifti = read_volume(tmp_path / "image.nii")
    assert not nifti.same_grid(image.volume)
    labels = Volume((nifti.array > 500).astype(np.uint8), nifti.affine)
    write_nifti(labels, tmp_path / "drawn.nii.gz")
    write_label_table(STRUCTURES[:1], tmp_path / "drawn.tsv")
    command = ["convert", str(tmp_path / "drawn.nii.gz"), "-o", str(tmp_path), "--format", "dicomseg"]
    result = CliRunner().invoke(app, [*command, "--source", str(folder), "--made-by", "manual"])
    assert result.exit_code == 0, result.exception
    seg = pydicom.dcmread(tmp_path / "drawn_seg.dcm")
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "MANUAL" and errors_of("dciodvfy", seg.filename) == []
    found = values_at(image.volume, *through_dcmqi(tmp_path / "drawn_seg.dcm", tmp_path / "dcmqi")[:2])
    np.testing.assert_array_equal(found, image.volume.array[0] > 500)


def test_help_and_errors_list_the_same_formats():
    for formats in ([], ["png"]):
        with pytest.raises(InputError) as caught:
            check_formats(formats, dicom=True)
        for command in ("segment", "convert"):
            shown = " ".join(CliRunner(env={"COLUMNS": "300"}).invoke(app, [command, "--help"]).stdout.split())
            assert f"Comma-separated: {', '.join(OFFERED)}." in shown and ", ".join(OFFERED) in str(caught.value)
    assert "picture" not in str(caught.value) and check_formats(["picture"], dicom=False) == ("picture",)


def test_a_conversion_that_is_refused_leaves_no_folder(tmp_path, images):
    """Also when what is refused is seen only in writing."""
    labels = label_phantom(images["axial"][1].volume.shape, LPS_TO_RAS @ images["axial"][1].volume.affine)
    with pytest.raises(ZeroDivisionError), results_folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    with results_folder(tmp_path / "a" / "b"):
        write_outputs(findings_of(labels, ()), tmp_path / "a" / "b", "case", formats=["nifti"])
    (tmp_path / "empty").mkdir()
    with results_folder(tmp_path / "empty"):
        pass
    assert (tmp_path / "a" / "b" / "case_seg.nii.gz").is_file() and (tmp_path / "empty").is_dir()
    with pytest.raises(OutputError, match="must be a writable folder, got a file; choose another"):
        make_folder(tmp_path / "a" / "b" / "case_seg.nii.gz" / "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "dicomseg"], "must refer to a DICOM series, .*; give the images as DICOM, or choose nifti"),
        (["--format", "sr"], "must refer to a DICOM series|add dicomseg"),
        (["--format", "png"], "format must be one of"),
        (["--format", ""], "format must be one of"),
        (["--format", "dicomseg", "--source"], "DICOM states how labels were made, got nothing"),
        (["--format", "dicomseg", "--made-by", "automatic", "--source"], "must be manual"),
        (["--format", "nifti", "--bundle", "nowhere"], "nowhere"),
    ],
)
def test_conversions_that_cannot_be(tmp_path, images, options, message):
    folder, image = images["axial"]
    labels = label_phantom(image.volume.shape, LPS_TO_RAS @ image.volume.affine)
    write_outputs(findings_of(labels, image.sources), tmp_path, "case", formats=["nifti"])
    options = [*options, str(folder)] if options[-1] == "--source" else options
    result = CliRunner().invoke(
        app, ["convert", str(tmp_path / "case_seg.nii.gz"), "-o", str(tmp_path / "o"), *options]
    )
    assert result.exit_code != 0
    assert re.search(message, str(result.exception))
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


def test_labels_without_a_meaning_are_refused(tmp_path):
    labels = Volume(phantom((6, 7, 8))[1][None], np.eye(4))
    write_nifti(labels, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"got no a\.tsv beside it"):
        read_label_file(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"got \[2\]"):
        read_label_file(tmp_path / "a.nii.gz", structures=STRUCTURES[:1])
    with pytest.raises(InputError, match="must be a file"):
        read_label_file(tmp_path)


@pytest.mark.parametrize(
    ("array", "indices", "message"),
    [
        (np.eye(2, dtype=np.uint8)[np.arange(24).reshape(2, 3, 4) % 2], (1,), "must have 1 channel, got 2"),
        (np.full((2, 3, 4), 257, np.int16), (1, 257), "must be at most 255, got 257"),
        (np.full((2, 3, 4), 256, np.int16), (1, 256), "must be at most 255, got 256"),
    ],
    ids=["one-hot", "wraps to 1", "wraps to 0"],
)
def test_label_maps_that_would_lose_voxels_are_refused(tmp_path, array, indices, message):
    save_nifti(tmp_path / "a.nii.gz", array)
    structures = [Label(index, f"name {index}", None, None, (), None) for index in indices]
    write_label_table(structures, tmp_path / "a.tsv")
    with pytest.raises(InputError, match=message):
        read_label_file(tmp_path / "a.nii.gz")
    command = ["convert", str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "o"), "--format", "segnrrd"]
    assert re.search(message, str(CliRunner().invoke(app, command).exception))
    assert not (tmp_path / "o").exists()


def test_colours_of_a_picture_go_by_index(tmp_path):
    labels = Volume(np.array([0, 1, 3], np.uint8).reshape(1, 3, 1, 1), np.eye(4))
    structures = tuple(replace(STRUCTURES[index - 1], colour=(index, 0, 0)) for index in (3, 1))  # neither in order
    findings = Findings(labels, structures, {}, Algorithm("phantom", "1"))
    write_outputs(findings, tmp_path, "case", formats=["picture"])
    shown = np.asarray(Image.open(tmp_path / "case_seg.png").convert("RGB"))
    assert shown[0].tolist() == [[0, 0, 0], [1, 0, 0], [3, 0, 0]]


def test_what_the_formats_need():
    assert check_formats(("sr", "dicomseg", "nifti"), dicom=True) == ("nifti", "dicomseg", "sr")
    with pytest.raises(InputError, match="add dicomseg"):
        check_formats(("sr",), dicom=True)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_bundle("hippocampus", runtime="eager")


@pytest.fixture
def brain(tmp_path):
    """A series of the phantom that the network finds something in."""
    array = phantom()[0]

    def pixels(dataset, index):
        dataset.PixelData = np.ascontiguousarray(array[:, :, index].T.astype(np.uint16)).tobytes()

    make_series(tmp_path / "brain", axial_affine((1.0, 1.0, 1.0)), array.shape, change=pixels)
    return tmp_path / "brain"


def test_a_series_of_another_modality_is_refused(tmp_path, segmenter):
    make_series(tmp_path / "ct", axial_affine((1.0, 1.0, 1.0)), (24, 20, 6), modality="CT")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="of modality MR, for which the bundle was trained, got CT") as caught:
        segment_case(segmenter, tmp_path / "ct", tmp_path / "out", Request(depth=1))
    assert caught.value.option == "any_modality"
    assert list((tmp_path / "out").iterdir()) == []
    segment_case(segmenter, tmp_path / "ct", tmp_path / "out", Request(depth=1, any_modality=True))
    assert (tmp_path / "out" / "ct_seg.nii.gz").exists()


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ("MR", "MR", True), ("MR", "MRI", True), ("CT", "CT, MR", True), ("PT", "PET/CT", True), ("mr ", "MR", True),
        ("MR", "n/a", True), ("CT", "EM", True), ("MR", "", True), ("OT", "CT", True), ("", "CT", True),
        ("XYZ", "CT", True), (None, "CT", True),
        ("MR", "CT", False), ("CT", "MRI", False), ("US", "CT, MR", False), ("RTDOSE", "CT", False),
    ],
)  # fmt: skip
def test_only_modalities_that_are_known_to_differ_are_refused(given, wanted, fits):
    header = pydicom.Dataset()
    header.add(pydicom.DataElement("Modality", "CS", given, validation_mode=pydicom.config.IGNORE))
    if fits:
        check_modality(header, wanted)
    else:
        with pytest.raises(InputError, match="must be of modality"):
            check_modality(header, wanted)


@pytest.mark.slow
def test_a_case_gives_every_format_and_a_proof_for_each(tmp_path, segmenter, brain):
    (tmp_path / "out").mkdir()
    result = segment_case(segmenter, brain, tmp_path / "out", Request(formats=ALL, depth=2, uncertainty=True))
    files = {path.name for path in (tmp_path / "out").iterdir()}
    endings = [ending for kind in ALL for ending in FORMATS[kind]]
    assert files == {f"brain{ending}" for ending in (*endings, ".json", "_uncertainty.nii.gz")}
    report = json.loads((tmp_path / "out" / "brain.json").read_text())
    for kind in ("nifti", "segnrrd", "dicomseg", "rtstruct"):
        proof = report["outputs"][kind]["read_back"]
        assert proof["different"] == 0 and proof["voxels"] == np.count_nonzero(result.labels.array), kind
    assert report["outputs"]["sr"]["read_back"] == pytest.approx({k: v for k, v in result.ml.items() if v}, rel=1e-5)
    found, structures = read_label_file(tmp_path / "out" / "brain_seg.dcm")
    assert structures == segmenter.bundle.labels
    np.testing.assert_array_equal(
        sampled_at(found.array[0], found.affine, voxel_places(result.labels)), result.labels.array.ravel()
    )
    with pytest.raises(OutputError, match="exists"):
        segment_case(segmenter, brain, tmp_path / "out", Request())


@pytest.mark.slow
def test_nothing_is_left_if_one_format_fails(tmp_path, segmenter, brain):
    def no_reference(path):
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)

    for path in brain.iterdir():
        no_reference(path)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="FrameOfReferenceUID"):
        segment_case(segmenter, brain, tmp_path / "out", Request(formats=("nifti", "dicomseg"), depth=1))
    assert list((tmp_path / "out").iterdir()) == []
    segment_case(segmenter, brain, tmp_path / "out", Request(depth=1))  # NIfTI needs none


@pytest.mark.slow
def test_a_pseudonymised_case_names_nobody(tmp_path, segmenter, brain):
    secret = pydicom.dcmread(next(brain.iterdir()))
    (tmp_path / "out").mkdir()
    request = Request(formats=ALL, depth=1, key=bytes(range(32)))
    segment_case(segmenter, brain, tmp_path / "out", request)
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert not any("brain" in name for name in names) and len(names) == 7
    values = [
        str(secret.PatientID),
        str(secret.PatientName),
        secret.SeriesInstanceUID,
        secret.StudyInstanceUID,
        "brain",
    ]
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for value in values:
            assert value and value.encode() not in content, (path.name, value)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    segment_case(segmenter, brain, tmp_path / "out", Request(formats=ALL, depth=1, key=b"another key of 32 bytes!"))
    assert not set(names) & {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # when the phantom is made
def test_what_pydicom_quotes_is_not_in_a_pseudonymous_report(tmp_path, segmenter):
    """Its warnings repeat the values that they are about."""

    def malformed(dataset, index):
        dataset.StudyInstanceUID = "1.2.840.SMITH.1970"

    make_series(tmp_path / "brain", axial_affine((1.0, 1.0, 1.0)), (34, 50, 36), change=malformed)
    (tmp_path / "out").mkdir()
    segment_case(segmenter, tmp_path / "brain", tmp_path / "out", Request(depth=1, key=bytes(range(32))))
    for path in (tmp_path / "out").iterdir():
        assert b"SMITH" not in path.read_bytes(), path.name
    segment_case(segmenter, tmp_path / "brain", tmp_path / "out", Request(depth=1))
    assert "SMITH" in (tmp_path / "out" / "brain.json").read_text()


@pytest.mark.slow
def test_the_hash_of_a_series_is_without_our_results_below_it(tmp_path, segmenter, brain):
    before = sha256(brain)
    (brain / "out").mkdir()
    for _ in range(2):
        request = Request(formats=("nifti", "dicomseg"), depth=1, overwrite=True)
        segment_case(segmenter, brain, brain / "out", request)
        assert json.loads((brain / "out" / "brain.json").read_text())["input_sha256"] == before
    shutil.rmtree(brain / "out")
    segment_case(segmenter, brain, brain, Request(depth=1))  # all of the folder, as no folder below is ours
    assert json.loads((brain / "brain.json").read_text())["input_sha256"] == before


def test_one_of_several_series_is_named(tmp_path, segmenter, brain):
    make_series(tmp_path / "brain" / "other", oblique_affine(), SHAPE)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="several image series"):
        segment_case(segmenter, brain, tmp_path / "out", Request(depth=1))
    uid = str(pydicom.dcmread(next(path for path in brain.iterdir() if path.is_file())).SeriesInstanceUID)
    segment_case(segmenter, brain, tmp_path / "out", Request(depth=1, series=uid))
    assert json.loads((tmp_path / "out" / "brain.json").read_text())["series"] == uid


def test_series_and_keys_belong_to_dicom(tmp_path, segmenter, image_file):
    for request in (Request(series="3"), Request(key=bytes(32)), Request(formats=("dicomseg",))):
        with pytest.raises(InputError, match="DICOM"):
            segment_case(segmenter, image_file, tmp_path, request)


@pytest.mark.parametrize("name", ["Study1_13_HCropVolume", "Study3_11_HCropVolume"])
def test_real_series_give_valid_objects(tmp_path, segmenter, shared_data, name):
    request = Request(formats=ALL, depth=1)
    segment_case(segmenter, shared_data / "dicom" / name, tmp_path, request)
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert all(report["outputs"][kind]["read_back"]["different"] == 0 for kind in ALL[:-1])
    for ending in ("_seg.dcm", "_rtstruct.dcm", "_sr.dcm"):
        assert errors_of("dciodvfy", tmp_path / f"{name}{ending}") == []
