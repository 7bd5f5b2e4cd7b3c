"""The command line: parse, call, report, exit code. The only module that prints."""

import json
import platform
import signal
import sys
import time
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from . import __version__
from .errors import OutputError, UnetppError
from .io import case_name, find_cases, read_volume, write_nifti
from .io.files import complete_file, sha256

if TYPE_CHECKING:
    from .segmenter import Segmentation, Segmenter

app = typer.Typer(help="UNet++ for medical images: one set of weights, any depth.", no_args_is_help=True)
console = Console(stderr=True)
if not console.is_terminal:
    console.width = 240  # a log has no edge to wrap at

BundleOption = Annotated[Path | None, typer.Option("--bundle", help="Bundle folder; default: the one that came along.")]
DepthOption = Annotated[int | None, typer.Option(help="How deep to evaluate the network; default: all of it.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
PACKAGES = ("torch", "monai", "numpy", "nibabel", "pydicom")  # whose versions decide a result


@app.command()
def segment(
    inputs: Annotated[list[Path], typer.Argument(help="NIfTI files, folders of them, DICOM series folders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for <case>_seg.nii.gz and <case>.json.")],
    bundle: BundleOption = None,
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Segment images; exit 0 only if every case was written."""
    import torch

    from .segmenter import Segmenter

    failures: list[tuple[str, str]] = []
    cases = _collect(inputs, failures)
    if cases:
        _make_folder(output)
        segmenter = Segmenter.from_bundle(bundle, device=device)
        with _progress() as progress:
            bar = progress.add_task("cases", total=len(cases))
            for case in cases:
                windows = progress.add_task(case_name(case), total=None)
                try:
                    _segment_case(segmenter, case, output, depth, overwrite, (progress, windows))
                except (UnetppError, MemoryError, torch.OutOfMemoryError) as error:
                    failures.append((str(case), str(error) or type(error).__name__))
                progress.remove_task(windows)
                progress.advance(bar)
    _report_failures(failures)


@app.command()
def info(bundle: BundleOption = None) -> None:
    """Show a bundle: labels, expected input, and what each depth gives and costs."""
    from .bundle import load_network, read_bundle
    from .segmenter import choose_device

    found = read_bundle(bundle)
    network = load_network(found, found.parser(), choose_device("cpu"))
    image = found.metadata["network_data_format"]["inputs"]["image"]
    out = Console()
    out.print(f"[bold]{found.name}[/bold] {found.version}\n{found.metadata.get('description', '')}")
    out.print(f"folder   {found.root}\nweights  sha256 {found.weights_sha256}", highlight=False, soft_wrap=True)
    out.print(f"input    {image['num_channels']} channel(s), {image['modality']}: {image['channel_def']['0']}")
    for label in found.labels:
        codes = ", ".join(
            f"{code.meaning} ({code.scheme} {code.value})" for code in (label.type, label.modifier) if code
        )
        out.print(f"label {label.index}  {label.name}: {codes}", highlight=False)
    measured = found.metadata.get("depths", {})
    columns = list(dict.fromkeys(column for row in measured.values() for column in row))
    table = Table("depth", "parameters", *columns)
    for d in range(network.first_head, network.depth + 1):
        row = measured.get(str(d), {})
        parameters = sum(parameter.numel() for parameter in network.prune(d).parameters())
        table.add_row(str(d), f"{parameters:,}", *(str(row.get(column, "not measured")) for column in columns))
    out.print(table)


@app.command()
def pack(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for <name>/ and <name>.zip.")] = Path("dist"),
    task: Annotated[str | None, typer.Option(help="Overlay folder, or the name of one in configs/.")] = None,
    bundle: BundleOption = None,
) -> None:
    """Write a self-contained bundle: configs, weights and this package, loadable where only MONAI is installed."""
    from .packing import pack as pack_bundle

    packed = pack_bundle(output, task=task, bundle=bundle)
    Console().print(f"{packed.folder}\n{packed.archive}", soft_wrap=True)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("demo_output"),
    depth: DepthOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Segment the MRI sample that came along, print the volumes, write label map, JSON and picture."""
    from .preview import write_preview
    from .segmenter import Segmenter

    sample = Path(__file__).parent / "sample" / "mni_hippocampus_right.nii.gz"
    _make_folder(output)
    segmenter = Segmenter.from_bundle(device=device)
    with _progress() as progress:
        windows = progress.add_task(case_name(sample), total=None)
        result = _segment_case(segmenter, sample, output, depth, True, (progress, windows))
    picture = output / f"{case_name(sample)}.png"
    write_preview(read_volume(sample), result.labels, segmenter.bundle.labels, picture)
    out = Console()
    for name, ml in result.ml.items():
        out.print(f"{name}: {ml:.2f} mL", highlight=False)
    out.print(f"{sum(result.seconds.values()):.2f} s on {result.device}; look at {picture}", soft_wrap=True)


def _collect(inputs: list[Path], failures: list[tuple[str, str]]) -> list[Path]:
    """Cases of all inputs; an input that has none becomes a failure and does not stop the others."""
    cases: list[Path] = []
    for path in inputs:
        try:
            cases = find_cases([*cases, path])
        except UnetppError as error:
            failures.append((str(path), str(error)))
    return cases


def _segment_case(
    segmenter: "Segmenter", case: Path, output: Path, depth: int | None, overwrite: bool, bar: tuple[Progress, TaskID]
) -> "Segmentation":
    """Read, segment, write `<case>_seg.nii.gz` and `<case>.json`, both or neither."""
    labels, report = output / f"{case_name(case)}_seg.nii.gz", output / f"{case_name(case)}.json"
    for target in (labels, report):
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists; choose another folder or --overwrite")
    progress, task = bar
    start = time.perf_counter()
    volume = read_volume(case)
    reading = time.perf_counter() - start
    result = segmenter(volume, depth=depth, progress=lambda done, all: progress.update(task, completed=done, total=all))
    with complete_file(report) as temporary:
        start = time.perf_counter()
        write_nifti(result.labels, labels, like=case if case.name.lower().endswith((".nii", ".nii.gz")) else None)
        seconds = {"reading": reading, **result.seconds, "writing": time.perf_counter() - start}
        temporary.write_text(json.dumps(_provenance(case, labels, result, seconds), indent=2) + "\n")
    return result


def _provenance(case: Path, labels: Path, result: "Segmentation", seconds: dict[str, float]) -> dict[str, Any]:
    names = [field.name for field in fields(result) if field.name not in ("labels", "seconds")]
    return {
        "input": str(case.resolve()),
        "input_sha256": sha256(case),
        "output": labels.name,
        **{name: getattr(result, name) for name in names},
        "seconds": {step: round(value, 4) for step, value in seconds.items()},
        "software": {"unetpp_monai": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # importable without being installed, as in a packed bundle
            found[package] = "unknown"
    return found


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} must be a folder we can write to, got {error.strerror}; choose another") from error


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _report_failures(failures: list[tuple[str, str]]) -> None:
    if len(failures) == 1:
        ((case, reason),) = failures
        _print_error(reason if case in reason else f"{case}: {reason}")
        raise typer.Exit(1)
    if failures:
        table = Table(title=f"{len(failures)} cases failed", show_lines=True)
        table.add_column("case", overflow="fold")
        table.add_column("not written, because", overflow="fold")
        for case, reason in failures:
            table.add_row(Text(case), Text(reason))
        console.print(table)
        raise typer.Exit(1)


def _print_error(message: str) -> None:
    console.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; errors of ours become one line and exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that temporary files go
    try:
        app()
    except UnetppError as error:
        _print_error(str(error))
        sys.exit(1)
