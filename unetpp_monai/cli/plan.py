"""`unetpp plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import InputError
from ..words import counted
from .common import OverwriteOption, comma_separated, print_error, progress_bars

if TYPE_CHECKING:
    from ..planning import Checked, Dataset, Fault

DatasetArgument = Annotated[
    Path, typer.Argument(help="Folder (nnU-Net v2, MSD, BIDS, images and labels) or CSV table.")
]
ModalityOption = Annotated[str, typer.Option(help="Modality, such as ct or mr; one per channel with commas.")]
MemoryOption = Annotated[str, typer.Option(help="Memory for training, such as 8GiB; auto: the GPU's.")]
TimeOption = Annotated[str, typer.Option(help="Time for each training, such as 2h.")]
SpacingOption = Annotated[str, typer.Option(metavar="X,Y,Z", help="Spacing in mm: right, anterior, superior.")]
FoldsOption = Annotated[int, typer.Option(help="Folds of cross-validation; 0: as many as fit.")]
GroupOption = Annotated[str, typer.Option(metavar="REGEX", help="Case names with the same match share a fold.")]
ImageOption = Annotated[str, typer.Option(help="BIDS: suffixes of the images, one per channel, such as T1w,FLAIR.")]
LabelOption = Annotated[str, typer.Option(help="BIDS: suffix of the label maps, such as dseg.")]


def plan(
    dataset: DatasetArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the task to write.")] = None,
    modality: ModalityOption = "",
    memory: MemoryOption = "auto",
    time: TimeOption = "",
    spacing: SpacingOption = "",
    folds: FoldsOption = 0,
    group: GroupOption = "",
    image: ImageOption = "",
    label: LabelOption = "",
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Plan a network that also takes clicks and scribbles.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the cases; write nothing.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Check labelled data and plan a training: task.json, metadata.json, cases.json, and plan.md with reasons."""
    from ..planning import Options, find_dataset
    from ..planning import plan as plan_task
    from ..planning.planner import check_folder, check_options

    if output is None and not check:
        raise InputError("a plan needs a folder, got none; name one with -o, or use --check")
    if output is not None:
        check_folder(output, overwrite=overwrite)
    options = Options(modality, memory, time, spacing_of(spacing), folds, interactive)
    check_options(options)
    found = find_dataset(dataset, images=comma_separated(image) if image else (), label=label, group=group)
    out = Console()
    checked = checked_dataset(found, out, modality=modality)
    if output is not None and not check:
        decided = plan_task(checked, output, options=options, overwrite=overwrite)
        for key in ("pixdim", "patch_size", "features", "batch_size", "num_folds"):
            out.print(f"{key:12} {decided.values[key]}", soft_wrap=True, markup=False, highlight=False)
        said = f"task written to {output}; {output / 'plan.md'} says why each value is what it is"
        out.print(said, soft_wrap=True, markup=False, highlight=False)


def checked_dataset(found: "Dataset", out: Console, *, modality: str = "") -> "Checked":
    """Check every case and print its faults; errors exit with 1."""
    from ..planning import check as check_dataset
    from ..planning.planner import summary

    with progress_bars() as progress:
        bar = progress.add_task("cases", total=len(found.cases))
        checked = check_dataset(found, modality=modality, progress=lambda done: progress.update(bar, completed=done))
    out.print(summary(checked), soft_wrap=True, markup=False, highlight=False)
    _print_faults(checked, out)
    if checked.errors:
        print_error(f"planning needs data without errors, got {counted(checked.errors, 'error')}; nothing was written")
        raise typer.Exit(1)
    return checked


def spacing_of(text: str) -> tuple[float, ...]:
    """Parse `--spacing`."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"spacing must be numbers as in 1,1,2.5, got {text!r}", option="spacing") from error


def _print_faults(checked: "Checked", out: Console) -> None:
    if not checked.faults:
        return
    if not out.is_terminal:
        for fault in checked.faults:
            typer.echo(_line(fault))
        return
    table = Table(
        title=f"{counted(checked.errors, 'error')}, {counted(len(checked.faults) - checked.errors, 'warning')}",
        show_lines=True,
    )
    for column in ("", "case", "what"):
        table.add_column(column, overflow="fold")
    for fault in checked.faults:
        table.add_row(Text(fault.kind), Text(fault.case), Text(fault.what))
    out.print(table)


def _line(fault: "Fault") -> str:
    """Return a tab-separated row: kind, case and fault."""
    return "\t".join((fault.kind, fault.case or "-", fault.what))
