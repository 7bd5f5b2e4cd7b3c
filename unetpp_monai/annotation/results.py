"""One request to one result file: read, segment and write as the command line does; formats as clients ask."""

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

# file names' endings -> format of io.outputs; plain NRRD is made of the NIfTI file's label map
ENDINGS = {".nii.gz": "nifti", ".png": "picture", ".seg.nrrd": "segnrrd", ".dcm": "dicomseg", ".nrrd": "nifti"}
DTYPES = ("uint8", "uint16", "int16", "int32", "float32")  # of plain NRRD; any other file is uint8
HIDDEN = ("schema", "input", "outputs", "software")  # of the report: its form, paths and versions of the server


@dataclass(frozen=True)
class Wanted:
    """What a client asked for."""

    ending: str | None = None  # of `ENDINGS`; None: NIfTI, or PNG of a picture
    depth: DepthLike = None  # as `Segmenter` takes it
    uncertainty: bool = False  # also give scores
    dtype: str = "uint8"  # of `DTYPES`, for plain NRRD
    compress: bool = False  # plain NRRD
    any_modality: bool = False  # also DICOM of another modality than the bundle's

    def __post_init__(self) -> None:
        if self.ending is not None and self.ending not in ENDINGS:
            raise InputError(f"result_extension must be one of {', '.join(ENDINGS)}, got {self.ending!r}")
        if self.dtype not in DTYPES:
            raise InputError(f"result_dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


def segment_image(segmenter: Segmenter, image: Path, wanted: Wanted) -> tuple[Path, dict[str, Any]]:
    """Segment one image.

    Args:
        segmenter: what segments.
        image: file or DICOM.
        wanted: how to write the result.

    Returns:
        A new file in the system's folder of temporary files, which the caller removes, and the report.

    Raises:
        InputError: the image cannot be segmented, or not with these options.
        OutputError: the result cannot be written, or does not hold what it should when read again.
    """
    ending = wanted.ending or (".png" if is_picture(image) else ".nii.gz")
    kind = format_for(ENDINGS[ending], image)
    request = Request(
        formats=(kind,), depth=wanted.depth, uncertainty=wanted.uncertainty, any_modality=wanted.any_modality
    )
    with tempfile.TemporaryDirectory(prefix="unetpp_") as name:
        folder = Path(name)
        result = segment_case(segmenter, image, folder, request)
        name = case_name(image, segmenter.bundle.channel_suffixes)
        report = json.loads((folder / f"{name}.json").read_text())
        file = folder / f"{name}{FORMATS[kind][0]}"
        if ending == ".nrrd":
            file = folder / "result.nrrd"
            _write_nrrd(result, file, wanted, flat=is_picture(image))
        elif kind == "picture":
            ending = ".png"
        return _keep(file, ending), _params(segmenter, report)


def _params(segmenter: Segmenter, report: dict[str, Any]) -> dict[str, Any]:
    """The report as clients of MONAI Label read it: label names, and wall times in seconds."""
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


def _write_nrrd(result: Segmentation, path: Path, wanted: Wanted, *, flat: bool) -> None:
    """Write as MONAI Label's other apps do: OHIF reads plain NRRD of one dtype only, as it is stored."""
    from monailabel.transform.writer import write_itk

    labels = result.labels
    array = labels.array[0, :, :, 0] if flat else labels.array[0]
    write_itk(array, str(path), None if flat else labels.affine, np.dtype(wanted.dtype), wanted.compress)
    back = read_volume(path, labels=True)
    if not np.array_equal(back.array.reshape(labels.array.shape), labels.array) or not (flat or back.same_grid(labels)):
        raise OutputError("a result must hold the label map, got another one when the NRRD file was read again")


def _keep(file: Path, ending: str) -> Path:
    """Move a file out of its folder, under a name of its own that says nothing of the image."""
    with tempfile.NamedTemporaryFile(prefix="unetpp_", suffix=ending, delete=False) as kept:
        shutil.move(file, kept.name)
    return Path(kept.name)
