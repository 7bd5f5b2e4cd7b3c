"""What source headers pass on: valid values only, identifiers as they are; so that whatever we write is valid."""

import re

import numpy as np
import pydicom
import pytest
from helpers.dicom_checks import errors_of
from helpers.dicom_phantoms import axial_affine, make_series
from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from unetpp_monai import Algorithm, convert
from unetpp_monai.dicom.common import series_number
from unetpp_monai.dicom.header_rules import clean_header
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.io import write_nifti
from unetpp_monai.labels import Code, Label
from unetpp_monai.volume import Volume

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(Invalid value|value length|exceeds the maximum|A value|is not valid for elements)"
)
KIDNEY = Label(
    1, "kidney", Code("91723000", "SCT", "Anatomical Structure"), Code("64033007", "SCT", "Kidney"), (), None
)
LEFT_OUT = object()


def with_values(dataset, **values):
    """Set values that pydicom would refuse."""
    for keyword, value in values.items():
        kind = pydicom.datadict.dictionary_VR(keyword)
        if isinstance(value, bytes):
            tag = Tag(keyword)
            value += b" " * (len(value) % 2)
            dataset._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
        else:
            dataset.add(DataElement(Tag(keyword), kind, value, validation_mode=config.IGNORE))
    return dataset


def coded(**values):
    return with_values(
        pydicom.Dataset(), **{"CodeValue": "1", "CodingSchemeDesignator": "L", "CodeMeaning": "x"} | values
    )


@pytest.mark.parametrize(
    ("keyword", "value", "wanted"),
    [
        ("PatientAge", "45", LEFT_OUT),
        ("PatientAge", "045Y", "045Y"),
        ("PatientAge", "45Y", "045Y"),
        ("PatientAge", "9 m", "009M"),
        ("PatientAge", "1045Y", LEFT_OUT),
        ("PatientSex", "m", "M"),
        ("PatientSex", "male", LEFT_OUT),
        ("PatientBirthDate", "1960.01.31", "19600131"),
        ("PatientBirthDate", "1960-01-31", "19600131"),
        ("PatientBirthDate", "19600231", LEFT_OUT),
        ("PatientBirthDate", "1960", LEFT_OUT),
        ("PatientBirthDate", "unknown", LEFT_OUT),
        ("StudyTime", "10:15:00", "101500"),
        ("StudyTime", "2515", LEFT_OUT),
        ("StudyTime", "noon", LEFT_OUT),
        ("PatientWeight", b"70,5", LEFT_OUT),
        ("PatientWeight", b"nan", LEFT_OUT),
        ("PatientWeight", b"70.50000000000000001", "70.5"),
        ("PatientSize", "1.75", "1.75"),
        ("PatientID", "A" * 70, "A" * 70),
        ("PatientID", "12\0\n34", "1234"),
        ("PatientID", "p/1 ä", "p/1 ä"),
        ("PatientID", ["a", "b"], ["a", "b"]),
        ("PatientName", "X" * 80, "X" * 80),
        ("ReferringPhysicianName", "X" * 80, LEFT_OUT),
        ("AccessionNumber", "1" * 20, LEFT_OUT),
        ("AccessionNumber", "1" * 16, "1" * 16),
        ("StudyDescription", "word " * 20, ("word " * 12 + "word")),
        ("StudyDescription", "two\nlines\x07", "two lines"),
        ("StudyID", ["1", "2"], LEFT_OUT),
        ("StudyDescription", ["a", "b"], LEFT_OUT),
        ("PregnancyStatus", 9, LEFT_OUT),
        ("PregnancyStatus", 4, 4),
        ("SmokingStatus", "SOMETIMES", LEFT_OUT),
        ("SeriesNumber", b"three", LEFT_OUT),
        ("SeriesNumber", b"20240102101500", LEFT_OUT),
        ("SeriesNumber", b"3000000000", LEFT_OUT),
        ("ProcedureCodeSequence", [coded(CodingSchemeDesignator=None)], LEFT_OUT),
        ("ProcedureCodeSequence", [coded(CodeValue="")], LEFT_OUT),
        ("ProcedureCodeSequence", [coded(CodingSchemeDesignator="X" * 17)], LEFT_OUT),
        ("ProcedureCodeSequence", [coded(CodeValue="1" * 17)], LEFT_OUT),
        ("ProcedureCodeSequence", [coded(CodeMeaning=None)], LEFT_OUT),
        ("ReferencedStudySequence", [pydicom.Dataset()], [pydicom.Dataset()]),
        ("ReferencedStudySequence", [with_values(pydicom.Dataset(), ReferencedSOPClassUID="1.2.3")], LEFT_OUT),
        ("ReferencedStudySequence", [], LEFT_OUT),
        ("StudyInstanceUID", "1.02.3", "1.02.3"),
        ("InstanceCreatorUID", "1.02.3", LEFT_OUT),
    ],
)
def test_values_are_kept_mended_or_left_out(keyword, value, wanted):
    source = with_values(pydicom.Dataset(), **{keyword: value})
    copied, changed = clean_header(source)
    if wanted is LEFT_OUT:
        assert keyword not in copied
    elif isinstance(wanted, list):
        assert list(copied[keyword].value) == wanted
    else:
        assert type(wanted)(copied[keyword].value) == wanted
    same = wanted == value if not isinstance(value, bytes) else False
    assert changed == (() if same or value == [] else (keyword,))


def test_a_valid_code_is_kept_whole():
    source = with_values(pydicom.Dataset(), ProcedureCodeSequence=[coded()], PatientAge=None, PatientWeight="")
    copied, changed = clean_header(source)
    assert copied.ProcedureCodeSequence[0].CodeMeaning == "x"
    assert (changed, copied.PatientAge, "PixelData" in copied) == ((), None, False)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"4", 1004), (b"three", 1000), (b"3\\4", 1000), (b"2147483647", 1000), (b"2147482647", 2147483647),
        (b"20240102101500", 1000), (b"-7", 1000), (b"", 1000), (b"1.5", 1000), (b"4.0", 1000),
    ],
)  # fmt: skip
def test_series_numbers_are_numbers(value, number):
    assert series_number([with_values(pydicom.Dataset(), SeriesNumber=value)], offset=1000) == number


WRONG = {
    "texts": {
        **{"PatientAge": "45", "PatientSex": "male", "PatientBirthDate": "unknown", "StudyTime": "noon"},
        **{"AccessionNumber": "1" * 20, "StudyID": "2" * 30, "StudyDescription": "long " * 40},
        **{"ReferringPhysicianName": "Long^" + "N" * 80, "PatientComments": "c" * 20_000, "Occupation": "x" * 40},
        **{"AdditionalPatientHistory": "two\0parts", "SmokingStatus": "MAYBE", "EthnicGroup": "y" * 30},
        "MedicalAlerts": ["a" * 65, "b"],
    },
    "numbers": {
        **{"SeriesNumber": b"three", "PatientWeight": b"70,5", "PatientSize": b"1.8\\1.9", "PregnancyStatus": 9},
        **{"AcquisitionNumber": b"20240102101500", "InstanceNumber": b"1.5"},
    },
    "codes": {
        "ProcedureCodeSequence": [coded(CodingSchemeDesignator=None)],
        "AdmittingDiagnosesCodeSequence": [coded(CodeMeaning="m" * 80)],
        "ReferencedStudySequence": [with_values(pydicom.Dataset(), ReferencedSOPClassUID="1.2.3")],
        "OtherPatientIDsSequence": [with_values(pydicom.Dataset(), PatientID="other", TypeOfPatientID="PAPER")],
    },
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_written_is_valid_whatever_the_source_says(tmp_path, caplog, kind):
    def change(dataset, index):
        dataset.PatientID, dataset.PatientName = "Kept-4711", "Kept^Name"
        with_values(dataset, **WRONG[kind])

    make_series(tmp_path / "series", axial_affine(), (14, 12, 6), change=change)
    image = read_dicom_series(tmp_path / "series")
    labels = Volume(np.zeros((1, *image.volume.shape), np.uint8), image.volume.affine)
    labels.array[0, 3:8, 4:9, 1:4] = 1
    write_nifti(labels, tmp_path / "a_seg.nii.gz")
    written = convert(
        tmp_path / "a_seg.nii.gz", tmp_path / "out", formats=["dicomseg", "rtstruct", "sr"], structures=[KIDNEY],
        source=tmp_path / "series", made_by=Algorithm("", "", kind="MANUAL"),
    )  # fmt: skip
    for path in written:
        dataset = pydicom.dcmread(path)
        assert (dataset.PatientID, str(dataset.PatientName)) == ("Kept-4711", "Kept^Name")
        assert errors_of("dciodvfy", path) == []
    remarks = " ".join(record.getMessage() for record in caplog.records)
    assert re.search("values that DICOM does not allow, corrected or omitted", remarks)
    for keyword in set(WRONG[kind]) - {"AcquisitionNumber", "InstanceNumber"}:
        assert keyword in remarks
