"""Pseudonymised headers and what is made of them: nothing of the patient in any byte, everything of the geometry."""

import re
from copy import deepcopy
from io import BytesIO

import numpy as np
import pydicom
import pytest
from helpers.dicom_checks import check_report, errors_of, volumes_of
from helpers.dicom_phantoms import label_phantom, make_enhanced, make_series, oblique_affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from unetpp_monai.dicom.deidentify import WHITELIST, mark_pseudonymised, pseudonymised, read_key
from unetpp_monai.dicom.rtstruct import write_dicom_rtstruct
from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.dicom.sr import write_dicom_sr
from unetpp_monai.errors import InputError
from unetpp_monai.labels import Label
from unetpp_monai.provenance import Algorithm

KEY, OTHER_KEY = b"0123456789abcdef", b"0123456789abcdeF"
SHAPE = (12, 10, 4)
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
STRUCTURES = (Label(1, "structure", None, None, (), None), Label(2, "other", None, None, (), None))
# every public string attribute that DICOM knows, and the longest text that it takes (at most 64 characters here)
LENGTHS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 64, "LT": 64, "UC": 64, "UT": 64, "UR": 64}
TEXTS = {
    keyword: LENGTHS[vr]
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
    if vr in LENGTHS and keyword and tag >> 16 > 7 and keyword not in ("Modality", "SpecificCharacterSet")
}
DATES = [entry[4] for tag, entry in DicomDictionary.items() if entry[0] in ("DA", "DT") and entry[4] and tag >> 16 > 7]
AGES = [entry[4] for entry in DicomDictionary.values() if entry[0] == "AS" and entry[4]]
OTHER_UIDS = [
    entry[4]
    for tag, entry in DicomDictionary.items()
    if entry[0] == "UI" and entry[4] not in WHITELIST and tag >> 16 > 7
]
SECRET_DATE, SECRET_AGE = "19531107", "071Y"


def bytes_of(dataset):
    """The dataset as a file has it."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def base_header(**tags):
    """Geometry and identity of one MR image."""
    header = Dataset()
    header.SOPClassUID, header.Modality = pydicom.uid.MRImageStorage, "MR"
    for keyword in UIDS:
        setattr(header, keyword, generate_uid())
    header.ImagePositionPatient, header.ImageOrientationPatient = [1.5, -2.25, 3], [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness, header.Rows, header.Columns = [0.7, 0.7], 2.5, 10, 12
    header.PatientID, header.PatientName = "MRN-4711-0815", "Mustermann^Erika"
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    return header


def add_secrets(header, text):
    """Put a text, a date, an age and UIDs wherever DICOM lets one; return the strings that must not come out."""
    for keyword, length in TEXTS.items():
        setattr(header, keyword, text[:length])
    for keyword in DATES:
        setattr(header, keyword, SECRET_DATE)
    for keyword in AGES:
        setattr(header, keyword, SECRET_AGE)
    uids = {keyword: generate_uid() for keyword in OTHER_UIDS}
    for keyword, uid in uids.items():
        setattr(header, keyword, uid)
    secrets = [text, text[:16], SECRET_DATE, SECRET_AGE, *uids.values()]
    return [*secrets, *(str(header[keyword].value) for keyword in UIDS)]


def nest(header, text):
    """Secrets in sequences of sequences and in private elements, whose VR says anything."""
    inner = Dataset()
    inner.PatientName, inner.StudyDate, inner.InstitutionName = text, SECRET_DATE, text
    block = inner.private_block(0x0019, text, create=True)
    block.add_new(0x01, "UT", text)
    block.add_new(0x02, "UN", text.encode())
    block.add_new(0x03, "OB", text.encode() + b"\0" * (len(text.encode()) % 2))
    outer = deepcopy(inner)
    outer.ReferencedPatientSequence = [deepcopy(inner)]
    for keyword in ("RequestAttributesSequence", "OtherPatientIDsSequence"):
        setattr(header, keyword, [deepcopy(outer)])
    header.private_block(0x0011, text, create=True).add_new(0x01, "SQ", [deepcopy(outer)])
    return header, outer


def nest_in_frames(header, text):
    """The same, also where the geometry of multi-frame objects is."""
    header, outer = nest(header, text)
    measures = deepcopy(outer)
    measures.PixelSpacing = [0.7, 0.7]
    outer.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [outer]
    return header


def leaks(data, secrets):
    """Which secrets are in the bytes, in any encoding that DICOM has for them."""
    encodings = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")
    return [secret for secret in secrets if any(secret.encode(encoding, "replace") in data for encoding in encodings)]


texts = st.from_regex(r"[A-Z]{4}[A-Z0-9_]{8,36}", fullmatch=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts, key=st.binary(min_size=16, max_size=40))
def test_nothing_of_a_source_full_of_secrets_is_in_the_header(text, key):
    header = base_header()
    secrets = add_secrets(header, text)
    nest_in_frames(header, text)
    header.Modality = text[:16]
    data = bytes_of(pseudonymised([header], key)[0])
    assert leaks(data, secrets) == []
    # the check would see them
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    assert set(leaks(bytes_of(header), secrets)) == set(secrets)


def test_only_known_attributes_survive():
    header = nest_in_frames(base_header(PatientComments="ask Dr. Who"), "PHI PHI PHI PHI")
    (copy,) = pseudonymised([header], KEY)
    assert not any(element.tag.is_private for element in copy.iterall())
    assert {element.keyword for element in copy} - WHITELIST == {
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
        *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator", "Modality"),
        *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
        "LongitudinalTemporalInformationModified",
    }
    (item,) = copy.SharedFunctionalGroupsSequence
    assert [element.keyword for element in item] == ["PixelMeasuresSequence"]
    assert [element.keyword for element in item.PixelMeasuresSequence[0]] == ["PixelSpacing"]


def secretive(dataset, index):
    dataset.PatientName, dataset.PatientID, dataset.IssuerOfPatientID = "Mustermann^Zoë", "MRN-4711-0815", "Klinikum"
    dataset.PatientBirthDate = dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = SECRET_DATE
    dataset.StudyTime = dataset.AcquisitionTime = "112233.445566"
    dataset.PatientAge, dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = (
        SECRET_AGE,
        "F",
        "STUDY77",
        "ACC99",
    )
    dataset.InstitutionName, dataset.StationName, dataset.DeviceSerialNumber = (
        "Klinikum am Wald",
        "STATION5",
        "SN-123456",
    )
    dataset.ReferringPhysicianName, dataset.OperatorsName = "Doktor^Faust", "Technik^Rita"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Scanwerke", "Modell Q"
    dataset.StudyDescription, dataset.SeriesDescription = "Verdacht Mustermann", "Aufnahmeserie Mustermann"
    dataset.PatientComments, dataset.EthnicGroup, dataset.Occupation = "Nachbar von Faust", "GRUPPE", "Baecker"
    dataset.ClinicalTrialSubjectID, dataset.ReasonForStudy = "SUBJ-31", "Kopfweh"
    nest(dataset, "Mustermann privat")


SECRETS = [
    *("Mustermann", "Zoë", "MRN-4711", "Klinikum", SECRET_DATE, SECRET_AGE, "112233", "STUDY77", "ACC99", "STATION5"),
    *(
        "SN-123456",
        "Doktor",
        "Faust",
        "Rita",
        "Scanwerke",
        "Modell Q",
        "Verdacht",
        "Aufnahmeserie",
        "Nachbar",
        "GRUPPE",
    ),
    *("Baecker", "SUBJ-31", "Kopfweh"),
]


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("retain_uids", [False, True])
def test_nothing_of_the_patient_is_in_objects_made_of_the_header(tmp_path, encoding, retain_uids):
    sources = make_series(tmp_path / "series", oblique_affine(), SHAPE, change=secretive)
    uids = {str(source[keyword].value) for source in sources for keyword in UIDS}
    hidden = pseudonymised(sources, KEY, retain_uids=retain_uids)
    volume = label_phantom(SHAPE, oblique_affine(), count=2)
    common = {"structures": STRUCTURES, "sources": hidden, "algorithm": Algorithm("model", "1")}
    ml = {one.name: float(np.count_nonzero(volume.array == one.index) * volume.voxel_ml) for one in STRUCTURES}
    seg, report = tmp_path / "seg.dcm", tmp_path / "sr.dcm"
    _, parsed = write_dicom_seg(volume, seg, encoding=encoding, **common)
    written = write_dicom_sr(report, seg=parsed, ml=ml, **common)
    assert volumes_of(check_report(report)) == written
    contours = tmp_path / "rtstruct.dcm"
    write_dicom_rtstruct(volume, contours, **common)
    for path in (seg, report, contours):
        assert errors_of("dciodvfy", path) == []
        data, made = path.read_bytes(), pydicom.dcmread(path)
        assert leaks(data, SECRETS) == []
        assert bool(leaks(data, uids)) is retain_uids
        assert (made.PatientIdentityRemoved, made.PatientID) == ("YES", hidden[0].PatientID)
        codes = [item.CodeValue for item in made.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113110"] if retain_uids else codes == ["113100"]
        dates = {str(element.value) for element in made.iterall() if element.VR in ("DA", "DT", "TM")}
        assert dates <= {"", "None", "19000101", "000000"}, path
        assert made.LongitudinalTemporalInformationModified == "REMOVED"
    assert leaks(b"".join(path.read_bytes() for path in (tmp_path / "series").iterdir()), SECRETS) == SECRETS


@pytest.mark.parametrize("name", ["Study1_13_HCropVolume", "Study3_26401-T1prereg-52906"])
def test_real_series(shared_data, name):
    sources = read_dicom_series(shared_data / "dicom" / name).sources
    secrets = [str(sources[0][keyword].value) for keyword in ("PatientID", "AccessionNumber", "StudyDate", *UIDS)]
    for source, copy in zip(sources, pseudonymised(sources, KEY), strict=True):
        assert leaks(bytes_of(copy), [*secrets, source.SOPInstanceUID, "Dumbledore", "Avasarala"]) == []
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert list(map(str, copy[keyword].value)) == list(map(str, source[keyword].value))
        assert copy.Modality == "MR"


@pytest.mark.parametrize("value", ["1.2345678901234567", "-97.15142989021", "1e-7", " 3.50 "])
def test_geometry_is_copied_to_the_letter(value):
    header = base_header()
    header.add(pydicom.DataElement("SliceThickness", "DS", value, validation_mode=pydicom.config.IGNORE))
    before = deepcopy(header)
    (copy,) = pseudonymised([header], KEY)
    assert copy.SliceThickness.original_string == value.strip()
    for keyword in GEOMETRY:
        assert copy[keyword].value == header[keyword].value
    assert header == before


def test_frames_of_an_enhanced_object_stay_where_they_are(tmp_path):
    source = make_enhanced(tmp_path / "enhanced.dcm", oblique_affine(), SHAPE, shared=False)
    (copy,) = pseudonymised([source], KEY)
    assert copy.NumberOfFrames == SHAPE[2]
    for one, other in zip(source.PerFrameFunctionalGroupsSequence, copy.PerFrameFunctionalGroupsSequence, strict=True):
        for sequence in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            assert one[sequence].value == other[sequence].value


def test_a_patient_is_one_pseudonym_in_all_series_and_studies():
    frame = generate_uid()
    headers = [
        *(
            base_header(StudyInstanceUID="1.2.3", SeriesInstanceUID=f"1.2.3.{n}", FrameOfReferenceUID=frame)
            for n in (1, 2)
        ),
        base_header(StudyInstanceUID="1.2.4", PatientID="MRN-4711-0815 ", PatientName="Mustermann^E."),
    ]
    one, two, later = pseudonymised(headers, KEY)
    assert one.PatientID == two.PatientID == later.PatientID == str(later.PatientName).split("^")[1]
    assert one.StudyInstanceUID == two.StudyInstanceUID != later.StudyInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID != later.FrameOfReferenceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert pseudonymised(headers[:1], KEY)[0] == one


def test_patients_and_keys_are_told_apart():
    headers = [
        base_header(),
        base_header(PatientID="MRN-4711-0816"),
        base_header(IssuerOfPatientID="Klinikum"),
        base_header(PatientID="", IssuerOfPatientID="MRN-4711-0815"),
    ]
    copies = [copy for key in (KEY, OTHER_KEY) for copy in pseudonymised(headers, key)]
    assert len({copy.PatientID for copy in copies}) == 8
    for keyword in UIDS:
        assert len({copy[keyword].value for copy in copies}) == 8


@pytest.mark.parametrize("missing", ["", "  ", None])
def test_patients_without_id_are_neither_merged_nor_followed(missing):
    headers = [base_header(PatientID=missing, StudyInstanceUID=uid) for uid in ("1.2.3", "1.2.3", "1.2.4")]
    headers += [base_header(StudyInstanceUID="1.2.5")]
    del headers[-1].PatientID
    one, same, other, none = (copy.PatientID for copy in pseudonymised(headers, KEY))
    assert one == same and len({one, other, none}) == 3


@given(
    uid=st.from_regex(r"[12]\.(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,6})){1,5}", fullmatch=True),
    key=st.binary(min_size=16),
)
def test_uids_are_well_formed_and_depend_on_uid_and_key_alone(uid, key):
    (copy,) = pseudonymised([base_header(StudyInstanceUID=uid)], key)
    made = copy.StudyInstanceUID
    assert made.is_valid and len(made) <= 64 and re.fullmatch(r"2\.25\.[1-9][0-9]*", made)
    assert pseudonymised([base_header(FrameOfReferenceUID=uid)], key)[0].FrameOfReferenceUID == made
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


def test_uids_of_dicom_itself_are_kept():
    talairach = "1.2.840.10008.1.4.1.1"
    (copy,) = pseudonymised([base_header(FrameOfReferenceUID=talairach)], KEY)
    assert (copy.FrameOfReferenceUID, copy.SOPClassUID) == (talairach, pydicom.uid.MRImageStorage)


def test_uids_can_be_retained():
    header = base_header()
    (copy,) = pseudonymised([header], KEY, retain_uids=True)
    assert [copy[keyword].value for keyword in UIDS] == [header[keyword].value for keyword in UIDS]
    assert copy.PatientID != header.PatientID
    assert [item.CodeValue for item in copy.DeidentificationMethodCodeSequence] == ["113100", "113110"]


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SliceThickness", "LO", "Mustermann"),
        ("Rows", "LO", "Mustermann"),
        ("PixelSpacing", "PN", "Mustermann"),
        ("SOPClassUID", "LO", "Mustermann"),
        ("Columns", "UN", b"Mustermann"),
        ("Columns", "US", [0x754D, 0x7473]),  # its bytes read "Must"
        ("PixelSpacing", "DS", ["1", "2", "3"]),
        ("SharedFunctionalGroupsSequence", "LO", "Mustermann"),
    ],
)
def test_text_where_numbers_and_uids_belong_is_refused_and_not_quoted(keyword, vr, value):
    header = base_header()
    header[keyword] = pydicom.DataElement(keyword, vr, value)
    with pytest.raises(InputError, match=f"^{keyword} of a source must be valid in DICOM") as caught:
        pseudonymised([header], KEY)
    assert caught.value.__suppress_context__  # the cause quotes the value


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_text_in_the_place_of_a_number_is_refused_when_it_is_decoded():
    header = base_header()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    header["SliceThickness"] = pydicom.DataElement("SliceThickness", "LO", "Mustermann")
    header = pydicom.dcmread(BytesIO(bytes_of(header)))
    with pytest.raises(InputError, match=r"^SliceThickness of a source must be valid in DICOM"):
        pseudonymised([header], KEY)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_that_are_none_are_replaced_and_never_retained():
    header = base_header(StudyInstanceUID="Mustermann", SeriesInstanceUID="1.02.03")
    (copy,) = pseudonymised([header], KEY)
    assert copy.StudyInstanceUID.is_valid and copy.SeriesInstanceUID.is_valid
    with pytest.raises(InputError, match=r"^StudyInstanceUID of a source must be valid in DICOM"):
        pseudonymised([header], KEY, retain_uids=True)


def test_a_source_without_study_is_refused():
    with pytest.raises(InputError, match="must have a StudyInstanceUID"):
        pseudonymised([base_header(StudyInstanceUID="")], KEY)


def test_objects_of_identified_sources_are_left_alone():
    target = Dataset()
    target.ContentDate, target.PatientName = "20240102", "Mustermann^Erika"
    before = deepcopy(target)
    mark_pseudonymised(target, base_header())
    assert target == before


def test_objects_of_sources_deidentified_elsewhere_keep_their_dates():
    source = base_header(PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    target = Dataset()
    target.ContentDate = "20240102"
    mark_pseudonymised(target, source)
    assert (target.PatientIdentityRemoved, target.DeidentificationMethod) == ("YES", "by hand")
    assert target.ContentDate == "20240102"


def test_a_key_file(tmp_path):
    path = tmp_path / "key"
    for content in (KEY, KEY + b"\n", KEY + b"\r\n"):
        path.write_bytes(content)
        assert read_key(path) == KEY
    path.write_bytes(KEY[:15] + b"\n")
    with pytest.raises(InputError, match="at least 16 bytes, got 15; make one with: openssl rand -hex 32"):
        read_key(path)
    with pytest.raises(InputError, match="must be readable"):
        read_key(tmp_path / "nothing")
    with pytest.raises(InputError, match="at least 16 bytes"):
        pseudonymised([base_header()], b"short")
