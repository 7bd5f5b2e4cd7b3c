"""One case from file to files: read, segment, write every wanted format and a report, all or nothing."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from ..dicom.deidentify import pseudonymised
from ..dicom.identity import check_modality
from ..errors import InputError
from ..files import check_free, complete_folder, make_folder
from ..io import (
    ImageFormat,
    SourceImage,
    case_name,
    channel_files,
    files_of_image,
    image_format,
    read_case,
    write_nifti,
)
from ..segmenter import Progress, Segmentation, Segmenter
from ..volume import Volume
from .done import CaseInput
from .outputs import PLAIN, Findings, check_formats, format_for, write_outputs
from .report import algorithm_of, case_report
from .request import Request, settings_of

logger = logging.getLogger(__name__)

REPORT = PLAIN.report  # ending of a report's name

Unless = Callable[[Path, Mapping[str, Any], CaseInput, list[str]], bool]
Then = Callable[[Volume, Segmentation], object]


def nothing(volume: Volume, result: Segmentation) -> None:
    """Do no more with a result."""


class _DoneMeanwhileError(Exception):
    """Another process has written the same results."""


@overload
def segment_case(
    segmenter: Segmenter,
    case: Path,
    output: Path,
    request: Request,
    *,
    unless: None = None,
    progress: Progress | None = None,
    then: Then = nothing,
) -> Segmentation: ...


@overload
def segment_case(
    segmenter: Segmenter,
    case: Path,
    output: Path,
    request: Request,
    *,
    unless: Unless,
    progress: Progress | None = None,
    then: Then = nothing,
) -> Segmentation | None: ...


def segment_case(
    segmenter: Segmenter,
    case: Path,
    output: Path,
    request: Request,
    *,
    unless: Unless | None = None,
    progress: Progress | None = None,
    then: Then = nothing,
) -> Segmentation | None:
    """Write the label map of one case in every wanted format, and `<case>.json`: all of them or none.

    Args:
        segmenter: what segments.
        case: image file or DICOM.
        output: an existing folder.
        request: what to write.
        unless: says whether the case is done already, as `done.is_done` does; None: results that exist are in the way,
            unless the request overwrites them.
        progress: called after each batch of windows.
        then: called with the image and what was found in it, once that is delivered.

    Returns:
        The segmentation; None: the case is done already.

    Raises:
        InputError: the case cannot be segmented, or not with these options.
        OutputError: results exist, or cannot be written or do not hold what they should when read again.
    """
    kind, channels = image_format(case), segmenter.bundle.channel_suffixes
    formats = _formats(case, kind, request)
    parts = tuple(part for file in channel_files(case, channels) for part in files_of_image(file))
    case_input = CaseInput(parts, output, request.key)
    results = _Results(output, request, formats, settings_of(segmenter, request, formats), case_input)
    name = request.name or case_name(case, channels)
    if request.key is None and results.is_done(name, unless):
        return None
    start = time.perf_counter()
    image = _read(segmenter, case, request, kind)
    seconds = {"reading": time.perf_counter() - start}
    if request.key is not None:
        image = replace(image, instances=pseudonymised(image.instances, request.key, retain_uids=request.retain_uids))
        name = _pseudonym(image)
        if results.is_done(name, unless):
            return None
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
    try:
        results.write(name, image, result, findings=findings, seconds=seconds, unless=unless)
    except _DoneMeanwhileError:
        return None
    then(image.volume, result)
    return result


def _read(segmenter: Segmenter, case: Path, request: Request, kind: ImageFormat) -> SourceImage:
    """Read a case with all of its channels, none of another modality."""
    bundle = segmenter.bundle
    image = read_case(
        case,
        channels=bundle.channel_suffixes,
        series=request.series,
        in_channels=segmenter.in_channels,
        channel_names=bundle.input.channel_names,
        kind=kind,
    )
    for remark in image.remarks if image.format == ImageFormat.NIFTI else ():  # those of DICOM are logged there
        logger.warning("%s", remark)
    for header in () if request.any_modality else image.series:
        check_modality(header, bundle.input.modality)
    return image


@dataclass(frozen=True)
class _Results:
    """What a case is to become, and where."""

    output: Path
    request: Request
    formats: tuple[str, ...]
    settings: Mapping[str, Any]
    case_input: CaseInput

    def is_done(self, name: str, unless: Unless | None) -> bool:
        """Whether nothing is left to do; an error if other results are in the way."""
        report = self.output / f"{name}{self.request.naming.report}"
        if unless is not None:
            if unless(report, self.settings, self.case_input, self.names(name)):
                return True
            if report.exists():  # of this case, but files of it are missing, or it is to be replaced
                return False
        self.check_free(name)
        return False

    def check_free(self, name: str) -> None:
        """Refuse to replace results, unless that is wanted."""
        check_free([self.output / file for file in self.names(name)], overwrite=self.request.overwrite)

    def names(self, name: str) -> list[str]:
        """Names of all files of the case."""
        naming = self.request.naming
        endings = [ending for kind in self.formats for ending in naming.formats[kind]]
        endings += [naming.report, *(["_uncertainty.nii.gz"] if self.request.uncertainty else [])]
        return [f"{name}{ending}" for ending in endings]

    def write(
        self,
        name: str,
        image: SourceImage,
        result: Segmentation,
        *,
        findings: Findings,
        seconds: Mapping[str, float],
        unless: Unless | None,
    ) -> None:
        """Write all files of the case; the report appears last."""
        stated = self.case_input.stated(image.sha256)
        naming = self.request.naming
        report = f"{name}{naming.report}"

        def check() -> None:
            if self.is_done(name, unless):
                raise _DoneMeanwhileError

        make_folder(self.output)  # another process may have removed it while it was empty
        with complete_folder(self.output, last=report, check=check) as folder:
            start = time.perf_counter()
            outputs = write_outputs(findings, folder, name, formats=self.formats, naming=naming)
            if result.uncertainty is not None:
                write_nifti(result.uncertainty, folder / f"{name}_uncertainty.nii.gz", like=findings.like)
            spent = {**seconds, **result.seconds, "writing": time.perf_counter() - start}
            content = case_report(
                image, result, case_input=stated, request=self.settings["request"], outputs=outputs, seconds=spent
            )
            (folder / report).write_text(json.dumps(content, indent=2) + "\n")


def _formats(case: Path, kind: ImageFormat, request: Request) -> tuple[str, ...]:
    """What to write, in its order; refused before anything is read if the case does not allow it."""
    if request.key is not None and kind != ImageFormat.DICOM:
        raise InputError(f"only DICOM has identities to pseudonymise, got {case}")
    wanted = [format_for(name, case) for name in request.formats]
    return check_formats(wanted, dicom=kind == ImageFormat.DICOM)


def _pseudonym(image: SourceImage) -> str:
    """Name of a case that must not be called as its folder is."""
    series = hashlib.sha256(str(image.instances[0].SeriesInstanceUID).encode()).hexdigest()
    return f"{image.instances[0].PatientID or 'patient'}_{series[:8]}"
