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
    source: Annotated[Path | None, typer.Option(help="The DICOM images that the labels belong to.")] = None,
    series: Annotated[str | None, typer.Option(help="Which series of --source: UID, number or description.")] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:NAME:VERSION]", help="How the labels came about, as in automatic:NAME:1.0; or manual."
        ),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of DICOM SEG: binary or labelmap.")] = "binary",
    roi: Annotated[list[str] | None, typer.Option(help="A structure that is wanted; may be repeated.")] = None,
    thickness: Annotated[
        float | None, typer.Option(help="Mm of a slice, of a DICOM SEG of one plane that does not say.")
    ] = None,
    other_patient: Annotated[
        bool, typer.Option("--other-patient", help="Labels of another patient or study than --source are meant.")
    ] = False,
    bundle: BundleOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a label map to other formats; every file is read back and compared before it is delivered."""
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
