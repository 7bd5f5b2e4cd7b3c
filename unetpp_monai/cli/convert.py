"""`unetpp convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ..dicom.series import read_dicom_series
from ..errors import InputError, OutputError
from ..files import complete_folder
from ..io.label_files import read_label_file
from ..io.nifti import is_nifti
from ..provenance import ALGORITHM_KINDS, Algorithm
from ..workflows.outputs import FORMATS, Findings, check_formats, write_outputs
from .common import BundleOption, OverwriteOption, make_folder

if TYPE_CHECKING:
    from ..labels import Label

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".dcm")
ENDINGS = ("_seg", "_rtstruct")


def convert(
    labels: Annotated[Path, typer.Argument(help="Label map: NIfTI, .seg.nrrd, DICOM SEG or RTSTRUCT.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    formats: Annotated[str, typer.Option("--format", help="Comma-separated: nifti, segnrrd, dicomseg, rtstruct, sr.")],
    source: Annotated[Path | None, typer.Option(help="The DICOM images that the labels belong to.")] = None,
    series: Annotated[str | None, typer.Option(help="Which series of --source: UID, number or description.")] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:NAME:VERSION]", help="How the labels came about, as in automatic:NAME:1.0; or manual."
        ),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of DICOM SEG: binary or labelmap.")] = "binary",
    bundle: BundleOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a label map to other formats; every file is read back and compared before it is delivered."""
    image = None if source is None else read_dicom_series(source, series=series)
    wanted = check_formats(tuple(formats.replace(" ", "").split(",")), dicom=image is not None)
    volume, structures = read_label_file(
        labels, structures=_structures(bundle), grid=None if image is None else image.volume
    )
    name = _stem(labels)
    make_folder(output)
    for ending in (ending for kind in wanted for ending in FORMATS[kind]):
        if (output / f"{name}{ending}").exists() and not overwrite:
            raise OutputError(f"{output / f'{name}{ending}'} exists; choose another folder or --overwrite")
    counts = np.bincount(volume.array.ravel(), minlength=256)
    ml = {label.name: float(counts[label.index] * volume.voxel_ml) for label in structures}
    findings = Findings(
        volume,
        structures,
        ml,
        _algorithm(made_by, needed=image is not None),
        () if image is None else image.sources,
        labels if is_nifti(labels) else None,
        encoding,
    )
    with complete_folder(output) as folder:
        for written in write_outputs(findings, folder, name, formats=wanted).values():
            typer.echo(output / written["file"])


def _structures(bundle: Path | None) -> "tuple[Label, ...]":
    """What the values of a NIfTI file mean, if a bundle is named."""
    if bundle is None:
        return ()
    from ..bundle import read_bundle

    return read_bundle(bundle).labels


def _stem(path: Path) -> str:
    name = next((path.name[: -len(end)] for end in SUFFIXES if path.name.lower().endswith(end)), path.name)
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)


def _algorithm(made_by: str | None, *, needed: bool) -> Algorithm:
    """What DICOM is to say of how the labels came about; it is not ours to guess."""
    kind, *rest = (made_by or "manual").split(":")
    if needed and made_by is None:
        raise InputError("DICOM states how labels were made, got no --made-by; say manual or automatic:NAME:VERSION")
    if kind.upper() not in ALGORITHM_KINDS or len(rest) != (0 if kind == "manual" else 2):
        raise InputError(
            f"--made-by must be manual, semiautomatic:NAME:VERSION or automatic:NAME:VERSION, got {made_by}"
        )
    name, version = rest or ("", "")
    return Algorithm(name, version, kind=kind.upper())
