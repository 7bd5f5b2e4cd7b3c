"""Options, progress bars and error output of all commands. Only cli prints."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..errors import InputError, UnetppError
from ..words import counted

console = Console(stderr=True)
if not console.is_terminal:
    console.width = 240  # do not wrap lines in a log

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        "--task",
        help="Bundle folder, or the name of an included task, such as hippocampus; default: the included bundle.",
    ),
]
DepthOption = Annotated[
    str | None,
    typer.Option(metavar="N|auto|full", help="Depth of the network; auto: as needed for each window."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
RuntimeOption = Annotated[
    str,
    typer.Option(help="auto (OpenVINO if installed), eager, compile, torchscript, openvino, onnxruntime, tensorrt."),
]
PrecisionOption = Annotated[str, typer.Option(help="Precision of convolutions: float32, bfloat16 or float16.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Weights file to use instead of the bundle's, such as a training's model.pt.")
]
ReferenceValuesOption = Annotated[
    str, typer.Option(help="Values of labels 0, 1, ... in the references, such as 0,255.")
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Let the bundle's configs run any code; read them first. `unetpp info` lists it."),
]
FormatOption = Annotated[str, typer.Option("--format", help="Comma-separated: nifti, segnrrd, dicomseg, rtstruct, sr.")]
SeriesOption = Annotated[
    list[str] | None,
    typer.Option(help="UID, number or description of the DICOM series in each input. Repeat for each channel."),
]
EncodingOption = Annotated[
    str, typer.Option(help="Encoding of DICOM SEG: binary, or labelmap (smaller, fewer readers).")
]
PseudonymiseOption = Annotated[
    Path | None, typer.Option(metavar="KEYFILE", help="Replace identifiers in results by keyed hashes.")
]
RetainUidsOption = Annotated[
    bool, typer.Option("--retain-uids", help="With --pseudonymise: keep UIDs, so that results match their images.")
]
MirrorOption = Annotated[
    str | None,
    typer.Option(help="Average predictions mirrored along these axes of the network's grid, such as 0 or 0,1,2."),
]
UncertaintyOption = Annotated[
    bool, typer.Option("--uncertainty", help="Also write <case>_uncertainty.nii.gz, scores, and whether to review.")
]
AnyModalityOption = Annotated[
    bool, typer.Option("--any-modality", help="Also accept DICOM of another modality than the bundle's.")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Verify hashes of inputs and results to find finished cases.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]


# option named in an error (`UnetppError.option`) -> flag of the commands
FLAGS = {
    "allow_other_patient": "--other-patient",
    "any_modality": "--any-modality",
    "axes": "--axes",
    "bundle": "--bundle",
    "ca": "--ca",
    "certificate": "--certificate",
    "depth": "--depth",
    "folds": "--folds",
    "fresh": "--fresh",
    "grid": "--source",
    "group": "--group",
    "image": "--image",
    "label": "--label",
    "labels": "--bundle",
    "made_by": "--made-by",
    "memory": "--memory",
    "mlflow": "--mlflow",
    "modality": "--modality",
    "move_port": "--move-port",
    "overwrite": "--overwrite",
    "partial": "--partial",
    "port": "--port",
    "rois": "--roi",
    "rules": "--rules",
    "runtime": "--runtime",
    "series": "--series",
    "spacing": "--spacing",
    "state": "--state",
    "steps": "--steps",
    "task": "--task",
    "thickness": "--thickness",
    "time": "--time",
    "trust": "--trust",
    "weights": "--weights",
    "workers": "--workers",
}


def comma_separated(text: str) -> tuple[str, ...]:
    """Parse `--format`."""
    return tuple(text.replace(" ", "").split(","))


def axes_of(text: str | None) -> tuple[int, ...] | None:
    """Parse `--mirror`; None: not given."""
    try:
        return None if text is None else tuple(int(axis) for axis in text.split(","))
    except ValueError as error:
        raise InputError(f"axes to mirror must be numbers as in 0,1,2, got {text!r}") from error


def label_values(text: str) -> tuple[int, ...]:
    """Parse `--reference-values`."""
    try:
        return tuple(int(value) for value in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"reference values must be whole numbers as in 0,255, got {text!r}") from error


def progress_bars() -> Progress:
    """Make progress bars, shown on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def report_failures(failures: list[tuple[str, str]]) -> None:
    """Print failed cases with reasons, and exit with 1 if there are any."""
    if len(failures) == 1:
        ((case, reason),) = failures
        print_error(reason if case in reason else f"{case}: {reason}")
        raise typer.Exit(1)
    if failures:
        table = Table(title=f"{counted(len(failures), 'case')} failed", show_lines=True)
        table.add_column("case", overflow="fold")
        table.add_column("not written, because", overflow="fold")
        for case, reason in failures:
            table.add_row(Text(case), Text(reason))
        console.print(table)
        raise typer.Exit(1)


def message_of(error: BaseException) -> str:
    """Return the message of an error, with the flag that helps."""
    return with_flag(str(error) or type(error).__name__, error)


def with_flag(message: str, error: BaseException | None) -> str:
    """Add the flag that helps to a message, if there is one."""
    return with_option(message, error.option if isinstance(error, UnetppError) else None)


def with_option(message: str, option: str | None) -> str:
    """Add the flag of an option to a message, if there is one."""
    return message if option is None else f"{message} ({FLAGS[option]})"


def print_error(message: str) -> None:
    """Print one line on stderr."""
    console.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_progress(done: int, total: int) -> None:
    """Print one line of progress on stderr for programs: windows done, total."""
    console.print(f"progress {done}/{total}", highlight=False)
