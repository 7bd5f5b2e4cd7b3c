"""`unetpp evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import InputError, OutputError
from ..files import check_free
from ..words import counted
from .common import OverwriteOption, ReferenceValuesOption, console, label_values

if TYPE_CHECKING:
    from ..workflows.evaluate import Report, Summary


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of label maps, such as results of `unetpp segment`.")],
    references: Annotated[Path, typer.Argument(help="Folder of label maps on the same grids, with the same names.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSON to write; .csv and .svg beside it.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", "--task", help="Bundle folder or included task with the labels to compare."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of surface Dice, mm; pixels for pictures.")] = 1.0,
    grid_tolerance: Annotated[
        float, typer.Option(help="Most distance between grids of equal shape, voxels, for rounded headers.")
    ] = 0.1,
    reference_values: ReferenceValuesOption = "",
    partial: Annotated[bool, typer.Option("--partial", help="Skip references without prediction.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare label maps with references: Dice, IoU, HD95, surface Dice, volume error, with confidence intervals."""
    from ..bundle import read_bundle
    from ..workflows.evaluate import evaluate as evaluate_folders
    from ..workflows.evaluate import write_report

    if output is not None:
        _check_target(output, overwrite=overwrite)
    labels = None if bundle is None else {label.index: label.name for label in read_bundle(bundle).labels}
    report = evaluate_folders(
        predictions,
        references,
        labels=labels,
        tolerance=tolerance,
        grid_tolerance=grid_tolerance,
        reference_values=label_values(reference_values),
        partial=partial,
    )
    _print_report(report)
    if output is not None:
        from ..workflows.preview import write_distribution

        write_distribution(report.spread(), output.with_suffix(".svg"))
        write_report(report, output)
        files = ", ".join(str(path) for path in _files(output))
        console.print(f"written: {files}", markup=False, highlight=False, soft_wrap=True)


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".json":
        raise InputError(f"a report must end in .json, got {path}")
    if not path.parent.is_dir():
        raise OutputError(f"a report's folder must exist, got {path.parent}; make it first")
    check_free(_files(path), overwrite=overwrite)


def _files(path: Path) -> list[Path]:
    """List the files of a report."""
    return [path.with_suffix(suffix) for suffix in (".json", ".csv", ".svg")]


def _print_report(report: "Report") -> None:
    out = Console()
    table = Table("label", *report.names().values(), title="mean over cases [95 % bootstrap interval]")
    cells: dict[str, list[str]] = {}
    for summary in report.summary:
        cells.setdefault(summary.label, []).append(_cell(summary))
    for label, row in cells.items():
        table.add_row(label, *row)
    out.print(table)
    cases = report.mean_dice()
    out.print(
        f"{counted(len(cases), 'case')}; lowest Dice: "
        + ", ".join(f"{case} {dice:.3f}" for case, dice in report.worst())
    )
    if report.without_prediction:
        out.print(f"skipped {counted(len(report.without_prediction), 'reference')} without a prediction")


def _cell(summary: "Summary") -> str:
    if summary.mean is None:
        return "undefined"
    digits = 3 if abs(summary.mean) < 10 else 1
    interval = "" if summary.low is None else f" [{summary.low:.{digits}f}, {summary.high:.{digits}f}]"
    return f"{summary.mean:.{digits}f}{interval} n={summary.cases}"
