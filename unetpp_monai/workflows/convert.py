"""One label map in, the same labels in other formats out; every file is read back before it is delivered."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..dicom.identity import check_same_patient
from ..dicom.series import read_dicom_series
from ..errors import InputError
from ..files import check_free, complete_folder, results_folder
from ..io.label_files import label_format, read_label_file
from ..io.nifti import is_nifti
from ..labels import Label
from ..provenance import Algorithm
from ..volume import placed_on
from .outputs import DICOM_FORMATS, FORMATS, Findings, check_formats, write_outputs

logger = logging.getLogger(__name__)

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".dcm")
ENDINGS = ("_seg", "_rtstruct")  # of our own files' names, which are no part of the case's
BY_HAND = Algorithm("", "", kind="MANUAL")


def convert(  # noqa: PLR0913  # a public face: one keyword per choice
    labels: str | Path,
    output: str | Path,
    *,
    formats: Sequence[str],
    source: str | Path | None = None,
    series: str | None = None,
    made_by: Algorithm | None = None,
    encoding: str = "binary",
    structures: Sequence[Label] = (),
    rois: Sequence[str] = (),
    thickness: float | None = None,
    allow_other_patient: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Convert a label map to other formats.

    Either all of them are written, or none.

    Args:
        labels: NIfTI, `.seg.nrrd`, DICOM SEG or DICOM RTSTRUCT.
        output: folder for the results; it is made if it does not exist.
        formats: of nifti, segnrrd, dicomseg, rtstruct and sr.
        source: DICOM series that the labels belong to; DICOM formats, and contours as input, need it. A SEG or
            `.seg.nrrd` of the same voxels gets all of its slices.
        series: which series of `source`: UID, number or description; None: the only one.
        made_by: how the labels were made, which DICOM states; `Algorithm("", "", kind="MANUAL")` for a person.
        encoding: of DICOM SEG: binary or labelmap.
        structures: what the values of a NIfTI file mean; empty: as the table beside it says (`NAME.tsv`).
        rois: names of the structures that are wanted; empty: all.
        thickness: mm of a slice of a DICOM SEG of one plane that does not state it.
        allow_other_patient: take a SEG or RTSTRUCT of another patient, study or frame of reference than those of
            `source`, as of an atlas that lies where the images do.
        overwrite: replace results that exist.

    Returns:
        The written files, one per format; a NIfTI file has its table of labels beside it.

    Raises:
        InputError: labels, source or formats that do not fit each other.
        OutputError: results exist, or cannot be written or do not hold what they should when read again.

    Example:
        >>> from unetpp_monai import Algorithm, convert
        >>> [path.name for path in convert("case_seg.nii.gz", "converted", formats=["segnrrd"])]
        ['case.seg.nrrd']
        >>> by = Algorithm("our network", "1.0")
        >>> files = convert("case_seg.nii.gz", "converted", formats=["dicomseg", "sr"], source="series", made_by=by)
        >>> [path.name for path in files]
        ['case_seg.dcm', 'case_sr.dcm']
    """
    labels, output = Path(labels), Path(output)
    wanted = check_formats(formats, dicom=source is not None)
    if made_by is None and set(wanted) & set(DICOM_FORMATS):
        raise InputError(
            "DICOM states how labels were made, got nothing of it; name an algorithm, or a person", option="made_by"
        )
    name = _case(labels)
    check_free([output / f"{name}{ending}" for kind in wanted for ending in FORMATS[kind]], overwrite=overwrite)
    image = None if source is None else read_dicom_series(Path(source), series=series)
    if image is not None and label_format(labels) in ("SEG", "RTSTRUCT") and not allow_other_patient:
        check_same_patient(labels, image.sources[0], only=rois)
    for remark in () if image is None else image.remarks:
        logger.warning("%s", remark)
    grid = None if image is None else image.volume
    volume, meanings = read_label_file(labels, structures=structures, grid=grid, rois=rois, thickness=thickness)
    if grid is not None and label_format(labels) in ("SEG", "NRRD"):  # which may hold a part of the images' slices
        whole = placed_on(volume, grid)
        if whole is None:
            logger.warning("%s keeps its own grid, as its voxels are not those of the source images", labels.name)
        volume = volume if whole is None else whole
    counts = np.bincount(volume.array.ravel(), minlength=256)
    findings = Findings(
        labels=volume,
        structures=meanings,
        ml={label.name: float(counts[label.index] * volume.voxel_ml) for label in meanings},
        algorithm=made_by or BY_HAND,
        sources=() if image is None else image.sources,
        like=labels if is_nifti(labels) else None,
        encoding=encoding,
    )
    with results_folder(output), complete_folder(output) as folder:
        written = write_outputs(findings, folder, name, formats=wanted)
    return tuple(output / one["file"] for one in written.values())


def _case(path: Path) -> str:
    """Name of the case that a label map is of."""
    name = next((path.name[: -len(end)] for end in SUFFIXES if path.name.lower().endswith(end)), path.name)
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)
