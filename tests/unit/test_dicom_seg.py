"""DICOM SEG: written from any grid, read by others, read back by ourselves, refused where it would not be true."""

import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from helpers import BUNDLE
from helpers.dicom_checks import errors_of, through_dcmqi
from helpers.dicom_phantoms import (
    LPS_TO_RAS,
    TURNS,
    axial_affine,
    label_phantom,
    make_enhanced,
    make_series,
    oblique_affine,
    sampled_at,
    tilted_affine,
    turned,
    voxel_places,
    with_delimiters,
)

from unetpp_monai.dicom.seg import read_dicom_seg, write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import CorruptFileError, GeometryError, InputError, OutputError
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.labels import Code, Label, read_labels
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume

SHAPE = (24, 20, 9)
ALGORITHM = Algorithm("UNet++ phantom", "1.2.3", {"depth": "3", "weights_sha256": "0" * 64})
AFFINES = {"axial": axial_affine(), "oblique": oblique_affine()}
ORGAN = Code("91723000", "SCT", "Anatomical Structure")


def structures(count=3, **changes):
    kidney = {"category": ORGAN, "type": Code("64033007", "SCT", "Kidney"), "colour": (10, 200, 30)}
    left, upper = Code("7771000", "SCT", "Left"), Code("264217000", "SCT", "Superior")
    return [
        Label(index, f"kidney part {index}", **{**kidney, "modifiers": (left, upper) if index == 1 else (), **changes})
        for index in range(1, count + 1)
    ]


def write(path, labels, sources, **options):
    options = {"structures": structures(), "algorithm": ALGORITHM, **options}
    return write_dicom_seg(labels, path, sources=sources, **options)[0]


def assert_same_place(labels, array, affine):
    """Every voxel of `labels` has its value in the other array, and that has no more labelled voxels besides."""
    np.testing.assert_array_equal(sampled_at(array, affine, voxel_places(labels)), labels.array.ravel())
    assert np.count_nonzero(array) == np.count_nonzero(labels.array)


def through_highdicom(path):
    """What highdicom's own volume reader makes of a SEG file: array, affine RAS."""
    hd = pytest.importorskip("highdicom")
    volume = hd.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    return volume.array.T, LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Headers of an axial and an oblique series."""
    folder = tmp_path_factory.mktemp("series")
    return {name: make_series(folder / name, affine, SHAPE) for name, affine in AFFINES.items()}


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_the_phantoms_are_valid_themselves(tmp_path, modality):
    make_series(tmp_path, oblique_affine(), (4, 4, 2), modality=modality)
    assert errors_of("dciodvfy", tmp_path / "000.dcm") == []


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("turn", TURNS[::11], ids=str)  # all of them in test_outputs.py
def test_axes_in_any_order_and_direction_come_out_on_the_source_planes(tmp_path, series, name, turn):
    labels = label_phantom(SHAPE, AFFINES[name])
    proof = write(tmp_path / "seg.dcm", turned(labels, *turn), series[name])
    assert (proof.different, proof.voxels) == (0, np.count_nonzero(labels.array)) and proof.largest_mm < 1e-5
    stored = pydicom.dcmread(tmp_path / "seg.dcm")
    uids = {source.SOPInstanceUID: source for source in series[name]}
    for frame in stored.PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        source = uids[reference.ReferencedSOPInstanceUID]
        assert reference.SpatialLocationsPreserved == "YES"
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, source.ImagePositionPatient, atol=1e-5)
    volume, _ = read_dicom_seg(tmp_path / "seg.dcm")
    assert_same_place(labels, volume.array[0], volume.affine)


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("name", AFFINES)
def test_dcmqi_sees_the_same_voxels_at_the_same_places(tmp_path, series, name, encoding):
    labels = label_phantom(SHAPE, AFFINES[name])
    write(tmp_path / "seg.dcm", turned(labels, (1, 2, 0), (1, 0, 0)), series[name], encoding=encoding)
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    array, affine, meta = through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")
    assert_same_place(labels, array, affine)
    segments = [segment for group in meta["segmentAttributes"] for segment in group if segment["labelID"] > 0]
    assert [segment["SegmentLabel"] for segment in segments] == [one.name for one in structures()]
    assert segments[0]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Left"
    assert segments[0]["SegmentAlgorithmName"] == ALGORITHM.name
    np.testing.assert_allclose([segment["recommendedDisplayRGBValue"] for segment in segments], [(10, 200, 30)] * 3)


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_names_codes_colours_and_origin_are_kept(tmp_path, series, encoding):
    given = structures()
    write(tmp_path / "seg.dcm", label_phantom(SHAPE, AFFINES["axial"]), series["axial"], encoding=encoding)
    assert read_dicom_seg(tmp_path / "seg.dcm")[1] == tuple(given)
    stored, source = pydicom.dcmread(tmp_path / "seg.dcm"), series["axial"][0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert stored[keyword].value == source[keyword].value
    assert stored.SeriesInstanceUID != source.SeriesInstanceUID and stored.SeriesInstanceUID.startswith("2.25.")
    (referenced,) = stored.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == SHAPE[2]
    segment = stored.SegmentSequence[-1]
    (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == (ALGORITHM.name, ALGORITHM.version)
    assert "depth=3" in made_by.AlgorithmParameters and made_by.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert segment.TrackingID == given[-1].name and segment.TrackingUID.startswith("2.25.")
    assert stored.SeriesNumber == 1003


@pytest.mark.parametrize("name", ["Study1_13_HCropVolume", "Study3_11_HCropVolume", "Study3_26401-T1prereg-52906"])
@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_real_series(tmp_path, shared_data, name, encoding):
    case = read_dicom_series(shared_data / "dicom" / name)
    labels = Volume(label_phantom(case.volume.shape, np.eye(4), 2).array, case.volume.affine)
    given = read_labels(json.loads((BUNDLE / "configs" / "metadata.json").read_text()))
    write(tmp_path / "seg.dcm", labels, case.sources, structures=given, encoding=encoding)
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    assert_same_place(labels, *through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")[:2])
    volume, read = read_dicom_seg(tmp_path / "seg.dcm")
    assert_same_place(labels, volume.array[0], volume.affine)
    assert read == given


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_no_labelled_voxel_is_a_valid_small_file(tmp_path, series, encoding):
    labels = Volume(np.zeros((1, *SHAPE), dtype=np.uint8), LPS_TO_RAS @ AFFINES["oblique"])
    assert write(tmp_path / "seg.dcm", labels, series["oblique"], encoding=encoding).voxels == 0
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 1
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    volume, read = read_dicom_seg(tmp_path / "seg.dcm")
    assert not volume.array.any() and len(read) == 3


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_many_structures_with_gaps_in_their_values(tmp_path, series, encoding):
    values = [*range(2, 520, 2)]
    array = np.zeros((1, *SHAPE), dtype=np.uint16)
    array.reshape(-1)[100 : 100 + len(values)] = values
    labels = Volume(array, LPS_TO_RAS @ AFFINES["axial"])
    given = [Label(value, f"part {value}", ORGAN, ORGAN, (), None) for value in values]
    write(tmp_path / "seg.dcm", labels, series["axial"], structures=given, encoding=encoding)
    volume, read = read_dicom_seg(tmp_path / "seg.dcm")
    assert [(one.index, one.name) for one in read] == [(n, f"part {value}") for n, value in enumerate(values, 1)]
    assert_same_place(Volume(array // 2, labels.affine), volume.array[0], volume.affine)


def test_frames_that_end_within_a_byte(tmp_path):
    sources = make_series(tmp_path / "series", axial_affine(), (7, 5, 4))
    labels = label_phantom((7, 5, 4), axial_affine(), 2)
    write(tmp_path / "seg.dcm", labels, sources)
    volume, _ = read_dicom_seg(tmp_path / "seg.dcm")
    assert_same_place(labels, volume.array[0], volume.affine)


def grids():
    """Grids in the same frame of reference that are not the source's, LPS."""
    finer = AFFINES["axial"] @ np.diag([0.5, 0.7, 0.4, 1])
    small = AFFINES["axial"].copy()
    small[:3, 3] += (3.3, 4.4, 5.0)
    oblique = oblique_affine((1.3, 1.3, 1.3), (-20.0, -30.5, 40.0))
    almost = AFFINES["axial"] @ np.diag([1.00005, 1.00005, 1, 1])
    return {"finer": finer, "another oblique": oblique, "shifted": small, "almost": almost}


@pytest.mark.parametrize("name", grids())
@pytest.mark.parametrize("turn", TURNS[::13], ids=str)
def test_labels_on_a_grid_of_their_own(tmp_path, series, name, turn):
    labels = label_phantom((15, 18, 6), grids()[name])
    proof = write(tmp_path / "seg.dcm", turned(labels, *turn), series["axial"])
    assert proof.different == 0 and proof.largest_mm < 1e-5
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    volume, _ = read_dicom_seg(tmp_path / "seg.dcm")
    assert_same_place(labels, volume.array[0], volume.affine)
    assert_same_place(labels, *through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")[:2])
    stored = pydicom.dcmread(tmp_path / "seg.dcm")
    assert len(stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == SHAPE[2]


def test_upright_labels_of_a_tilted_gantry_refer_to_its_planes(tmp_path):
    sources = make_series(tmp_path / "series", tilted_affine(), SHAPE, modality="CT")
    case = read_dicom_series(tmp_path / "series")
    labels = Volume(label_phantom(case.volume.shape, np.eye(4)).array, case.volume.affine)
    write(tmp_path / "seg.dcm", labels, case.sources)
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    assert_same_place(labels, *through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")[:2])
    height = {source.SOPInstanceUID: source.ImagePositionPatient[2] for source in sources}
    for frame in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert frame.PlanePositionSequence[0].ImagePositionPatient[2] == pytest.approx(
            height[reference.ReferencedSOPInstanceUID]
        )


def test_labels_on_the_sheared_lattice_of_a_tilted_gantry(tmp_path):
    sources = make_series(tmp_path / "series", tilted_affine(), SHAPE, modality="CT")
    labels = label_phantom(SHAPE, tilted_affine())
    write(tmp_path / "seg.dcm", turned(labels, (2, 0, 1), (1, 1, 0)), sources)
    volume, _ = read_dicom_seg(tmp_path / "seg.dcm")
    assert_same_place(labels, volume.array[0], volume.affine)


@pytest.mark.parametrize("shared", [True, False], ids=["shared geometry", "geometry per frame"])
@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_enhanced_multi_frame_source(tmp_path, shared, encoding):
    source = make_enhanced(tmp_path / "enhanced.dcm", AFFINES["oblique"], SHAPE, shared=shared)
    labels = label_phantom(SHAPE, AFFINES["oblique"])
    write(tmp_path / "seg.dcm", turned(labels, (2, 1, 0), (0, 1, 1)), [source], encoding=encoding)
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    assert_same_place(labels, *through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")[:2])
    step = AFFINES["oblique"][:3, 2]
    for frame in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        position = AFFINES["oblique"][:3, 3] + (reference.ReferencedFrameNumber - 1) * step
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, position, atol=1e-5)


def without_optional_tags(dataset, index):
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "Manufacturer",
                    "SliceThickness", "SpecificCharacterSet", "SeriesNumber"):  # fmt: skip
        delattr(dataset, keyword)


def with_invalid_tags(dataset, index):
    with pytest.warns(UserWarning, match="Invalid value"):
        dataset.PatientBirthDate, dataset.StudyTime = "unknown", "noon"
    dataset.PatientSex, dataset.SpacingBetweenSlices, dataset.NumberOfFrames = "X", 0.001, 1


def jittering(dataset, index):
    dataset.ImagePositionPatient[index % 3] += 0.03 * (-1) ** index
    dataset.ImageOrientationPatient[1] += 1e-7 * index


@pytest.mark.parametrize("change", [without_optional_tags, with_invalid_tags, jittering])
@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # pydicom, of the tags that are invalid on purpose
def test_imperfect_sources_give_valid_files(tmp_path, change, encoding):
    make_series(tmp_path / "series", axial_affine(), SHAPE, change=change)
    case = read_dicom_series(tmp_path / "series")
    labels = Volume(label_phantom(SHAPE, np.eye(4)).array, case.volume.affine)
    before = [source.to_json() for source in case.sources]
    write(tmp_path / "seg.dcm", labels, case.sources, encoding=encoding)
    assert [source.to_json() for source in case.sources] == before
    assert errors_of("dciodvfy", tmp_path / "seg.dcm") == []
    assert_same_place(labels, *through_dcmqi(tmp_path / "seg.dcm", tmp_path / "dcmqi")[:2])
    assert_same_place(labels, *through_highdicom(tmp_path / "seg.dcm"))
    for frame in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        assert len(frame.DerivationImageSequence[0].SourceImageSequence) == 1


def test_labels_without_codes_are_tissue_with_a_warning(tmp_path, series, caplog):
    labels = label_phantom(SHAPE, AFFINES["axial"])
    long_name = "ä" * 10 + " backslash\\ and much more than DICOM allows in a name, éèê"
    bare = [Label(index, f"{index} {long_name}", None, None, (), None) for index in (1, 2, 3)]
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "seg.dcm", labels, series["axial"], structures=bare)
    assert len(caplog.records) == 1 and "3 labels without codes" in caplog.text
    _, (first, *_) = read_dicom_seg(tmp_path / "seg.dcm")
    assert first.type == Code("85756007", "SCT", "Tissue")
    assert len(first.name.encode()) <= 64 and first.name.startswith("1 ää") and "backslash/" in first.name
    assert first.colour is not None and errors_of("dciodvfy", tmp_path / "seg.dcm") == []


def changed(labels, array):
    return Volume(array, labels.affine)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda array: np.where(array == 2, 9, array), r"must have a structure, got \[9\]"),
        (lambda array: array.astype(np.int16) - 1, r"must be in 0 \.\.\. 65535, got -1"),
        (lambda array: array.astype(np.float32) / 2, "whole numbers, got fractions"),
        (lambda array: np.where(array == 2, np.nan, array), "must be in"),
        (
            lambda array: np.concatenate([array == 1, array > 0]),
            "1 channel, got 2; replace the colours of a picture by label numbers, or take",
        ),
    ],
)
def test_what_is_no_label_map_of_the_structures_is_refused(tmp_path, series, make, message):
    labels = label_phantom(SHAPE, AFFINES["axial"])
    with pytest.raises(OutputError, match=message):
        write(tmp_path / "seg.dcm", changed(labels, make(labels.array)), series["axial"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint16, np.float32])
def test_label_maps_of_any_dtype_of_whole_numbers(tmp_path, series, dtype):
    labels = label_phantom(SHAPE, AFFINES["axial"], count=1)
    proof = write(tmp_path / "seg.dcm", changed(labels, labels.array.astype(dtype)), series["axial"])
    assert proof.voxels == np.count_nonzero(labels.array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structures": []}, "different values >= 1, got \\[\\]"),
        ({"structures": [*structures(), structures()[0]]}, r"different values >= 1, got \[1, 1, 2, 3\]"),
        ({"structures": [Label(1, " ", ORGAN, ORGAN, (), None)]}, "must not be empty"),
        ({"encoding": "fractional"}, "binary, labelmap, got 'fractional'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, series, options, message):
    with pytest.raises(OutputError, match=message):
        write(tmp_path / "seg.dcm", label_phantom(SHAPE, AFFINES["axial"], 1), series["axial"], **options)


def test_highdicom_is_asked_for_where_it_is_missing(tmp_path, series, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(OutputError, match=r"pip install 'unetpp_monai\[dicom\]'"):
        write(tmp_path / "seg.dcm", label_phantom(SHAPE, AFFINES["axial"]), series["axial"])


def test_sources_that_cannot_be_referred_to_are_refused(tmp_path, series):
    labels = label_phantom(SHAPE, AFFINES["axial"])

    def nowhere(dataset, index):
        del dataset.FrameOfReferenceUID

    def elsewhere(dataset, index):
        del dataset.ImagePositionPatient

    for name, sources, message in (
        ("a", make_series(tmp_path / "a", axial_affine(), SHAPE, change=nowhere), "must have FrameOfReferenceUID"),
        ("b", make_series(tmp_path / "b", axial_affine(), SHAPE, change=elsewhere), "position, orientation"),
        ("c", [*series["axial"], *series["oblique"]], "of one series with one StudyInstanceUID"),
        ("d", [], "source images' headers, got none"),
    ):
        with pytest.raises(OutputError, match=message):
            write(tmp_path / f"{name}.dcm", labels, sources)
        assert not (tmp_path / f"{name}.dcm").exists()


def swapped_frames(seg):
    groups = seg.PerFrameFunctionalGroupsSequence
    groups[0].PlanePositionSequence, groups[1].PlanePositionSequence = (
        groups[1].PlanePositionSequence, groups[0].PlanePositionSequence,
    )  # fmt: skip


def moved(seg):
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[0] += 0.01


def stretched(seg):
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.1, 0.81]


def mirrored(seg):
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def one_bit(seg):
    pixels = bytearray(seg.PixelData)
    pixels[len(pixels) // 2] ^= 4
    seg.PixelData = bytes(pixels)


def renumbered(seg):
    for group in seg.PerFrameFunctionalGroupsSequence:
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number % 3 + 1


def renamed(seg):
    seg.SegmentSequence[0].SegmentLabel, seg.SegmentSequence[1].SegmentLabel = "kidney part 2", "kidney part 1"


def lost_frame(seg):
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]
    seg.NumberOfFrames -= 1


def without_places(seg):
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


DAMAGE = [swapped_frames, moved, stretched, mirrored, one_bit, renumbered, renamed, lost_frame, without_places]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_what_was_given_is_not_delivered(tmp_path, series, monkeypatch, damage):
    from unetpp_monai.dicom import seg as dicom_seg

    encode = dicom_seg._encode

    def broken(*args):
        seg = encode(*args)
        damage(seg)
        return seg

    monkeypatch.setattr(dicom_seg, "_encode", broken)
    with pytest.raises(OutputError, match="nothing was written"):
        write(tmp_path / "seg.dcm", label_phantom(SHAPE, AFFINES["axial"]), series["axial"])
    assert list(tmp_path.iterdir()) == []


def overlapping(seg):
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def uneven(seg):
    seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[2] += 0.9


def fractional(seg):
    seg.SegmentationType = "FRACTIONAL"


def undescribed(seg):
    seg.SegmentSequence = seg.SegmentSequence[:1]


def unmeasured(seg):
    del seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (overlapping, InputError, "segments that overlap"),
        (uneven, GeometryError, "mm off"),
        (fractional, InputError, "of type FRACTIONAL"),
        (undescribed, InputError, "must belong to a described segment"),
        (without_places, GeometryError, "ImagePositionPatient"),
        (unmeasured, InputError, "lacks required attributes of a SEG"),
    ],
)
def test_wrong_files_are_not_read(tmp_path, series, damage, error, message):
    write(tmp_path / "seg.dcm", label_phantom(SHAPE, AFFINES["axial"]), series["axial"])
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    damage(seg)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(error, match=message):
        read_dicom_seg(tmp_path / "seg.dcm")


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_a_cut_file_is_not_read(tmp_path, series, encoding, undefined):
    path = tmp_path / "seg.dcm"
    write(path, label_phantom(SHAPE, AFFINES["axial"]), series["axial"], encoding=encoding)
    if undefined:
        with_delimiters(path)
    whole, outcomes = path.read_bytes(), set()
    for cut in range(400, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError) as caught:
            read_label_file(path)
        outcomes.add(type(caught.value))
    assert CorruptFileError in outcomes


def test_direction_cosines_of_three_decimals_are_a_grid(tmp_path):
    """Rounded, they are orthogonal to 2e-3 only: the label map must stay on the planes of its images."""

    def rounded(dataset, index):
        dataset.ImageOrientationPatient = [round(float(value), 3) for value in dataset.ImageOrientationPatient]

    make_series(tmp_path / "series", AFFINES["oblique"], SHAPE, change=rounded)
    image = read_dicom_series(tmp_path / "series")
    directions = image.volume.affine[:3, :3] / image.volume.spacing
    assert abs(directions[:, 0] @ directions[:, 1]) > 1e-4
    labels = Volume(label_phantom(SHAPE, AFFINES["oblique"]).array, image.volume.affine)
    for encoding in ("binary", "labelmap"):
        proof = write(tmp_path / "seg.dcm", labels, image.sources, encoding=encoding)
        assert proof.different == 0
        seg = pydicom.dcmread(tmp_path / "seg.dcm")
        assert (seg.Rows, seg.Columns) == (SHAPE[1], SHAPE[0])
        assert all(group.DerivationImageSequence for group in seg.PerFrameFunctionalGroupsSequence)


def test_other_files_are_not_read(tmp_path):
    make_series(tmp_path, axial_affine(), (4, 4, 1))
    with pytest.raises(InputError, match=r"must be DICOM SEG .* got MR Image Storage"):
        read_dicom_seg(tmp_path / "000.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(InputError, match="not a readable DICOM file"):
        read_dicom_seg(tmp_path / "text.dcm")


def test_a_seg_of_another_maker_is_read(tmp_path, series):
    """dcmqi writes what we read: its own frames, its own order, codes in its own way."""
    sitk = pytest.importorskip("SimpleITK")
    if not (tool := shutil.which("itkimage2segimage")):
        pytest.skip("needs dcmqi's itkimage2segimage")
    sources = make_series(tmp_path / "series", AFFINES["oblique"], SHAPE)
    labels = label_phantom(SHAPE, AFFINES["oblique"])
    write(tmp_path / "ours.dcm", labels, sources)
    through_dcmqi(tmp_path / "ours.dcm", tmp_path / "dcmqi")
    image, meta = next((tmp_path / "dcmqi").glob("*.nrrd")), next((tmp_path / "dcmqi").glob("*.json"))
    command = [tool, "--inputImageList", image, "--inputMetadata", meta, "--outputDICOM", tmp_path / "theirs.dcm",
               "--inputDICOMDirectory", tmp_path / "series"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    volume, read = read_dicom_seg(tmp_path / "theirs.dcm")
    assert sitk.ReadImage(image).GetSize() == volume.shape
    assert_same_place(labels, volume.array[0], volume.affine)
    assert [one.name for one in read] == [one.name for one in structures()]
