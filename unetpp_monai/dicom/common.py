"""Shared parts of the DICOM objects we write: patient, study, geometry, equipment, numbers and UIDs."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..errors import InputError, OutputError
from ..labels import Code, Label
from ..provenance import Algorithm
from .header_rules import MOST_INTEGER, clean_header, is_code, whole_number
from .planes import REQUIRED, Planes, source_planes

if TYPE_CHECKING:
    import pydicom

MANUFACTURER = "UNet++ for MONAI"
EQUIPMENT = {
    "manufacturer": MANUFACTURER,
    "manufacturer_model_name": "unetpp_monai",
    "software_versions": __version__,
    "device_serial_number": "1",  # required in enhanced objects; software has none
}
CHARACTER_SET = "ISO_IR 192"  # UTF-8, as names of structures may be in any language
LO_LENGTH = 64  # of names and descriptions in DICOM
PATIENT_AND_STUDY = (  # must be present, may be empty; often removed by anonymisers
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
MULTI_FRAME = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # of multi-frame objects
IMAGE = ("Modality", "Rows", "Columns", "NumberOfFrames")  # copied from sources, besides `REQUIRED`


def import_highdicom() -> ModuleType:
    """Import highdicom.

    Raises:
        OutputError: it is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise OutputError("DICOM results need highdicom; pip install 'unetpp_monai[dicom]'") from error
    module: ModuleType = highdicom
    return module


def new_uid() -> str:
    """Make a unique UID (from a UUID, root 2.25)."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


@contextmanager
def quiet_names() -> Iterator[None]:
    """Suppress highdicom's warning about names of one part, which prints the patient's name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent", category=UserWarning)
        yield


def long_string(text: str) -> str:
    """Shorten a name to a DICOM LO: 64 bytes, no backslashes or line breaks.

    Raises:
        OutputError: nothing is left.
    """
    name = " ".join(text.replace("\\", "/").split()).encode()[:LO_LENGTH].decode(errors="ignore").rstrip()
    if not name:
        raise OutputError(f"names in DICOM must not be empty, got {text!r}")
    return name


def concept(code: Code | None) -> Any:
    """Convert a code for highdicom; None stays None.

    Raises:
        OutputError: the code has no meaning.
    """
    return code and import_highdicom().sr.CodedConcept(code.value, code.scheme, long_string(code.meaning))


def read_code(sequence: Sequence["pydicom.Dataset"] | None) -> Code | None:
    """Read the code of a one-item sequence; None without item, value or scheme."""
    return _code(sequence[0]) if sequence else None


def add_modifiers(kind: "pydicom.Dataset", label: Label) -> None:
    """Write the modifiers of a label into the item of its type."""
    if label.modifiers:
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(code) for code in label.modifiers]


def read_modifiers(kinds: Sequence["pydicom.Dataset"] | None) -> tuple[Code, ...]:
    """Read the modifiers of a type; those without value or scheme are left out."""
    items = kinds[0].get("SegmentedPropertyTypeModifierCodeSequence") if kinds else None
    return tuple(code for item in items or () if (code := _code(item)) is not None)


def _code(item: "pydicom.Dataset") -> Code | None:
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "").strip()
    scheme = str(item.get("CodingSchemeDesignator") or "").strip()
    meaning = " ".join(str(item.get("CodeMeaning") or value).split())
    return Code(value, scheme, meaning or value) if is_code(value, scheme) else None


def chosen_names(wanted: Sequence[str], names: Sequence[str], path: Path) -> list[int]:
    """Find the positions of chosen structures in `names`; all if none is chosen.

    Names match exactly, or else ignoring case if only one does.

    Raises:
        InputError: no such structure; the message lists all.
    """
    if not wanted:
        return list(range(len(names)))
    found = set()
    for name in wanted:
        places = [index for index, one in enumerate(names) if one == name]
        places = places or [i for i, one in enumerate(names) if one.strip().casefold() == name.strip().casefold()]
        if len(places) != 1:
            listed = ", ".join(repr(one) for one in names)
            raise InputError(
                f"a structure's name must match one in {path}, got {name!r}, which matches {len(places)} of: {listed}",
                option="rois",
            )
        found.add(places[0])
    return sorted(found)


def series_number(sources: Sequence["pydicom.Dataset"], *, offset: int) -> int:
    """Number a derived series: source number + `offset` (1000, 2000, ... per kind of object).

    A missing or invalid source number, or one too high for the offset, counts as 0.
    """
    number = whole_number(sources[0], "SeriesNumber") or 0
    return offset + (number if 0 < number <= MOST_INTEGER - offset else 0)


def segment_numbers(structures: Sequence[Label]) -> dict[int, int]:
    """Map label values to segment numbers 1, 2, 3, ... in increasing order, as DICOM requires.

    Raises:
        OutputError: no structures, repeated values, or a value < 1.
    """
    values = sorted(structure.index for structure in structures)
    if not values or values[0] < 1 or len(set(values)) < len(values):
        raise OutputError(f"structures must have different values >= 1, got {values}")
    return {value: number for number, value in enumerate(values, start=1)}


def algorithm_identification(algorithm: Algorithm) -> Any:
    """Describe the algorithm for highdicom (`AlgorithmIdentificationSequence`); None for manual work."""
    hd = import_highdicom()
    from pydicom.sr.codedict import codes

    if algorithm.kind == "MANUAL":
        return None
    return hd.AlgorithmIdentificationSequence(
        name=long_string(algorithm.name),
        version=long_string(algorithm.version),
        family=codes.DCM.ArtificialIntelligence,
        parameters=dict(algorithm.parameters) or None,
    )


def corrected_sources(sources: Sequence["pydicom.Dataset"]) -> list["pydicom.Dataset"]:
    """Copy source headers and correct them for highdicom and readers.

    All copies get their identifiers and one common orientation; the first also gets the patient and study header of
    `clean_header`, in UTF-8, with missing values empty. Spacing between slices is omitted.

    Args:
        sources: headers of one series, or one multi-frame header.

    Raises:
        OutputError: not one series, no frame of reference, or no geometry.
    """
    return sources_in_planes(sources, source_planes(sources))


def sources_in_planes(sources: Sequence["pydicom.Dataset"], planes: Planes) -> list["pydicom.Dataset"]:
    """Copy source headers as `corrected_sources`, with `planes` as their geometry."""
    import pydicom

    identity = [pydicom.tag.Tag(keyword) for keyword in (*REQUIRED, *IMAGE)]
    copies = [pydicom.Dataset() for _ in sources]
    copies[0], _ = clean_header(sources[0])
    for source, copied in zip(sources, copies, strict=True):
        for tag in identity:
            if tag in source:
                copied[tag] = deepcopy(source[tag])
    _complete_header(copies[0])
    if any(keyword in sources[0] for keyword in MULTI_FRAME):
        _place_frames(copies[0], planes)
    else:
        for copy, position in zip(copies, planes.positions, strict=True):
            _place(copy, planes)
            copy.ImagePositionPatient = _decimals(position)
    return copies


def common_header(sources: Sequence["pydicom.Dataset"]) -> "pydicom.Dataset":
    """Start an object without highdicom: patient, study, frame of reference and equipment.

    The caller sets SOP class and instance, series, modality and dates.
    """
    import pydicom

    first = corrected_sources(sources)[0]
    header = pydicom.Dataset()
    for keyword in ("SpecificCharacterSet", "StudyInstanceUID", "FrameOfReferenceUID", *PATIENT_AND_STUDY):
        header[keyword] = first[keyword]
    header.Manufacturer, header.ManufacturerModelName = MANUFACTURER, EQUIPMENT["manufacturer_model_name"]
    header.SoftwareVersions, header.DeviceSerialNumber = __version__, EQUIPMENT["device_serial_number"]
    return header


def _complete_header(header: "pydicom.Dataset") -> None:
    header.SpecificCharacterSet = CHARACTER_SET
    for keyword in PATIENT_AND_STUDY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices"):
        if keyword in header:
            delattr(header, keyword)


def _place(item: "pydicom.Dataset", planes: Planes) -> None:
    item.ImageOrientationPatient = _decimals(planes.orientation.ravel())
    item.PixelSpacing = _decimals(planes.spacing)
    item.SliceThickness = None


def _place_frames(header: "pydicom.Dataset", planes: Planes) -> None:
    import pydicom

    shared, orientation, measures = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = _decimals(planes.orientation.ravel())
    measures.PixelSpacing = _decimals(planes.spacing)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for position in planes.positions:
        frame, place = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = _decimals(position)
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    header.PerFrameFunctionalGroupsSequence = frames


def _decimals(values: NDArray[np.float64]) -> list[Any]:
    """Format numbers as DICOM decimal strings of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]
