"""A label map to files: which formats there are, what each is called, and that each was read back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dicom.rtstruct import write_dicom_rtstruct
from ..dicom.seg import write_dicom_seg
from ..dicom.seg_reader import SegFrames
from ..dicom.sr import write_dicom_sr
from ..errors import InputError, OutputError
from ..files import sha256
from ..io.label_table import write_label_table
from ..io.nifti import read_nifti, write_nifti
from ..io.picture import write_label_picture
from ..io.reader import is_picture
from ..io.seg_nrrd import write_seg_nrrd
from ..labels import Label, label_colour
from ..provenance import Algorithm, ReadBack
from ..volume import Volume

if TYPE_CHECKING:
    from ..dicom import Header

# format -> file names, after the case's name
FORMATS = {
    "nifti": ("_seg.nii.gz", "_seg.tsv"),
    "picture": ("_seg.png",),
    "segnrrd": (".seg.nrrd",),
    "dicomseg": ("_seg.dcm",),
    "rtstruct": ("_rtstruct.dcm",),
    "sr": ("_sr.dcm",),
}
OFFERED = tuple(name for name in FORMATS if name != "picture")  # which nifti means for pictures
DICOM_FORMATS = ("dicomseg", "rtstruct", "sr")


@dataclass(frozen=True)
class Naming:
    """What the files of a case are called, after its name."""

    formats: Mapping[str, tuple[str, ...]]  # format -> endings, as `FORMATS`
    report: str = ".json"


PLAIN = Naming(FORMATS)
BIDS = Naming({**FORMATS, "nifti": ("_dseg.nii.gz", "_dseg.tsv")}, "_dseg.json")  # derivatives: the report is a sidecar


@dataclass(frozen=True)
class Findings:
    """What was found in one image, with all that the formats want to know about it."""

    labels: Volume  # (1, X, Y, Z) uint8
    structures: tuple[Label, ...]  # what its values mean
    ml: Mapping[str, float]  # label name -> millilitres
    algorithm: Algorithm
    sources: tuple["Header", ...] = ()  # headers of the DICOM instances it was found in
    like: Path | None = None  # NIfTI file whose header's geometry is kept to the bit
    encoding: str = "binary"  # of DICOM SEG: binary or labelmap


def format_for(name: str, image: Path) -> str:
    """Which format is meant for an image: pictures have no lengths, so their label maps are pictures, too."""
    return "picture" if name == "nifti" and is_picture(image) else name


def check_formats(formats: Sequence[str], *, dicom: bool) -> tuple[str, ...]:
    """Return the formats in the order in which they are written.

    Args:
        formats: of `FORMATS`.
        dicom: whether there are DICOM sources.

    Raises:
        InputError: unknown, or impossible without what is missing.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise InputError(f"format must be one of {', '.join(OFFERED)}, got {', '.join(unknown) or 'none'}")
    if not formats:
        raise InputError(f"at least one format must be named, of {', '.join(OFFERED)}")
    wanted = [name for name in formats if name in DICOM_FORMATS]
    if wanted and not dicom:
        raise InputError(
            f"{', '.join(wanted)} must refer to a DICOM series, got an image without one; give the images as DICOM, "
            "or choose nifti or segnrrd"
        )
    if "sr" in formats and "dicomseg" not in formats:
        raise InputError("an SR refers to the segments of a SEG; add dicomseg to the formats")
    return tuple(name for name in FORMATS if name in formats)


def write_outputs(
    findings: Findings, folder: Path, name: str, *, formats: Sequence[str] = ("nifti",), naming: Naming = PLAIN
) -> dict[str, dict[str, Any]]:
    """Write a label map in several formats; each is read back and compared before it gets its name.

    Args:
        findings: what to write.
        folder: where.
        name: of the case.
        formats: of `FORMATS`.
        naming: what the files are called.

    Returns:
        Format -> `file`, `sha256` and `read_back`, which says what was compared.

    Raises:
        InputError: a format that does not fit.
        OutputError: a file cannot be written, or does not hold what it should.
    """
    written: dict[str, dict[str, Any]] = {}
    seg: SegFrames | None = None
    for kind in check_formats(formats, dicom=bool(findings.sources)):
        path = folder / f"{name}{naming.formats[kind][0]}"
        proof: Any
        if kind == "dicomseg":
            proof, seg = _dicomseg(findings, path)
        elif kind == "sr" and seg is not None:  # which is written before
            proof = _sr(findings, path, seg)
        else:
            proof = WRITERS[kind](findings, path)
        proof = asdict(proof) if isinstance(proof, ReadBack) else proof
        digest = seg.sha256 if seg is not None and kind == "dicomseg" else sha256(path)
        written[kind] = {"file": path.name, "sha256": digest, "read_back": proof}
    return written


def _nifti(findings: Findings, path: Path) -> ReadBack:
    write_nifti(findings.labels, path, like=findings.like)
    back = read_nifti(path)
    different = int(np.count_nonzero(back.array != findings.labels.array))
    if different or not back.same_grid(findings.labels):
        path.unlink()
        raise OutputError(f"{path} must hold the label map, got {different} other voxels when it was read again")
    write_label_table(findings.structures, path.with_name(path.name.removesuffix(".nii.gz") + ".tsv"))
    return ReadBack("nibabel", int(np.count_nonzero(findings.labels.array)), 0, 0.0)


def _picture(findings: Findings, path: Path) -> None:
    colours = {label.index: label_colour(label) for label in findings.structures}
    shown = [colours.get(index, (0, 0, 0)) for index in range(1, max(colours, default=0) + 1)]
    write_label_picture(findings.labels, path, colours=shown)


def _segnrrd(findings: Findings, path: Path) -> ReadBack:
    return write_seg_nrrd(findings.labels, path, structures=findings.structures)


def _dicomseg(findings: Findings, path: Path) -> tuple[ReadBack, SegFrames]:
    return write_dicom_seg(
        findings.labels,
        path,
        structures=findings.structures,
        sources=findings.sources,
        algorithm=findings.algorithm,
        encoding=findings.encoding,
    )


def _rtstruct(findings: Findings, path: Path) -> ReadBack:
    return write_dicom_rtstruct(
        findings.labels,
        path,
        structures=findings.structures,
        sources=findings.sources,
        algorithm=findings.algorithm,
    )


def _sr(findings: Findings, path: Path, seg: SegFrames) -> dict[str, float]:
    return write_dicom_sr(
        path,
        seg=seg,
        structures=findings.structures,
        ml=findings.ml,
        sources=findings.sources,
        algorithm=findings.algorithm,
    )


WRITERS: dict[str, Callable[[Findings, Path], Any]] = {
    "nifti": _nifti,
    "picture": _picture,
    "segnrrd": _segnrrd,
    "rtstruct": _rtstruct,
}
