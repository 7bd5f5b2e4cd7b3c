"""Copy valid header values from sources to the objects we write.

Values that DICOM does not allow are corrected if their meaning is clear, else omitted. Identifiers are kept without
unprintable characters: a shortened or corrected one may belong to another patient.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorruptFileError
from .reading import guarded

if TYPE_CHECKING:
    import pydicom

IDENTIFIERS = frozenset(
    (
        *("PatientName", "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
        *("SOPClassUID", "FrameOfReferenceUID"),
    )
)
# ends of keywords whose text must not be shortened: it would mean something else
NAMING = ("ID", "IDs", "Number", "CodeValue", "CodingSchemeDesignator")
WORDS: Mapping[str, tuple[str, ...]] = {  # allowed values of patient and study attributes
    "PatientSex": ("M", "F", "O"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
    "QualityControlSubject": ("YES", "NO"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "TypeOfPatientID": ("TEXT", "RFID", "BARCODE"),
    "UniversalEntityIDType": ("DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"),
}
PREGNANCY = range(1, 5)  # values of PregnancyStatus
MOST_INTEGER = 2**31 - 1  # of an IS
LONG_TEXT = {"ST": 1024, "LT": 10240}  # characters; with line breaks
SHORT_TEXT = {"LO": 64, "SH": 16}
PATIENT_AND_STUDY_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)


def clean_header(
    source: "pydicom.Dataset", *, tags: Collection[int] | None = None
) -> tuple["pydicom.Dataset", tuple[str, ...]]:
    """Copy the valid public attributes of a header and of its sequences.

    Args:
        source: not changed.
        tags: attributes to copy; None: all of patient, study, series and equipment.

    Returns:
        The copy, and the keywords of corrected or omitted attributes.
    """
    import pydicom
    from pydicom.datadict import dictionary_has_tag

    copied, changed = pydicom.Dataset(), []
    for tag in sorted(source.keys() if tags is None else (tag for tag in tags if tag in source)):
        if tag.is_private or not dictionary_has_tag(tag) or tag.group not in PATIENT_AND_STUDY_GROUPS:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes the invalid values
            element, same = _clean(source, tag)
        if element is not None:
            copied.add(element)
        if not same:
            changed.append(pydicom.datadict.keyword_for_tag(tag))
    return copied, tuple(changed)


def whole_number(source: "pydicom.Dataset", keyword: str) -> int | None:
    """Return an attribute as a whole number in DICOM's range; None if it is not one."""
    try:
        with guarded(Path(keyword)):
            return int(_integer(str(source.get(keyword))))
    except CorruptFileError:
        return None


def is_code(value: str, scheme: str) -> bool:
    """Tell whether the parts of a code can be written."""
    return bool(value and scheme) and len(scheme) <= SHORT_TEXT["SH"] and "\\" not in value + scheme


def _clean(source: "pydicom.Dataset", tag: "pydicom.tag.BaseTag") -> tuple["pydicom.DataElement | None", bool]:
    """Return an element with a valid value, or None; and whether it equals the source's."""
    from pydicom import config
    from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
    from pydicom.dataelem import DataElement

    kind, keyword = dictionary_VR(tag), keyword_for_tag(tag)
    if kind not in RULES and kind != "SQ":
        return None, True  # pixels and tables, not of patient or study
    try:
        with guarded(Path(keyword)):
            value = source[tag].value
            if kind == "SQ":
                items, same = _clean_items(value, keyword)
                return (DataElement(tag, kind, items) if items else None), same
            given = [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value)
            if type(value).__name__ == "PersonName":
                given = [value]
            if given in ([None], [""], []):
                return DataElement(tag, kind, None), True
            kept = _identifier if keyword in IDENTIFIERS else RULES[kind]
            values = [kept(_text(one), keyword) for one in given]
            if dictionary_VM(tag) == "1" and len(values) > 1 and keyword not in IDENTIFIERS:
                raise ValueError("several values")
            same = values == [_text(one) for one in given]
            mode = config.IGNORE if keyword in IDENTIFIERS else config.RAISE
            written: Any = [_as_written(one, kind) for one in values]
            return DataElement(tag, kind, written[0] if len(written) == 1 else written, validation_mode=mode), same
    except CorruptFileError:
        return None, False


def _clean_items(items: Iterable["pydicom.Dataset"], keyword: str) -> tuple[list["pydicom.Dataset"], bool]:
    """Return the items of a sequence; none if one cannot be corrected: the rest would mean something else."""
    cleaned = []
    same = True
    for item in items or ():
        copied, changed = clean_header(item)
        lost = [tag for tag in item.keys() if not tag.is_private and tag not in copied]  # noqa: SIM118
        is_reference = "ReferencedSOPInstanceUID" in item or "ReferencedSOPClassUID" in item
        if lost or (keyword.endswith("CodeSequence") and not _is_coded(copied)):
            return [], False
        if is_reference and not (copied.get("ReferencedSOPInstanceUID") and copied.get("ReferencedSOPClassUID")):
            return [], False
        cleaned.append(copied)
        same = same and not changed
    return cleaned, same


def _is_coded(item: "pydicom.Dataset") -> bool:
    value = item.get("CodeValue") or item.get("LongCodeValue")
    return is_code(str(value or ""), str(item.get("CodingSchemeDesignator") or "")) and bool(item.get("CodeMeaning"))


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _as_written(text: str, kind: str) -> Any:
    if kind in ("US", "SS", "UL", "SL"):
        return int(text)
    return float(text) if kind in ("FL", "FD") else text


def _identifier(text: str, keyword: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _line(kind: str) -> Callable[[str, str], str]:
    def rule(text: str, keyword: str) -> str:
        line = " ".join(_identifier(text.replace("\n", " ").replace("\r", " "), keyword).split(" ")).strip()
        if "\\" in line or (keyword.endswith(NAMING) and len(line) > SHORT_TEXT[kind]):
            raise ValueError("too long")
        return line.encode()[: SHORT_TEXT[kind]].decode(errors="ignore").rstrip()  # bytes, as some readers count

    return rule


def _lines(kind: str) -> Callable[[str, str], str]:
    def rule(text: str, keyword: str) -> str:
        shown = "".join(letter for letter in text if letter.isprintable() or letter in "\r\n\t\f")
        return shown.encode()[: LONG_TEXT[kind]].decode(errors="ignore").rstrip()

    return rule


def _word(text: str, keyword: str) -> str:
    word = text.strip().upper()
    if not re.fullmatch("[A-Z0-9_ ]{1,16}", word) or word not in WORDS.get(keyword, (word,)):
        raise ValueError("not such a word")
    return word


def _age(text: str, keyword: str) -> str:
    match = re.fullmatch(r"(\d{1,3}) ?([DWMY])", text.strip().upper())
    if match is None:  # a number alone may be of days
        raise ValueError("an age has a unit")
    return f"{int(match[1]):03}{match[2]}"


def _date(text: str, keyword: str) -> str:
    from pydicom.valuerep import DA

    digits = re.sub(r"[-./]", "", text.strip())
    if not re.fullmatch(r"\d{8}", digits) or not DA(digits):
        raise ValueError("not a date")
    return digits


def _time(text: str, keyword: str) -> str:
    from pydicom.valuerep import TM

    digits = text.strip().replace(":", "")
    if not re.fullmatch(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?", digits) or not TM(digits):
        raise ValueError("not a time")
    return digits


def _moment(text: str, keyword: str) -> str:
    from pydicom.valuerep import DT

    if not re.fullmatch(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?", text.strip()) or not DT(text.strip()):
        raise ValueError("not a date and time")
    return text.strip()


def _integer(text: str, keyword: str = "") -> str:
    if not re.fullmatch(r"[+-]?\d{1,11}", text.strip()) or abs(int(text)) > MOST_INTEGER:
        raise ValueError("not a whole number")
    return text.strip()


def _decimal(text: str, keyword: str) -> str:
    from pydicom.valuerep import format_number_as_ds

    number = float(text)
    return text.strip() if len(text.strip()) <= 16 and "_" not in text else format_number_as_ds(number)


def _binary(text: str, keyword: str) -> str:
    if abs(float(text)) == float("inf") or float(text) != float(text):
        raise ValueError("not a number")
    if keyword == "PregnancyStatus" and int(text) not in PREGNANCY:
        raise ValueError("not such a state")
    return text


def _name(text: str, keyword: str) -> str:
    name = _identifier(text, keyword)
    if any(len(group) > SHORT_TEXT["LO"] or group.count("^") > 4 for group in name.split("=")) or "\\" in name:
        raise ValueError("not a name")
    return name


def _uid(text: str, keyword: str) -> str:
    uid = text.strip("\0 ")
    if len(uid) > 64 or not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", uid):
        raise ValueError("not a UID")
    return uid


def _address(text: str, keyword: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text.strip():
        raise ValueError("not an address")
    return text.strip()


RULES: Mapping[str, Callable[[str, str], str]] = {
    **{kind: _line(kind) for kind in SHORT_TEXT},
    **{kind: _lines(kind) for kind in LONG_TEXT},
    **{kind: _binary for kind in ("US", "SS", "UL", "SL", "FL", "FD")},
    "CS": _word,
    "AS": _age,
    "DA": _date,
    "TM": _time,
    "DT": _moment,
    "IS": _integer,
    "DS": _decimal,
    "PN": _name,
    "UI": _uid,
    "UR": _address,
}
