"""Conversion of label maps as a Python user calls it; that voxels keep their places is shown in test_outputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_checks import errors_of
from helpers.dicom_phantoms import LPS_TO_RAS, axial_affine, label_phantom, make_series

from unetpp_monai import Algorithm, convert
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import InputError, MissingGeometryError, OutputError
from unetpp_monai.io import write_nifti
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.io.label_table import write_label_table
from unetpp_monai.labels import Code, Label

KIDNEY = Label(
    1, "kidney", Code("91723000", "SCT", "Anatomical Structure"), Code("64033007", "SCT", "Kidney"), (), None
)
BY_HAND = Algorithm("", "", kind="MANUAL")


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A folder with `case_seg.nii.gz`, its table and the series that it belongs to."""
    make_series(tmp_path / "series", axial_affine(), (14, 12, 6))
    image = read_dicom_series(tmp_path / "series").volume
    labels = label_phantom(image.shape, LPS_TO_RAS @ image.affine)
    labels.array[labels.array > 0] = 1
    write_nifti(labels, tmp_path / "case_seg.nii.gz")
    write_label_table([KIDNEY], tmp_path / "case_seg.tsv")
    monkeypatch.chdir(tmp_path)
    return labels


def test_files_come_in_order_and_read_back_as_the_same_labels(case, tmp_path):
    written = convert("case_seg.nii.gz", "a/b", formats=["rtstruct", "dicomseg"], source="series", made_by=BY_HAND)
    assert [str(path) for path in written] == ["a/b/case_seg.dcm", "a/b/case_rtstruct.dcm"]
    for path in written:  # contours need the grid that they were drawn on, and a NIfTI no maker
        (back,) = convert(path, "back", formats=["nifti"], source="series", overwrite=True)
        labels, structures = read_label_file(back)
        assert np.bincount(labels.array.ravel()).tolist()[1:] == np.bincount(case.array.ravel()).tolist()[1:]
        assert [label.name for label in structures] == ["kidney"]
        assert np.array_equal(labels.array, case.array) and labels.same_grid(case)  # all slices, also of a SEG
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["case_seg.nii.gz", "case_seg.tsv"]


def test_a_seg_without_its_images_has_the_labelled_slices_only(case, caplog):
    case.array[..., (0, -1)] = 0
    write_nifti(case, Path("case_seg.nii.gz"))
    convert("case_seg.nii.gz", "seg", formats=["dicomseg"], source="series", made_by=BY_HAND)
    (part,) = convert("seg/case_seg.dcm", "part", formats=["nifti"])
    (whole,) = convert("seg/case_seg.dcm", "whole", formats=["nifti"], source="series")
    part, whole = (read_label_file(path)[0] for path in (part, whole))
    assert part.shape[2] < whole.shape[2] == case.shape[2]
    assert np.array_equal(whole.array, case.array) and whole.same_grid(case)
    finer = make_series(Path("finer"), axial_affine(spacing=(0.5, 0.5, 1.5)), (28, 24, 12)) and "finer"
    (kept,) = convert("seg/case_seg.dcm", "kept", formats=["nifti"], source=finer, allow_other_patient=True)
    assert read_label_file(kept)[0].same_grid(part) and "keeps its own grid" in caplog.text


def test_structures_name_the_values_of_a_nifti_without_a_table(case, tmp_path):
    (tmp_path / "case_seg.tsv").unlink()
    with pytest.raises(InputError, match="must have a meaning"):
        convert("case_seg.nii.gz", "out", formats=["segnrrd"])
    (path,) = convert("case_seg.nii.gz", "out", formats=["segnrrd"], structures=[KIDNEY])
    assert read_label_file(path)[1][0].name == "kidney"


def test_results_replace_others_only_if_they_may(case, tmp_path):
    convert("case_seg.nii.gz", "out", formats=["nifti"])
    (tmp_path / "out" / "case_seg.nii.gz").unlink()  # its table is a result too
    with pytest.raises(OutputError, match=r"case_seg\.tsv exists") as caught:
        convert("case_seg.nii.gz", "out", formats=["nifti", "segnrrd"])
    assert caught.value.option == "overwrite"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["case_seg.tsv"]
    assert len(convert("case_seg.nii.gz", "out", formats=["nifti", "segnrrd"], overwrite=True)) == 2


def other(**tags):
    """The same images with other tags."""
    return lambda dataset, index: [setattr(dataset, tag, value) for tag, value in tags.items()]


@pytest.mark.parametrize("kind", ["dicomseg", "rtstruct"])
def test_labels_of_one_patient_are_not_written_about_another(case, tmp_path, kind):
    (labels,) = convert("case_seg.nii.gz", "a", formats=[kind], source="series", made_by=BY_HAND)
    uids = {"StudyInstanceUID": "2.25.1", "FrameOfReferenceUID": "2.25.2", "PatientID": "another"}
    same = {tag: pydicom.dcmread(labels).get(tag) for tag in uids}
    if kind == "rtstruct":
        same["FrameOfReferenceUID"] = pydicom.dcmread(labels).StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    make_series(tmp_path / "same", axial_affine(), (14, 12, 6), change=other(**same))  # a series of its own
    convert(labels, "same_out", formats=["dicomseg"], source="same", made_by=BY_HAND)
    for tag, value in uids.items():
        make_series(tmp_path / tag, axial_affine(), (14, 12, 6), change=other(**{**same, tag: value}))
        for formats in (["dicomseg"], ["nifti"]):
            with pytest.raises(InputError, match=f"got another {tag}, or none, in .*case_") as caught:
                convert(labels, "out", formats=formats, source=tag, made_by=BY_HAND)
            assert caught.value.option == "allow_other_patient"
    assert not (tmp_path / "out").exists()
    convert(labels, "out", formats=["dicomseg"], source="PatientID", made_by=BY_HAND, allow_other_patient=True)
    assert pydicom.dcmread("out/case_seg.dcm").PatientID == "another"


def test_labels_that_do_not_say_of_whom_they_are(case):
    (labels,) = convert("case_seg.nii.gz", "a", formats=["dicomseg"], source="series", made_by=BY_HAND)
    dataset = pydicom.dcmread(labels)
    del dataset.FrameOfReferenceUID
    dataset.save_as(labels)
    with pytest.raises(InputError, match="another FrameOfReferenceUID, or none"):
        convert(labels, "out", formats=["nifti"], source="series")
    assert convert(labels, "out", formats=["nifti"])  # put upon no images


@pytest.mark.parametrize("kind", ["nifti", "segnrrd", "dicomseg", "rtstruct"])
def test_structures_are_chosen_by_name(case, tmp_path, kind):
    case.array[0, 10:, 9:, :] = 2
    write_nifti(case, tmp_path / "two.nii.gz")
    both = [KIDNEY, replace(KIDNEY, index=2, name="body")]
    labels, *_ = convert("two.nii.gz", "a", formats=[kind], source="series", made_by=BY_HAND, structures=both)
    options = {"formats": ["nifti"], "source": "series"}
    (path,) = convert(labels, "out", rois=["body"], **options)
    volume, structures = read_label_file(path)
    assert [(label.index, label.name) for label in structures] == [(2, "body")]
    assert np.unique(volume.array).tolist() == [0, 2]
    assert np.count_nonzero(volume.array) == np.count_nonzero(case.array == 2)
    with pytest.raises(InputError, match="got 'liver', which matches 0 of: 'kidney', 'body'") as caught:
        convert(labels, "none", rois=["liver"], **options)
    assert caught.value.option == "rois"


def test_a_segmentation_of_one_plane_states_its_thickness_or_is_given_it(case, tmp_path):
    case.array[0, :, :, :3] = case.array[0, :, :, 4:] = 0
    case.array[0, 2:5, 2:6, 3] = 1
    write_nifti(case, tmp_path / "case_seg.nii.gz")
    (labels,) = convert("case_seg.nii.gz", "a", formats=["dicomseg"], source="series", made_by=BY_HAND)
    dataset = pydicom.dcmread(labels)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for values in ((None, None), ("0", None), (None, "0")):
        for tag, value in zip(("SpacingBetweenSlices", "SliceThickness"), values, strict=True):
            measures.pop(tag, None)
            if value is not None:
                setattr(measures, tag, value)
        dataset.save_as(labels)
        with pytest.raises(MissingGeometryError, match="must state its thickness in mm, got none") as caught:
            convert(labels, "out", formats=["nifti"])
        assert caught.value.option == "thickness"
    (path,) = convert(labels, "out", formats=["nifti"], thickness=2.5)
    assert read_label_file(path)[0].spacing == pytest.approx((0.8, 1.1, 2.5))
    for thickness, file in ((0, labels), (-1, labels), (float("nan"), labels), (2.5, "case_seg.nii.gz")):
        with pytest.raises(InputError, match="thickness must be > 0 mm, and only for a single-plane DICOM SEG"):
            convert(file, "none", formats=["nifti"], thickness=thickness)


@pytest.mark.parametrize("colour", [[65535, 0, 65535], [30000, 20000], None])
def test_voxels_of_a_colour_that_is_none_are_kept(case, caplog, colour):
    (labels,) = convert("case_seg.nii.gz", "a", formats=["dicomseg"], source="series", made_by=BY_HAND)
    dataset = pydicom.dcmread(labels)
    dataset.SegmentSequence[0].RecommendedDisplayCIELabValue = colour
    dataset.save_as(labels)
    volume, structures = read_label_file(labels)
    assert (np.count_nonzero(volume.array), structures[0].colour) == (np.count_nonzero(case.array), None)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("unetpp_monai")]
    assert said == ["kidney: its colour is not in sRGB and was replaced"]


def test_codes_without_a_scheme_are_left_out(case, caplog):
    (labels,) = convert("case_seg.nii.gz", "a", formats=["dicomseg"], source="series", made_by=BY_HAND)
    dataset = pydicom.dcmread(labels)
    del dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator
    dataset.save_as(labels)
    (path,) = convert(labels, "out", formats=["dicomseg"], source="series", made_by=BY_HAND)
    assert any("kidney: its codes lack a value or a scheme" in record.getMessage() for record in caplog.records)
    assert pydicom.dcmread(path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert errors_of("dciodvfy", path) == []


@pytest.mark.parametrize(
    ("options", "message", "option"),
    [
        ({"formats": ["dicomseg"]}, "must refer to a DICOM series", None),
        ({"formats": ["dicomseg"], "source": "series"}, "DICOM states how labels were made", "made_by"),
        ({"formats": []}, "at least one format", None),
        ({"formats": ["nifti"], "source": "nowhere"}, "nowhere", None),
    ],
)
def test_conversions_that_cannot_be_leave_nothing(case, tmp_path, options, message, option):
    with pytest.raises(InputError, match=message) as caught:
        convert("case_seg.nii.gz", "out", **options)
    assert caught.value.option == option
    assert not (tmp_path / "out").exists()
