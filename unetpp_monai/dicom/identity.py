"""Check that an image has the modality of the bundle and belongs to the patient of given labels."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import chosen_names
from .reading import guarded, read_whole

if TYPE_CHECKING:
    from pydicom import Dataset

SYNONYMS = {"MRI": "MR", "PET": "PT"}  # other names -> DICOM's
TAGS = (
    *("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("ReferencedFrameOfReferenceSequence", "StructureSetROISequence"),
)


def check_same_patient(path: Path, source: "Dataset", *, only: Sequence[str] = ()) -> None:
    """Check that a SEG or RTSTRUCT has the image's patient, study and frame of reference.

    Args:
        path: SEG or RTSTRUCT.
        source: header of an image.
        only: names of the structures used, which may have their own frames of reference; empty: all.

    Raises:
        InputError: they differ, or one does not state them.
    """
    labels = read_whole(path, tags=TAGS)
    with guarded(path, "has no readable patient"):
        patient, images = (str(header.get("PatientID") or "").strip() for header in (labels, source))
        study = str(source.get("StudyInstanceUID") or "")
        frame = str(source.get("FrameOfReferenceUID") or "")
        frames = _frames(labels, only, path)
        agree = {
            "PatientID": patient == images,
            "StudyInstanceUID": bool(study) and study in _studies(labels),
            "FrameOfReferenceUID": bool(frame) and frames == {frame},
        }
    if others := [keyword for keyword, same in agree.items() if not same]:
        raise InputError(
            f"labels and images must have the same patient, study and frame of reference, got another "
            f"{' and '.join(others)}, or none, in {path}; select the images on which they were drawn, or allow labels "
            "of another patient, such as an atlas",
            option="allow_other_patient",
        )


def check_modality(source: "Dataset", wanted: str) -> None:
    """Check that an image has a modality the network was trained for.

    Args:
        source: header of an image.
        wanted: one or more modalities, such as "CT" or "CT, MR"; others, such as "n/a", accept everything.

    Raises:
        InputError: both are known and differ.
    """
    from pydicom.sr.codedict import codes

    known = {code.value for code in codes.cid29.concepts.values()} - {"OT"}
    with guarded(Path("Modality")):
        given = str(source.get("Modality") or "").strip().upper()
    names = {SYNONYMS.get(name, name) for name in re.split(r"[^A-Z]+", wanted.upper().replace("N/A", "")) if name}
    if given in known | {"RTDOSE"} and names and names <= known and given not in names:
        raise InputError(
            f"images must be of modality {' or '.join(sorted(names))}, for which the bundle was trained, got {given}; "
            "choose another series or bundle, or allow any modality",
            option="any_modality",
        )


def _studies(labels: "Dataset") -> set[str]:
    """Return UIDs of the file's study, or of the studies its contours were drawn on."""
    return {
        str(labels.get("StudyInstanceUID") or ""),
        *(
            str(study.get("ReferencedSOPInstanceUID"))
            for item in labels.get("ReferencedFrameOfReferenceSequence") or ()
            for study in item.get("RTReferencedStudySequence") or ()
        ),
    }


def _frames(labels: "Dataset", only: Sequence[str], path: Path) -> set[str]:
    """Return the frame of reference UIDs of the chosen structures, or else of the file."""
    items = list(labels.get("StructureSetROISequence") or ())
    if items:
        chosen = chosen_names(only, [str(item.get("ROIName") or "") for item in items], path)
        items = [items[index] for index in chosen]
    stated = (
        [item.get("ReferencedFrameOfReferenceUID") for item in items],
        [item.get("FrameOfReferenceUID") for item in labels.get("ReferencedFrameOfReferenceSequence") or ()],
        [labels.get("FrameOfReferenceUID")],
    )
    return next((found for found in (set(_uids(uids)) for uids in stated) if found), set())


def _uids(uids: Sequence[object]) -> Iterator[str]:
    return (str(uid) for uid in uids if uid)
