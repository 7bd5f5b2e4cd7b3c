"""`unetpp convert`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..provenance import ALGORITHM_KINDS, Algorithm
from .common import BundleOption, OverwriteOption, comma_separated


def convert(
    labels: Annotated[Path, typer.Argument(help="Label map: NIfTI, .seg.nrrd, DICOM SEG or RTSTRUCT.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    formats: Annotated[str, typer.Option("--format", help="Comma-separated: nifti, segnrrd, dicomseg, rtstruct, sr.")],
    source: Annotated[Path | None, typer.Option(help="DICOM images of the labels.")] = None,
    series: Annotated[str | None, typer.Option(help="Series of --source: UID, number or description.")] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:NAME:VERSION]", help="Origin of the labels, such as automatic:NAME:1.0; or manual."
        ),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of DICOM SEG: binary or labelmap.")] = "binary",
    roi: Annotated[list[str] | None, typer.Option(help="Structure to convert; repeatable. Default: all.")] = None,
    thickness: Annotated[
        float | None, typer.Option(help="Slice thickness in mm for a single-plane DICOM SEG that states none.")
    ] = None,
    other_patient: Annotated[
        bool, typer.Option("--other-patient", help="Allow labels of another patient or study than --source.")
    ] = False,
    bundle: BundleOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a label map to other formats; every file is verified by reading it back."""
    from ..bundle import read_bundle
    from ..workflows.convert import convert as convert_labels

    written = convert_labels(
        labels,
        output,
        formats=comma_separated(formats),
        source=source,
        series=series,
        made_by=None if made_by is None else _algorithm(made_by),
        encoding=encoding,
        structures=() if bundle is None else read_bundle(bundle).labels,
        rois=tuple(roi or ()),
        thickness=thickness,
        allow_other_patient=other_patient,
        overwrite=overwrite,
    )
    for path in written:
        typer.echo(path)


def _algorithm(text: str) -> Algorithm:
    """Parse `--made-by`."""
    kind, *rest = text.split(":")
    if kind.upper() not in ALGORITHM_KINDS or len(rest) != (0 if kind == "manual" else 2):
        raise InputError(f"--made-by must be manual, semiautomatic:NAME:VERSION or automatic:NAME:VERSION, got {text}")
    name, version = rest or ("", "")
    return Algorithm(name, version, kind=kind.upper())
