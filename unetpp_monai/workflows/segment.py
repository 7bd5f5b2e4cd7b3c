"""One case from file to files: read, segment, write every wanted format and a report, all or nothing."""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ..depth import DepthLike
from ..dicom.deidentify import pseudonymised
from ..errors import InputError
from ..files import check_free, complete_folder, sha256
from ..io import ImageFormat, SourceImage, case_name, image_format, read_image, write_nifti
from ..segmenter import Progress, Segmentation, Segmenter
from .outputs import FORMATS, Findings, check_formats, format_for, write_outputs
from .report import algorithm_of, case_report


@dataclass(frozen=True)
class Request:
    """What is wanted of a case."""

    formats: tuple[str, ...] = ("nifti",)  # of io.outputs.FORMATS
    series: str | None = None  # which DICOM series: UID, number or description; None: the only one
    depth: DepthLike = None  # as `Segmenter` takes it
    mirror_axes: tuple[int, ...] | None = None  # as `Segmenter` takes them; None: what the bundle says
    uncertainty: bool = False  # also write the map
    encoding: str = "binary"  # of DICOM SEG: binary or labelmap
    key: bytes | None = None  # pseudonymise with it
    retain_uids: bool = False  # when pseudonymising
    overwrite: bool = False  # replace results that exist


def segment_case(
    segmenter: Segmenter, case: Path, output: Path, request: Request, *, progress: Progress | None = None
) -> Segmentation:
    """Write the label map of one case in every wanted format, and `<case>.json`: all of them or none.

    Args:
        segmenter: what segments.
        case: image file or DICOM.
        output: an existing folder.
        request: what to write.
        progress: called after each batch of windows.

    Raises:
        InputError: the case cannot be segmented, or not as wanted.
        OutputError: results exist, or cannot be written or do not hold what they should when read again.
    """
    kind = image_format(case)
    formats = _formats(case, kind, request)
    if request.key is None:
        _check_free(output, case_name(case), formats, request)
    start = time.perf_counter()
    image = read_image(case, series=request.series, kind=kind)
    seconds = {"reading": time.perf_counter() - start}
    name = case_name(case)
    if request.key is not None:
        image = replace(image, instances=pseudonymised(image.instances, request.key, retain_uids=request.retain_uids))
        name = _pseudonym(image)
        _check_free(output, name, formats, request)
    result = segmenter(
        image.volume,
        depth=request.depth,
        mirror_axes=request.mirror_axes,
        uncertainty=request.uncertainty,
        progress=progress,
    )
    findings = Findings(
        result.labels,
        segmenter.bundle.labels,
        result.ml,
        algorithm_of(result),
        sources=image.instances,
        like=image.path if kind == ImageFormat.NIFTI else None,
        encoding=request.encoding,
    )
    # our results in a folder below the case are no part of it; of a pseudonymised one nothing may be known
    digest = None if request.key is not None else sha256(case.resolve(), without=output.resolve(), known=image.sha256)
    with complete_folder(output) as folder:
        start = time.perf_counter()
        outputs = write_outputs(findings, folder, name, formats=formats)
        if result.uncertainty is not None:
            write_nifti(result.uncertainty, folder / f"{name}_uncertainty.nii.gz", like=findings.like)
        seconds |= {**result.seconds, "writing": time.perf_counter() - start}
        report = case_report(image, result, input_sha256=digest, outputs=outputs, seconds=seconds)
        (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    return result


def _formats(case: Path, kind: ImageFormat, request: Request) -> tuple[str, ...]:
    """What to write, in its order; refused before anything is read if the case does not allow it."""
    if request.key is not None and kind != ImageFormat.DICOM:
        raise InputError(f"only DICOM has identities to pseudonymise, got {case}")
    wanted = [format_for(name, case) for name in request.formats]
    return check_formats(wanted, dicom=kind == ImageFormat.DICOM)


def _check_free(output: Path, name: str, formats: tuple[str, ...], request: Request) -> None:
    endings = [ending for kind in formats for ending in FORMATS[kind]]
    endings += [".json", *(["_uncertainty.nii.gz"] if request.uncertainty else [])]
    check_free([output / f"{name}{ending}" for ending in endings], overwrite=request.overwrite)


def _pseudonym(image: SourceImage) -> str:
    """Name of a case that must not be called as its folder is."""
    series = hashlib.sha256(str(image.instances[0].SeriesInstanceUID).encode()).hexdigest()
    return f"{image.instances[0].PatientID or 'patient'}_{series[:8]}"
