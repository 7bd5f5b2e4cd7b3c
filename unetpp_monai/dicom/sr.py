"""Write volumes as a DICOM measurement report (TID 1500) that refers to the measured segments.

It is an Enhanced SR: the smallest class for TID 1500 without coordinates, which dcmqi writes as well. OHIF's microscopy
viewer claims Comprehensive 3D SR and looks for coordinates in it.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from ..errors import OutputError
from ..files import complete_file
from ..labels import Code, Label
from ..provenance import Algorithm
from .common import (
    CHARACTER_SET,
    EQUIPMENT,
    MANUFACTURER,
    concept,
    corrected_sources,
    import_highdicom,
    long_string,
    new_uid,
    quiet_names,
    segment_numbers,
    series_number,
)
from .deidentify import mark_pseudonymised
from .seg_reader import SegFrames, seg_volume

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

SERIES_OFFSET = 2000  # series number of the report, added to that of its source series
VOLUME_TOLERANCE = 1e-3  # relative difference between volume and voxels of a segment; one voxel is always allowed
DIGITS = 6  # of a reported volume
MILLILITRE = Code("mL", "UCUM", "milliliter")
VOLUME = Code("118565006", "SCT", "Volume")
VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
BODY = Code("123037004", "SCT", "Body structure")
PRESENCE = Code("705057003", "SCT", "Presence")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
LATERALITIES = {"7771000", "24028007", "51440002", "66459002"}  # SNOMED CT: left, right, both, one side (CID 244)
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
OTHER_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


@dataclass(frozen=True)
class Finding:
    """One structure and its measured volume."""

    name: str  # given by the caller
    segment: Label  # from the SEG; its index is the segment number
    tracking_uid: str  # of the segment
    ml: float  # 0: not found


def write_dicom_sr(
    path: Path,
    *,
    seg: SegFrames,
    structures: Sequence[Label],
    ml: Mapping[str, float],
    sources: Sequence["pydicom.Dataset"],
    algorithm: Algorithm,
) -> dict[str, float]:
    """Write the volumes of a segmentation as a measurement report, and verify it.

    Each structure found has a measurement group (TID 1411) that refers to its segment and source series. Validators
    (dciodvfy, DCMTK) do not allow references to LABELMAP segments yet: these groups (TID 1501) refer to the source
    series only, and the SEG is part of the evidence. A structure not found gets a group without volume that says so.

    Args:
        path: the report, an Enhanced SR.
        seg: from `write_dicom_seg` or `parse_seg`, of the same label map, `structures` and `sources`.
        structures: all that the network segments.
        ml: millilitres by structure name; missing names count as 0.
        sources: headers of the segmented images; pseudonymised headers give a pseudonymous report.
        algorithm: that segmented.

    Returns:
        Millilitres by name of the structures found, as read back.

    Raises:
        OutputError: volumes and SEG differ, `seg` is of another study, or the report cannot be written.
    """
    prepared = corrected_sources(sources)
    if seg.dataset.StudyInstanceUID != prepared[0].StudyInstanceUID:
        raise OutputError("a report needs the SEG of its own sources, got one of another study; write the SEG again")
    findings = _findings(seg, structures, ml)
    report = _report(findings, seg, prepared, algorithm)
    mark_pseudonymised(report, sources[0])
    expected = {finding.name: finding.ml for finding in findings if finding.ml > 0}
    with complete_file(path) as temporary:
        report.save_as(temporary, enforce_file_format=True)
        written = _read_volumes(temporary)
        if written != expected:
            raise OutputError(f"a report must state the given volumes, got {written} for {expected}; report this")
    return written


def _read_volumes(path: Path) -> dict[str, float]:
    """Read the volumes of a measurement report with pydicom alone: millilitres by tracking identifier."""
    import pydicom

    volumes = {}
    for group in _items(pydicom.dcmread(path), "125007"):  # Measurement Group
        names = [item.TextValue for item in _items(group, "112039")]  # Tracking Identifier
        for item in _items(group, VOLUME.value):
            measured = item.MeasuredValueSequence[0]
            if measured.MeasurementUnitsCodeSequence[0].CodeValue == MILLILITRE.value:
                volumes[str(names[0])] = float(measured.NumericValue)
    return volumes


def _items(item: "pydicom.Dataset", concept: str) -> Iterator["pydicom.Dataset"]:
    """Yield content items with this concept code, at any depth."""
    for child in item.get("ContentSequence") or ():
        names = child.get("ConceptNameCodeSequence")
        if names and names[0].CodeValue == concept:
            yield child
        yield from _items(child, concept)


def _findings(frames: SegFrames, structures: Sequence[Label], ml: Mapping[str, float]) -> list[Finding]:
    """Combine structures, volumes and segments, and check the volumes against the voxels."""
    volume = seg_volume(frames)
    counts = np.zeros(int(volume.array.max()) + len(structures) + 1, dtype=np.int64)
    for plane in volume.array[0]:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    segments = {segment.index: segment for segment in frames.labels}
    tracking = {int(item.SegmentNumber): item.get("TrackingUID") for item in frames.dataset.SegmentSequence}
    numbers, findings = segment_numbers(structures), []
    for structure in structures:
        number = numbers[structure.index]
        stated, counted = float(ml.get(structure.name, 0.0)), float(counts[number]) * volume.voxel_ml
        near = abs(stated - counted) <= max(VOLUME_TOLERANCE * counted, volume.voxel_ml)
        if number not in segments or not near or (stated > 0) != (counted > 0):
            raise OutputError(
                f"a reported volume must equal its segment's, got {stated:g} mL for {structure.name!r}, which has "
                f"{counted:g} mL in the SEG; write the SEG of the same label map"
            )
        rounded = float(f"{stated:.{DIGITS}g}")
        findings.append(Finding(structure.name, segments[number], tracking.get(number) or new_uid(), rounded))
    return findings


def _report(
    findings: Sequence[Finding], frames: SegFrames, sources: Sequence["pydicom.Dataset"], algorithm: Algorithm
) -> Any:
    hd = import_highdicom()
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=_device_uid(algorithm),
        name=algorithm.name or EQUIPMENT["manufacturer_model_name"],
        manufacturer_name=MANUFACTURER,
        model_name=EQUIPMENT["manufacturer_model_name"],
        serial_number=EQUIPMENT["device_serial_number"],
    )
    observer = hd.sr.ObserverContext(concept(Code("121007", "DCM", "Device")), device)
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(PROCEDURES.get(str(sources[0].get("Modality")), OTHER_PROCEDURE)),
        imaging_measurements=[
            _group(finding, frames.dataset, str(sources[0].SeriesInstanceUID), algorithm) for finding in findings
        ],
    )
    with quiet_names():
        return hd.sr.EnhancedSR(
            evidence=[*sources, frames.dataset],
            content=content,
            series_instance_uid=new_uid(),
            series_number=series_number(sources, offset=SERIES_OFFSET),
            sop_instance_uid=new_uid(),
            instance_number=1,
            series_description=long_string(f"Volumes {algorithm.title}"),
            is_complete=True,
            specific_character_set=CHARACTER_SET,
            **EQUIPMENT,
        )


def _device_uid(algorithm: Algorithm) -> str:
    """Return the UID of the algorithm as an observer, equal in all its reports."""
    name = f"{MANUFACTURER}/{__version__}/{algorithm.name}/{algorithm.version}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def _group(finding: Finding, seg: "pydicom.Dataset", series: str, algorithm: Algorithm) -> Any:
    """Build the measurement group of one structure, with its segment if allowed."""
    hd = import_highdicom()
    segment = finding.segment
    common = {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.name),
        "finding_type": concept(segment.type),
        "finding_category": concept(segment.category),
        "finding_sites": _sites(segment),
        "algorithm_id": _algorithm(algorithm),
    }
    if not finding.ml:
        evaluation = hd.sr.QualitativeEvaluation(concept(PRESENCE), concept(NOT_DETECTED))
        return hd.sr.MeasurementsAndQualitativeEvaluations(qualitative_evaluations=[evaluation], **common)
    common["method"] = concept(VOXEL_SUM)
    common["measurements"] = [hd.sr.Measurement(concept(VOLUME), finding.ml, concept(MILLILITRE))]
    source = hd.sr.SourceSeriesForSegmentation(series)
    if seg.SegmentationType == "LABELMAP":
        group = hd.sr.MeasurementsAndQualitativeEvaluations(**common)
        group[0].ContentSequence.append(source)
        return group
    reference = hd.sr.ReferencedSegment(seg.SOPClassUID, seg.SOPInstanceUID, segment.index, source_series=source)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **common)


def _algorithm(algorithm: Algorithm) -> Any:
    """Describe the algorithm; None without name. Family, maker and several parameters confuse dcmqi's reader."""
    if not algorithm.name:
        return None
    parameters = "; ".join(f"{name}={value}" for name, value in algorithm.parameters.items())
    return import_highdicom().sr.AlgorithmIdentification(
        algorithm.name, algorithm.version, [parameters] if parameters else None
    )


def _sites(segment: Label) -> list[Any]:
    """Return the site of a finding: anatomy itself, or the modifiers of anything else.

    A site has at most one side and one part (TID 1419).
    """
    if segment.category and segment.category.value == ANATOMY.value:
        site = segment.type
    elif segment.modifiers:
        site = BODY
    else:
        return []
    sides = [code for code in segment.modifiers if code.value in LATERALITIES]
    parts = [code for code in segment.modifiers if code.value not in LATERALITIES]
    if more := [code.meaning for code in (*sides[1:], *parts[1:])]:
        logger.warning("a report has one side and one part of a site; of %s it lacks %s", segment.name, ", ".join(more))
    side, part = (concept(codes[0]) if codes else None for codes in (sides, parts))
    return [import_highdicom().sr.FindingSite(concept(site), laterality=side, topographical_modifier=part)]
