"""One case from file to files: read, segment, write every wanted format and a report, all or nothing."""

import hashlib
import json
import platform
import time
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .._version import __version__
from ..dicom.deidentify import pseudonymised
from ..dicom.discovery import is_dicom_source
from ..dicom.series import DicomSeries, read_dicom_series
from ..errors import InputError
from ..files import check_free, complete_folder, sha256
from ..io import case_name, read_volume, write_nifti
from ..io.nifti import is_nifti
from ..provenance import Algorithm
from ..segmenter import Progress, Segmentation, Segmenter
from .outputs import FORMATS, Findings, check_formats, format_for, write_outputs

PACKAGES = ("torch", "monai", "numpy", "nibabel", "pydicom", "highdicom")  # whose versions decide a result


@dataclass(frozen=True)
class Request:
    """What is wanted of a case."""

    formats: tuple[str, ...] = ("nifti",)  # of io.outputs.FORMATS
    series: str | None = None  # which DICOM series: UID, number or description; None: the only one
    depth: str | int | None = None  # as `Segmenter` takes it
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
    if not case.exists():
        raise InputError(f"input must exist, got {case}; check the path")
    dicom = is_dicom_source(case)
    if request.key is not None and not dicom:
        raise InputError(f"only DICOM has identities to pseudonymise, got {case}")
    formats = check_formats(tuple(format_for(name, case) for name in request.formats), dicom=dicom)
    if request.key is None:
        _check_free(output, case_name(case), formats, request)
    start = time.perf_counter()
    image = _read(case, request, dicom)
    seconds = {"reading": time.perf_counter() - start}
    name = case_name(case)
    if request.key is not None:
        image = replace(image, sources=pseudonymised(image.sources, request.key, retain_uids=request.retain_uids))
        name = _pseudonym(image)
        _check_free(output, name, formats, request)
    result = segmenter(image.volume, depth=request.depth, uncertainty=request.uncertainty, progress=progress)
    like = case if is_nifti(case) else None
    algorithm = _algorithm(result)
    findings = Findings(
        result.labels, segmenter.bundle.labels, result.ml, algorithm, image.sources, like, request.encoding
    )
    origin = _origin(case, image, request, output)
    with complete_folder(output) as folder:
        start = time.perf_counter()
        outputs = write_outputs(findings, folder, name, formats=formats)
        if result.uncertainty is not None:
            write_nifti(result.uncertainty, folder / f"{name}_uncertainty.nii.gz", like=like)
        seconds |= {**result.seconds, "writing": time.perf_counter() - start}
        report = {
            **origin,
            "outputs": outputs,
            **_provenance(result),
            "seconds": {step: round(value, 4) for step, value in seconds.items()},
        }
        (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    return result


def _check_free(output: Path, name: str, formats: tuple[str, ...], request: Request) -> None:
    endings = [ending for kind in formats for ending in FORMATS[kind]]
    endings += [".json", *(["_uncertainty.nii.gz"] if request.uncertainty else [])]
    check_free([output / f"{name}{ending}" for ending in endings], overwrite=request.overwrite)


def _read(case: Path, request: Request, dicom: bool) -> DicomSeries:
    if not dicom:
        if request.series is not None:
            raise InputError(f"only DICOM has series to choose from, got {case}")
        return DicomSeries(read_volume(case), (), ())
    return read_dicom_series(case, series=request.series)


def _pseudonym(image: DicomSeries) -> str:
    """Name of a case that must not be called as its folder is."""
    series = hashlib.sha256(str(image.sources[0].SeriesInstanceUID).encode()).hexdigest()
    return f"{image.sources[0].PatientID or 'patient'}_{series[:8]}"


def _algorithm(result: Segmentation) -> Algorithm:
    parameters = {"depth": str(result.depth), "weights_sha256": result.weights_sha256, "unetpp_monai": __version__}
    return Algorithm(result.bundle, result.version, parameters)


def _origin(case: Path, image: DicomSeries, request: Request, output: Path) -> dict[str, Any]:
    """Where the image came from, results of ours in a folder below aside; nothing of it if that is to stay unknown."""
    if request.key is not None:
        return {"remarks": list(image.remarks)}
    digest = sha256(case.resolve(), without=output.resolve(), known=image.sha256)
    origin: dict[str, Any] = {"input": str(case.resolve()), "input_sha256": digest}
    if image.sources:
        origin["series"] = str(image.sources[0].SeriesInstanceUID)
        origin["remarks"] = [*image.remarks, *image.warnings]
    return origin


def _provenance(result: Segmentation) -> dict[str, Any]:
    names = [field.name for field in fields(result) if field.name not in ("labels", "uncertainty", "seconds")]
    return {
        **{name: getattr(result, name) for name in names},
        "software": {"unetpp_monai": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # not needed here, or importable without being installed, as in a packed bundle
            found[package] = "unknown"
    return found
