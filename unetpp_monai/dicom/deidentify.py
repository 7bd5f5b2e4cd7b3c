"""De-identify DICOM headers: replace identifiers that our objects copy by pseudonyms, and remove everything else.

Pixels are out of scope: no image is written here, so faces and burned-in text stay in the sources.
"""

import hashlib
import hmac
import uuid
from collections.abc import Callable, MutableSequence, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

KEY_BYTES = 16  # shorter keys can be found by brute force
STANDARD_UIDS = "1.2.840.10008."  # DICOM's own UIDs (SOP classes, well-known frames of reference)
# Attributes that are kept, at any depth: geometry and the kind of instance and frame; no text, no dates.
WHITELIST = frozenset(
    (
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
        *("SeriesNumber", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"),
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        *("SliceThickness", "SpacingBetweenSlices"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence"),
        *("PlanePositionSequence", "PlaneOrientationSequence"),
    )
)
# Type 2: must be present in derived objects; emptied (action Z of the profile).
EMPTIED = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator"),
)
METHOD_ATTRIBUTES = (
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "LongitudinalTemporalInformationModified",
)
METHOD = "DICOM PS3.15 Basic Profile by whitelist, HMAC-SHA256 pseudonyms"  # at most 64 characters (VR LO)
PROFILE = ("113100", "Basic Application Confidentiality Profile")
RETAIN_UIDS = ("113110", "Retain UIDs Option")
DUMMY = {"ContentDate": "19000101", "ContentTime": "000000"}  # type 1: may not be empty


def read_key(path: Path) -> bytes:
    r"""Read the secret key of the pseudonyms.

    Args:
        path: any file of at least 16 bytes; line ends at its end are ignored.

    Raises:
        InputError: missing, unreadable or too short.
    """
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise InputError(f"the key file must be readable, got {error.strerror or error} for {path}") from error
    _check_key(key)
    return key


def pseudonymised(sources: Sequence["Dataset"], key: bytes, *, retain_uids: bool = False) -> tuple["Dataset", ...]:
    """Copy source headers without identifiers, after PS3.15's Basic Profile.

    Only `WHITELIST` attributes are copied, so unknown and private ones cannot leak. Dates are emptied (action Z), not
    shifted; sex, age and descriptions are removed. Equal UIDs get the same new UID (`2.25.` and an integer). Name and
    ID become one pseudonym made from issuer and patient ID; equal IDs of two sites without issuer become one patient.
    Without patient ID the pseudonym is made from the study, so patients are not merged, nor linked between studies.

    Args:
        sources: headers; not changed.
        key: the same key gives the same pseudonyms; nobody can link or recompute them without it.
        retain_uids: keep all UIDs, for images already de-identified (PS3.15 Retain UIDs Option).

    Raises:
        InputError: a key of less than 16 bytes, no study UID, or non-numeric geometry.
    """
    _check_key(key)
    return tuple(_pseudonymised(source, key, retain_uids) for source in sources)


def mark_pseudonymised(target: "Dataset", source: "Dataset") -> None:
    """Mark a derived object as de-identified, and remove its date of writing.

    Does nothing if the source is not de-identified. Call it last, before saving.

    Args:
        target: object made of `source`; changed in place.
        source: header of its source.
    """
    if source.get("PatientIdentityRemoved") != "YES":
        return
    for keyword in METHOD_ATTRIBUTES:
        if keyword in source:
            setattr(target, keyword, source[keyword].value)
    if source.get("LongitudinalTemporalInformationModified") == "REMOVED":
        target.walk(_undated)


def _pseudonymised(source: "Dataset", key: bytes, retain_uids: bool) -> "Dataset":
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    if not source.get("StudyInstanceUID"):
        raise InputError("every source must have a StudyInstanceUID to be pseudonymised; export the series again")

    def uid(value: str) -> str:
        if retain_uids or value.startswith(STANDARD_UIDS):
            return value
        digest = _digest(key, "uid", value)
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"

    header = _kept(source, uid)
    header.PatientID = _pseudonym(source, key)
    header.PatientName = f"Pseudonym^{header.PatientID}"  # two components, as highdicom requires
    for keyword in EMPTIED:
        setattr(header, keyword, "")
    header.Modality = _modality(source)
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", METHOD
    header.DeidentificationMethodCodeSequence = [
        _code(*code) for code in ((PROFILE, RETAIN_UIDS) if retain_uids else (PROFILE,))
    ]
    header.LongitudinalTemporalInformationModified = "REMOVED"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = UID(header.get("SOPClassUID", ""))
    header.file_meta.MediaStorageSOPInstanceUID = UID(header.get("SOPInstanceUID", ""))
    return header


def _kept(source: "Dataset", uid: Callable[[str], str]) -> "Dataset":
    """Copy the attributes in `WHITELIST`, with the dictionary's VR and replaced UIDs."""
    from pydicom import config
    from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    copy = Dataset()
    for tag in list(source.keys()):  # iterating over elements would decode them all
        keyword = keyword_for_tag(tag)
        if keyword not in WHITELIST:
            continue
        kind = dictionary_VR(tag)
        try:
            value = source[tag].value
            if kind == "SQ":
                value = [_kept(item, uid) for item in value]
            elif kind == "UI" and value:
                value = _numeric_uid(str(value) if keyword == "SOPClassUID" else uid(str(value).strip()))
            elif value not in (None, ""):
                _check_numbers(value, int(dictionary_VM(tag)))
            # not validated: scanners write numbers longer than 16 characters, and geometry is copied exactly
            copy.add(DataElement(tag, kind, value, validation_mode=config.IGNORE))
        except (TypeError, ValueError, AttributeError):  # the message quotes the value, which may name the patient
            raise InputError(f"{keyword} of a source must be valid in DICOM; export the series again") from None
    return copy


def _numeric_uid(value: str) -> str:
    """Return the UID if it is numeric; scanners break DICOM's other rules."""
    if value.strip("0123456789."):
        raise ValueError("not a UID")
    return value


def _check_numbers(value: Any, count: int) -> None:
    """Raise `ValueError` or `TypeError` unless the value has `count` numbers: bytes could spell a name."""
    numbers = list(value) if isinstance(value, MutableSequence) else [value]
    if any(isinstance(number, bytes) for number in numbers) or len(numbers) not in (0, count):
        raise ValueError("not numbers")
    for number in numbers:
        float(number)


def _modality(source: "Dataset") -> str:
    """Return the modality if it is one of DICOM's (CID 29); any other text could identify."""
    from pydicom.sr.codedict import codes

    modality = str(source.get("Modality", ""))
    return modality if modality in {code.value for code in codes.cid29.concepts.values()} else "OT"


def _pseudonym(source: "Dataset", key: bytes) -> str:
    patient = str(source.get("PatientID") or "").strip()
    if not patient:
        return _digest(key, "study", str(source.StudyInstanceUID)).hex()[:32]
    issuer = str(source.get("IssuerOfPatientID") or "").strip()
    return _digest(key, "patient", issuer, patient).hex()[:32]


def _digest(key: bytes, *parts: str) -> bytes:
    """Return the HMAC-SHA256 of the parts, joined by a character that DICOM text cannot contain."""
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).digest()


def _code(value: str, meaning: str) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _undated(dataset: "Dataset", element: "DataElement") -> None:
    """Empty a date or time, or set it to `DUMMY` if it must have a value."""
    if element.VR in {"DA", "DT", "TM"}:
        element.value = DUMMY.get(element.keyword, "")


def _check_key(key: bytes) -> None:
    if len(key) < KEY_BYTES:
        raise InputError(
            f"a key must have at least {KEY_BYTES} bytes, got {len(key)}; make one with: openssl rand -hex 32 > FILE"
        )
