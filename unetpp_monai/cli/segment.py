"""`unetpp segment` and `unetpp demo`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from ..dicom.deidentify import read_key
from ..errors import InputError, UnetppError
from ..files import make_folder
from ..io import case_name, find_cases, read_volume
from ..io.cases import distinct_cases
from .common import (
    BundleOption,
    DepthOption,
    DeviceOption,
    OverwriteOption,
    PrecisionOption,
    RuntimeOption,
    WeightsOption,
    comma_separated,
    message_of,
    print_progress,
    progress_bars,
    report_failures,
)


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Image files, folders of them, DICOM series folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for <case>_seg.nii.gz (or .png, .dcm ...) and <case>.json.")
    ],
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: nifti, segnrrd, dicomseg, rtstruct, sr.")
    ] = "nifti",
    series: Annotated[
        str | None, typer.Option(help="Which DICOM series of each input: UID, number or description.")
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of DICOM SEG: binary, or labelmap (smaller, fewer readers).")
    ] = "binary",
    pseudonymise: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Replace identifiers in results by keyed hashes.")
    ] = None,
    retain_uids: Annotated[
        bool, typer.Option("--retain-uids", help="With --pseudonymise: keep UIDs, so that results fit their images.")
    ] = False,
    bundle: BundleOption = None,
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "float32",
    mirror: Annotated[
        str | None,
        typer.Option(help="Average mirrored passes over these axes of the network's grid, as in 0 or 0,1,2."),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write <case>_uncertainty.nii.gz, scores, and whether to review.")
    ] = False,
    weights: WeightsOption = None,
    overwrite: OverwriteOption = False,
    lines: Annotated[
        bool, typer.Option("--progress", help="Print lines such as progress 3/8 on stderr, for other programs.")
    ] = False,
) -> None:
    """Segment images; exit 0 only if every case was written."""
    import torch

    from ..segmenter import Segmenter
    from ..workflows.segment import Request, segment_case

    request = Request(
        formats=comma_separated(formats),
        series=series,
        depth=depth,
        mirror_axes=_axes(mirror),
        uncertainty=uncertainty,
        encoding=encoding,
        key=None if pseudonymise is None else read_key(pseudonymise),
        retain_uids=retain_uids,
        overwrite=overwrite,
    )
    failures: list[tuple[str, str]] = []
    cases = _collect(inputs, failures, whole=series is not None)
    if cases:
        make_folder(output)
        segmenter = Segmenter.from_bundle(
            bundle, weights=weights, device=device, depth=depth, runtime=runtime, precision=precision
        )
        segmenter.check_mirror_axes(request.mirror_axes)
        with progress_bars() as progress:
            bar = progress.add_task("cases", total=len(cases))
            for case in cases:
                windows = progress.add_task(case_name(case), total=None)
                try:
                    segment_case(segmenter, case, output, request, progress=_shown(progress, windows, lines=lines))
                except (UnetppError, MemoryError, torch.OutOfMemoryError) as error:
                    failures.append((str(case), message_of(error)))
                progress.remove_task(windows)
                progress.advance(bar)
    report_failures(failures)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("demo_output"),
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "eager",
) -> None:
    """Segment the MRI sample that came along, print the volumes, write label map, JSON and picture."""
    from ..segmenter import Segmenter
    from ..workflows.preview import write_preview
    from ..workflows.segment import Request, segment_case

    sample = Path(__file__).parents[1] / "sample" / "mni_hippocampus_right.nii.gz"
    make_folder(output)
    segmenter = Segmenter.from_bundle(device=device, depth=depth, runtime=runtime)
    with progress_bars() as progress:
        windows = progress.add_task(case_name(sample), total=None)
        request = Request(depth=depth, overwrite=True)
        result = segment_case(segmenter, sample, output, request, progress=_shown(progress, windows))
    picture = output / f"{case_name(sample)}.png"
    write_preview(read_volume(sample), result.labels, segmenter.bundle.labels, picture)
    out = Console()
    for name, ml in result.ml.items():
        out.print(f"{name}: {ml:.2f} mL", highlight=False)
    out.print(f"{sum(result.seconds.values()):.2f} s on {result.device}; look at {picture}", soft_wrap=True)


def _axes(text: str | None) -> tuple[int, ...] | None:
    """Parse `--mirror`; None: not given."""
    try:
        return None if text is None else tuple(int(axis) for axis in text.split(","))
    except ValueError as error:
        raise InputError(f"axes to mirror must be numbers as in 0,1,2, got {text!r}") from error


def _shown(bars: Progress, task: TaskID, *, lines: bool = False) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)
        if lines:
            print_progress(done, total)

    return show


def _collect(inputs: list[Path], failures: list[tuple[str, str]], *, whole: bool) -> list[Path]:
    """Cases of all inputs; an input that has none becomes a failure and does not stop the others."""
    cases: list[Path] = []
    for path in inputs:
        try:
            cases = distinct_cases([*cases, *find_cases(path, whole=whole)])
        except UnetppError as error:
            failures.append((str(path), message_of(error)))
    return cases
