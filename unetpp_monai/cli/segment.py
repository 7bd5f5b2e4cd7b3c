"""`unetpp segment` and `unetpp demo`."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from ..dicom.deidentify import read_key
from ..files import make_folder, results_folder
from ..io import case_name, read_volume
from ..words import counted, done_before
from .common import (
    AnyModalityOption,
    BundleOption,
    DepthOption,
    DeviceOption,
    EncodingOption,
    FormatOption,
    MirrorOption,
    OverwriteOption,
    PrecisionOption,
    PseudonymiseOption,
    RetainUidsOption,
    RuntimeOption,
    SeriesOption,
    TrustOption,
    UncertaintyOption,
    VerifyOption,
    WeightsOption,
    axes_of,
    comma_separated,
    console,
    print_progress,
    progress_bars,
    report_failures,
    with_flag,
)

if TYPE_CHECKING:
    from ..segmentation import Segmentation
    from ..workflows.many import Row

PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}
SHOWN = 10  # most cases listed


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Image files, folders of them, DICOM series folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for <case>_seg.nii.gz (or .png, .dcm ...) and <case>.json.")
    ],
    formats: FormatOption = "nifti",
    series: SeriesOption = None,
    encoding: EncodingOption = "binary",
    pseudonymise: PseudonymiseOption = None,
    retain_uids: RetainUidsOption = False,
    bundle: BundleOption = None,
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "float32",
    mirror: MirrorOption = None,
    uncertainty: UncertaintyOption = False,
    weights: WeightsOption = None,
    trust: TrustOption = False,
    any_modality: AnyModalityOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
    lines: Annotated[
        bool, typer.Option("--progress", help="Print lines such as progress 3/8 on stderr, for other programs.")
    ] = False,
) -> None:
    """Segment images; exit 0 only if every case was written."""
    from ..bundle import read_bundle, release
    from ..segmenter import Segmenter
    from ..workflows.many import collect_cases, segment_cases
    from ..workflows.request import Request

    request = Request(
        formats=comma_separated(formats),
        series=tuple(series or ()),
        depth=depth,
        mirror_axes=axes_of(mirror),
        uncertainty=uncertainty,
        encoding=encoding,
        key=None if pseudonymise is None else read_key(pseudonymise),
        retain_uids=retain_uids,
        any_modality=any_modality,
        overwrite=overwrite,
    )
    found = read_bundle(bundle, weights=weights, trust=trust)
    cases, rows = collect_cases(inputs, whole=bool(series), channels=found.channel_suffixes)
    if cases:
        with results_folder(output), progress_bars() as progress:
            segmenter = Segmenter(
                found, device=device, depth=depth, runtime=runtime, precision=precision, volumes=len(cases)
            )
            release(found.root)
            segmenter.check_mirror_axes(request.mirror_axes)
            bar = progress.add_task("cases", total=len(cases))
            shown = partial(_shown, progress, progress.add_task("windows", total=None), lines=lines)
            for row in segment_cases(segmenter, cases, output, request, verify=verify, progress=shown):
                rows.append(row)
                progress.advance(bar)
    if done := sum(row.status == "done" for row in rows):
        console.print(done_before(done, len(rows)), highlight=False)
    _say_written(rows, output)
    _warn_of_implausible(rows)
    report_failures([(str(row.case), with_flag(row.reason, row.error)) for row in rows if row.status == "failed"])


def _say_written(rows: "list[Row]", output: Path) -> None:
    """Print the volumes of each case, and the output folder."""
    written = [row for row in rows if row.result is not None]
    out = Console()
    for row in written[:SHOWN]:
        if row.result is not None:
            out.print(f"{case_name(row.case)}: {amounts(row.result)}", **PLAIN)
    if len(written) > SHOWN:
        out.print(f"and {len(written) - SHOWN} more: see their reports", **PLAIN)
    if written:
        out.print(f"{counted(len(written), 'case')} written to {output}", **PLAIN)


def amounts(result: "Segmentation") -> str:
    """Name each label with its mL, or its pixels in pictures."""
    if result.ml:
        return ", ".join(f"{name} {ml:.2f} mL" for name, ml in result.ml.items())
    return ", ".join(f"{name} {counted(count, 'pixel')}" for name, count in result.voxels.items())


def _warn_of_implausible(rows: "list[Row]") -> None:
    """Print which results are implausible for the bundle, and why; reports have all reasons."""
    doubtful = [(row.case, row.result.plausibility) for row in rows if row.result and row.result.plausibility]
    for case, reasons in doubtful[:SHOWN]:
        console.print(f"review {case}: {'; '.join(reasons)}", markup=False, highlight=False, soft_wrap=True)
    if len(doubtful) > SHOWN:
        console.print(f"and {len(doubtful) - SHOWN} more: see plausibility in their reports", highlight=False)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("demo_output"),
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "eager",
) -> None:
    """Segment the included MRI sample, print the volumes, write label map, JSON and picture."""
    from ..segmenter import Segmenter
    from ..workflows.preview import write_preview
    from ..workflows.request import Request
    from ..workflows.segment import segment_case

    sample = Path(__file__).parents[1] / "sample" / "mni_head.nii.gz"
    make_folder(output)
    segmenter = Segmenter.from_bundle(device=device, depth=depth, runtime=runtime)
    with progress_bars() as progress:
        windows = progress.add_task(case_name(sample), total=None)
        request = Request(depth=depth, overwrite=True)
        result = segment_case(segmenter, sample, output, request, progress=_shown(progress, windows, sample))
    out = Console()
    for name, ml in result.ml.items():
        out.print(f"{name}: {ml:.2f} mL", highlight=False)
    out.print(f"{sum(result.seconds.values()):.2f} s on {result.device}; results are in {output}", **PLAIN)
    if find_spec("matplotlib") is None:
        out.print("no picture, which needs matplotlib; pip install 'unetpp_monai[train]'", **PLAIN)
        return
    picture = output / f"{case_name(sample)}.png"
    structures = [] if result.located is None else [found.labels for found in result.located.found]
    write_preview(read_volume(sample), result.labels, segmenter.bundle.labels, picture, structures=structures)
    out.print(f"look at {picture}", **PLAIN)


def _shown(bars: Progress, task: TaskID, case: Path, *, lines: bool = False) -> Callable[[int, int], None]:
    bars.reset(task, total=None, description=case_name(case))

    def show(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)
        if lines:
            print_progress(done, total)

    return show
