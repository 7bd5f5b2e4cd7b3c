"""Conversion of label maps as a Python user calls it; that voxels keep their places is shown in test_outputs."""

import doctest

import numpy as np
import pytest
from helpers.dicom_phantoms import LPS_TO_RAS, axial_affine, label_phantom, make_series

from unetpp_monai import Algorithm, convert
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import InputError, OutputError
from unetpp_monai.io import write_nifti
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.io.label_table import write_label_table
from unetpp_monai.labels import Code, Label

KIDNEY = Label(
    1, "kidney", Code("91723000", "SCT", "Anatomical Structure"), Code("64033007", "SCT", "Kidney"), None, None
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


def test_the_example(case):
    (example,) = (one for one in doctest.DocTestFinder().find(convert, "convert", globs={}) if one.examples)
    assert doctest.DocTestRunner().run(example) == (0, 5)


def test_files_come_in_order_and_read_back_as_the_same_labels(case, tmp_path):
    written = convert("case_seg.nii.gz", "a/b", formats=["rtstruct", "dicomseg"], source="series", made_by=BY_HAND)
    assert [str(path) for path in written] == ["a/b/case_seg.dcm", "a/b/case_rtstruct.dcm"]
    for path in written:  # contours need the grid that they were drawn on, and a NIfTI no maker
        (back,) = convert(path, "back", formats=["nifti"], source="series", overwrite=True)
        labels, structures = read_label_file(back)
        assert np.bincount(labels.array.ravel()).tolist()[1:] == np.bincount(case.array.ravel()).tolist()[1:]
        assert [label.name for label in structures] == ["kidney"]
    assert np.array_equal(labels.array, case.array)  # of contours; a SEG holds the labelled slices only
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["case_seg.nii.gz", "case_seg.tsv"]


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
