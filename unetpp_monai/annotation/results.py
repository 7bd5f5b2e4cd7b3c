"""Segment an image for a request, as the command line does, and write the requested format."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..depth import DepthLike
from ..errors import InputError, OutputError
from ..io import case_name, is_picture, read_volume
from ..labels import label_colour
from ..segmenter import Segmentation, Segmenter
from ..workflows.outputs import FORMATS, format_for
from ..workflows.request import Request
from ..workflows.segment import segment_case

# file name endings -> format of workflows.outputs; plain NRRD is converted from NIfTI
ENDINGS = {".nii.gz": "nifti", ".png": "picture", ".seg.nrrd": "segnrrd", ".dcm": "dicomseg", ".nrrd": "nifti"}
DTYPES = ("uint8", "uint16", "int16", "int32", "float32")  # of plain NRRD; other files are uint8
HIDDEN = ("schema", "input", "outputs", "software")  # keys of the report not sent to clients


@dataclass(frozen=True)
class ResultOptions:
    """Options of a client for a result."""

    ending: str | None = None  # of `ENDINGS`; None: NIfTI, or PNG for a picture
    depth: DepthLike = None  # as for `Segmenter`
    uncertainty: bool = False  # also return scores
    dtype: str = "uint8"  # of `DTYPES`, for plain NRRD
    compress: bool = False  # plain NRRD
    any_modality: bool = False  # also accept DICOM of another modality

    def __post_init__(self) -> None:
        if self.ending is not None and self.ending not in ENDINGS:
            raise InputError(f"result_extension must be one of {', '.join(ENDINGS)}, got {self.ending!r}")
        if self.dtype not in DTYPES:
            raise InputError(f"result_dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


def segment_image(segmenter: Segmenter, image: Path, options: ResultOptions) -> tuple[Path, dict[str, Any]]:
    """Segment one image.

    Args:
        segmenter: segments the image.
        image: file or DICOM.
        options: of the result.

    Returns:
        A new temporary file, which the caller removes, and the report.

    Raises:
        InputError: the image cannot be segmented, or not with these options.
        OutputError: the result cannot be written or verified.
    """
    ending = options.ending or (".png" if is_picture(image) else ".nii.gz")
    kind = format_for(ENDINGS[ending], image)
    request = Request(
        formats=(kind,), depth=options.depth, uncertainty=options.uncertainty, any_modality=options.any_modality
    )
    with tempfile.TemporaryDirectory(prefix="unetpp_") as name:
        folder = Path(name)
        result = segment_case(segmenter, image, folder, request)
        name = case_name(image, segmenter.bundle.channel_suffixes)
        report = json.loads((folder / f"{name}.json").read_text())
        file = folder / f"{name}{FORMATS[kind][0]}"
        if ending == ".nrrd":
            file = folder / "result.nrrd"
            _write_nrrd(result, file, options, flat=is_picture(image))
        elif kind == "picture":
            ending = ".png"
        return _keep(file, ending), _params(segmenter, report)


def _params(segmenter: Segmenter, report: dict[str, Any]) -> dict[str, Any]:
    """Convert the report for clients of MONAI Label: label names, and wall times in seconds."""
    seconds = report["seconds"]
    labels = segmenter.bundle.labels
    steps = {
        "pre": ("reading", "preprocessing"),
        "infer": ("network",),
        "post": ("postprocessing",),
        "write": ("writing",),
    }
    latencies = {step: round(sum(seconds[part] for part in parts), 4) for step, parts in steps.items()}
    return {
        "label_names": {label.name: label.index for label in labels},
        "label_colours": {label.name: label_colour(label) for label in labels},
        "latencies": {**latencies, "total": round(sum(seconds.values()), 4)},
        **{key: value for key, value in report.items() if key not in HIDDEN},
    }


def _write_nrrd(result: Segmentation, path: Path, options: ResultOptions, *, flat: bool) -> None:
    """Write plain NRRD as other MONAI Label apps do, with one dtype, for OHIF."""
    from monailabel.transform.writer import write_itk

    labels = result.labels
    array = labels.array[0, :, :, 0] if flat else labels.array[0]
    write_itk(array, str(path), None if flat else labels.affine, np.dtype(options.dtype), options.compress)
    back = read_volume(path, labels=True)
    if not np.array_equal(back.array.reshape(labels.array.shape), labels.array) or not (flat or back.same_grid(labels)):
        raise OutputError("a result must equal the label map, got a difference when the NRRD file was read back")


def _keep(file: Path, ending: str) -> Path:
    """Move a file to a new name that reveals nothing about the image."""
    with tempfile.NamedTemporaryFile(prefix="unetpp_", suffix=ending, delete=False) as kept:
        shutil.move(file, kept.name)
    return Path(kept.name)
