"""What the commands share: options, progress bars, failures. The only room that prints."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..errors import InputError, UnetppError

console = Console(stderr=True)
if not console.is_terminal:
    console.width = 240  # a log has no edge to wrap at

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
    typer.Option(metavar="N|auto|full", help="How deep to evaluate the network; auto: each window as needed."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
RuntimeOption = Annotated[
    str,
    typer.Option(help="auto (OpenVINO if installed), eager, compile, torchscript, openvino, onnxruntime, tensorrt."),
]
PrecisionOption = Annotated[str, typer.Option(help="Of convolutions: float32, bfloat16 or float16.")]
WeightsOption = Annotated[Path | None, typer.Option(help="Instead of the bundle's, such as a training's model.pt.")]
ReferenceValuesOption = Annotated[str, typer.Option(help="The references' values of labels 0, 1, ..., as in 0,255.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Let the bundle's configs run anything; read them first. `unetpp info` says what."),
]
FormatOption = Annotated[str, typer.Option("--format", help="Comma-separated: nifti, segnrrd, dicomseg, rtstruct, sr.")]
SeriesOption = Annotated[
    list[str] | None,
    typer.Option(help="Which DICOM series of each input: UID, number or description. Once for each channel."),
]
EncodingOption = Annotated[str, typer.Option(help="Of DICOM SEG: binary, or labelmap (smaller, fewer readers).")]
PseudonymiseOption = Annotated[
    Path | None, typer.Option(metavar="KEYFILE", help="Replace identifiers in results by keyed hashes.")
]
RetainUidsOption = Annotated[
    bool, typer.Option("--retain-uids", help="With --pseudonymise: keep UIDs, so that results fit their images.")
]
MirrorOption = Annotated[
    str | None, typer.Option(help="Average mirrored passes over these axes of the network's grid, as in 0 or 0,1,2.")
]
UncertaintyOption = Annotated[
    bool, typer.Option("--uncertainty", help="Also write <case>_uncertainty.nii.gz, scores, and whether to review.")
]
AnyModalityOption = Annotated[
    bool, typer.Option("--any-modality", help="Also take DICOM of another modality than the bundle's.")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Read inputs and results whole to see which cases are done already.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]


# what an error names as the way out (`UnetppError.option`) -> flag of the commands
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


def seconds_of(text: str) -> float:
    """Parse `--time`: 2h, 90min, 1h30min, 45m, 30s."""
    parts = re.fullmatch(
        r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", text.replace(" ", "")
    )
    if parts is None or not any(parts.groups()):
        raise InputError(f"time must be such as 2h, 45min, 1h30min or 30s, got {text!r}", option="time")
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds


def label_values(text: str) -> tuple[int, ...]:
    """Parse `--reference-values`."""
    try:
        return tuple(int(value) for value in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"reference values must be whole numbers as in 0,255, got {text!r}") from error


def progress_bars() -> Progress:
    """Bars on a terminal, nothing in a log."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def report_failures(failures: list[tuple[str, str]]) -> None:
    """Print what was not written and why, and exit with 1 if there is any."""
    if len(failures) == 1:
        ((case, reason),) = failures
        print_error(reason if case in reason else f"{case}: {reason}")
        raise typer.Exit(1)
    if failures:
        table = Table(title=f"{len(failures)} cases failed", show_lines=True)
        table.add_column("case", overflow="fold")
        table.add_column("not written, because", overflow="fold")
        for case, reason in failures:
            table.add_row(Text(case), Text(reason))
        console.print(table)
        raise typer.Exit(1)


def message_of(error: BaseException) -> str:
    """Say what went wrong, and which flag is the way out."""
    return with_flag(str(error) or type(error).__name__, error)


def with_flag(message: str, error: BaseException | None) -> str:
    """Add to what is said of an error the flag that is the way out, if there is one."""
    option = error.option if isinstance(error, UnetppError) else None
    return message if option is None else f"{message} ({FLAGS[option]})"


def print_error(message: str) -> None:
    """Print one line on stderr."""
    console.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_progress(done: int, total: int) -> None:
    """Print one line on stderr for programs that wait: windows done, windows in all."""
    console.print(f"progress {done}/{total}", highlight=False)
