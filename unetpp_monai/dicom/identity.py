"""Whether an image is what it is taken for: of the kind that a bundle wants, of the patient whose labels are given."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import chosen_names
from .reading import guarded, read_whole

if TYPE_CHECKING:
    from pydicom import Dataset

SYNONYMS = {"MRI": "MR", "PET": "PT"}  # DICOM's words for those of others
TAGS = (
    *("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("ReferencedFrameOfReferenceSequence", "StructureSetROISequence"),
)


def check_same_patient(path: Path, source: "Dataset", *, only: Sequence[str] = ()) -> None:
    """Refuse a SEG or RTSTRUCT of another patient, study or frame of reference than an image's.

    Args:
        path: SEG or RTSTRUCT.
        source: header of an image.
        only: names of the structures that are wanted, which may have frames of reference of their own; empty: all.

    Raises:
        InputError: they differ, or one of the two does not say.
    """
    labels = read_whole(path, tags=TAGS)
    with guarded(path, "does not say of whom it is"):
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
            f"labels must be of the patient, study and frame of reference of their images, got another "
            f"{' and '.join(others)}, or none, in {path}; give the images on which they were drawn, or say that labels "
            "of another patient are meant, as of an atlas",
            option="allow_other_patient",
        )


def check_modality(source: "Dataset", wanted: str) -> None:
    """Refuse an image of another modality than a network was trained for.

    Args:
        source: header of an image.
        wanted: one modality or several, as in "CT" or "CT, MR"; what is none of DICOM's, as "n/a", refuses nothing.

    Raises:
        InputError: both are known, and differ.
    """
    from pydicom.sr.codedict import codes

    known = {code.value for code in codes.cid29.concepts.values()} - {"OT"}
    with guarded(Path("Modality")):
        given = str(source.get("Modality") or "").strip().upper()
    names = {SYNONYMS.get(name, name) for name in re.split(r"[^A-Z]+", wanted.upper().replace("N/A", "")) if name}
    if given in known | {"RTDOSE"} and names and names <= known and given not in names:
        raise InputError(
            f"images must be of modality {' or '.join(sorted(names))}, for which the bundle was trained, got {given}; "
            "choose another series or bundle, or say that any modality will do",
            option="any_modality",
        )


def _studies(labels: "Dataset") -> set[str]:
    """UIDs of the studies that the file is of, or that its contours were drawn on."""
    return {
        str(labels.get("StudyInstanceUID") or ""),
        *(
            str(study.get("ReferencedSOPInstanceUID"))
            for item in labels.get("ReferencedFrameOfReferenceSequence") or ()
            for study in item.get("RTReferencedStudySequence") or ()
        ),
    }


def _frames(labels: "Dataset", only: Sequence[str], path: Path) -> set[str]:
    """UIDs of the frames of reference of the wanted structures, or of the whole file if these do not say."""
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
