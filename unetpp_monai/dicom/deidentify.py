"""DICOM headers without the patient: pseudonyms for what our objects copy from their sources, nothing for the rest.

Not for pixels: faces and burned-in text stay in the images, of which nothing is written here.
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

KEY_BYTES = 16  # a shorter key could be found by trying all of them
STANDARD_UIDS = "1.2.840.10008."  # DICOM's own (SOP classes, well-known frames of reference): they name no patient
# Everything that survives, at any depth. Geometry, and what an instance and its frames are; no text, no date.
KEPT = frozenset(
    (
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
        *("SeriesNumber", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"),
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        *("SliceThickness", "SpacingBetweenSlices"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence"),
        *("PlanePositionSequence", "PlaneOrientationSequence"),
    )
)
# Type 2: an object made of this header must have them. The profile's answer Z (zero length) for all of them.
EMPTIED = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator"),
)
MARKS = (
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "LongitudinalTemporalInformationModified",
)
METHOD = "DICOM PS3.15 Basic Profile by whitelist, HMAC-SHA256 pseudonyms"  # at most 64 characters (VR LO)
PROFILE = ("113100", "Basic Application Confidentiality Profile")
RETAIN_UIDS = ("113110", "Retain UIDs Option")
DUMMY = {"ContentDate": "19000101", "ContentTime": "000000"}  # type 1 in every object we write: may not be empty


def read_key(path: Path) -> bytes:
    r"""Read the secret that pseudonyms are made with.

    Args:
        path: any file of at least 16 bytes; line ends at its end do not count, so that editing it changes nothing.

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
    """Copy source headers so that objects derived from them carry no identifier, after PS3.15's Basic Profile.

    Only `KEPT` attributes survive, so that an unknown or private one cannot leak. Dates are emptied (profile: Z), not
    shifted; sex, age and descriptions go. UIDs become `2.25.` and an integer, equal for equal UIDs. Name and ID become
    one pseudonym of issuer and patient ID; two sites that issue the same ID without naming themselves are one patient.
    A patient without ID has a pseudonym of the study: never merged with another, not followed from study to study.

    Args:
        sources: headers; left as they are.
        key: same key, same pseudonyms; without the key they cannot be linked or recomputed.
        retain_uids: keep all UIDs, for images that were de-identified elsewhere (PS3.15 Retain UIDs Option).

    Raises:
        InputError: a key of less than 16 bytes, no study UID, or geometry that is not written in numbers.
    """
    _check_key(key)
    return tuple(_pseudonymised(source, key, retain_uids) for source in sources)


def mark_pseudonymised(target: "Dataset", source: "Dataset") -> None:
    """Say on a derived object that its source carries no identity, and take the day of writing off it.

    Does nothing for a source that is not de-identified. Call it last, before the object is saved.

    Args:
        target: object made of `source`; changed in place.
        source: header that the object was made of.
    """
    if source.get("PatientIdentityRemoved") != "YES":
        return
    for keyword in MARKS:
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
    header.PatientName = f"Pseudonym^{header.PatientID}"  # two components, as highdicom wants a name to have
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
    """Copy what is in `KEPT`, by the dictionary's VR and not the file's, with its UIDs replaced."""
    from pydicom import config
    from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    copy = Dataset()
    for tag in list(source.keys()):  # not the elements: they would all be decoded
        keyword = keyword_for_tag(tag)
        if keyword not in KEPT:
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
            # not validated: scanners write numbers of more than 16 characters, and geometry is copied to the letter
            copy.add(DataElement(tag, kind, value, validation_mode=config.IGNORE))
        except (TypeError, ValueError, AttributeError):  # which quote the value, and that may name the patient
            raise InputError(f"{keyword} of a source must be what DICOM says; export the series again") from None
    return copy


def _numeric_uid(value: str) -> str:
    """The UID, if it is made of digits; scanners break DICOM's further rules."""
    if value.strip("0123456789."):
        raise ValueError("not a UID")
    return value


def _check_numbers(value: Any, count: int) -> None:
    """Raise `ValueError` or `TypeError` unless the value is so many numbers: bytes can spell a name."""
    numbers = list(value) if isinstance(value, MutableSequence) else [value]
    if any(isinstance(number, bytes) for number in numbers) or len(numbers) not in (0, count):
        raise ValueError("not numbers")
    for number in numbers:
        float(number)


def _modality(source: "Dataset") -> str:
    """Modality if it is one of DICOM's (CID 29); other text could be anything."""
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
    """HMAC-SHA256 of the parts, kept apart by a character that no DICOM text has."""
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).digest()


def _code(value: str, meaning: str) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _undated(dataset: "Dataset", element: "DataElement") -> None:
    """Empty a date or time, or set it to `DUMMY` where it must have a value."""
    if element.VR in {"DA", "DT", "TM"}:
        element.value = DUMMY.get(element.keyword, "")


def _check_key(key: bytes) -> None:
    if len(key) < KEY_BYTES:
        raise InputError(
            f"a key must have at least {KEY_BYTES} bytes, got {len(key)}; make one with: openssl rand -hex 32 > FILE"
        )
