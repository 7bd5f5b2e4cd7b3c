"""`unetpp segment` and `unetpp demo`."""

import json
import platform
import time
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from .. import __version__
from ..errors import InputError, OutputError, UnetppError
from ..io import case_name, find_cases, is_picture, read_volume, write_label_picture, write_nifti
from ..io.files import complete_file, sha256
from ..labels import label_colour
from .common import (
    BundleOption,
    DepthOption,
    DeviceOption,
    OverwriteOption,
    PrecisionOption,
    RuntimeOption,
    WeightsOption,
    make_folder,
    progress_bars,
    report_failures,
)

if TYPE_CHECKING:
    from ..segmenter import Segmentation, Segmenter

PACKAGES = ("torch", "monai", "numpy", "nibabel", "pydicom")  # whose versions decide a result


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Image files, folders of them, DICOM series folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for <case>_seg.nii.gz (or .png) and <case>.json.")
    ],
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
) -> None:
    """Segment images; exit 0 only if every case was written."""
    import torch

    from ..segmenter import Segmenter

    failures: list[tuple[str, str]] = []
    cases = _collect(inputs, failures)
    if cases:
        make_folder(output)
        segmenter = Segmenter.from_bundle(
            bundle, weights=weights, device=device, depth=_to_build(depth), runtime=runtime, precision=precision
        )
        if mirror is not None:
            segmenter.inferer.mirror_axes = _axes(mirror, segmenter.network.spatial_dims)
        options = _Options(depth, uncertainty, overwrite)
        with progress_bars() as progress:
            bar = progress.add_task("cases", total=len(cases))
            for case in cases:
                windows = progress.add_task(case_name(case), total=None)
                try:
                    _segment_case(segmenter, case, output, options, (progress, windows))
                except (UnetppError, MemoryError, torch.OutOfMemoryError) as error:
                    failures.append((str(case), str(error) or type(error).__name__))
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
    from ..preview import write_preview
    from ..segmenter import Segmenter

    sample = Path(__file__).parents[1] / "sample" / "mni_hippocampus_right.nii.gz"
    make_folder(output)
    segmenter = Segmenter.from_bundle(device=device, depth=_to_build(depth), runtime=runtime)
    with progress_bars() as progress:
        windows = progress.add_task(case_name(sample), total=None)
        result = _segment_case(segmenter, sample, output, _Options(depth, False, True), (progress, windows))
    picture = output / f"{case_name(sample)}.png"
    write_preview(read_volume(sample), result.labels, segmenter.bundle.labels, picture)
    out = Console()
    for name, ml in result.ml.items():
        out.print(f"{name}: {ml:.2f} mL", highlight=False)
    out.print(f"{sum(result.seconds.values()):.2f} s on {result.device}; look at {picture}", soft_wrap=True)


@dataclass(frozen=True)
class _Options:
    """What one case is segmented with."""

    depth: str | None  # as on the command line
    uncertainty: bool  # write the map
    overwrite: bool  # replace results that exist


def _to_build(depth: str | None) -> int | None:
    """The depth to build, None = all of it: what is not needed is not loaded."""
    return int(depth) if depth is not None and depth.isdecimal() else None


def _axes(text: str, spatial_dims: int) -> tuple[int, ...]:
    allowed = [str(axis) for axis in range(spatial_dims)]
    if not set(text.split(",")) <= set(allowed):
        raise InputError(f"axes to mirror must be of {', '.join(allowed)}, got {text!r}")
    return tuple(sorted({int(axis) for axis in text.split(",")}))


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
    segmenter: "Segmenter", case: Path, output: Path, options: _Options, bar: tuple[Progress, TaskID]
) -> "Segmentation":
    """Read, segment, write `<case>_seg.nii.gz` (of a picture `.png`) and `<case>.json`, all or nothing."""
    name = case_name(case)
    labels = output / f"{name}_seg{'.png' if is_picture(case) else '.nii.gz'}"
    doubts, report = output / f"{name}_uncertainty.nii.gz", output / f"{name}.json"
    for target in (labels, report, *([doubts] if options.uncertainty else [])):
        if target.exists() and not options.overwrite:
            raise OutputError(f"{target} exists; choose another folder or --overwrite")
    progress, task = bar
    start = time.perf_counter()
    volume = read_volume(case)
    reading = time.perf_counter() - start
    result = segmenter(
        volume,
        depth=options.depth,
        uncertainty=options.uncertainty,
        progress=lambda done, all: progress.update(task, completed=done, total=all),
    )
    like = case if case.name.lower().endswith((".nii", ".nii.gz")) else None
    with complete_file(report) as temporary:
        start = time.perf_counter()
        if result.uncertainty is not None:
            write_nifti(result.uncertainty, doubts, like=like)
        if is_picture(case):
            write_label_picture(
                result.labels, labels, colours=[label_colour(label) for label in segmenter.bundle.labels]
            )
        else:
            write_nifti(result.labels, labels, like=like)
        seconds = {"reading": reading, **result.seconds, "writing": time.perf_counter() - start}
        temporary.write_text(json.dumps(_provenance(case, labels, result, seconds), indent=2) + "\n")
    return result


def _provenance(case: Path, labels: Path, result: "Segmentation", seconds: dict[str, float]) -> dict[str, Any]:
    names = [field.name for field in fields(result) if field.name not in ("labels", "uncertainty", "seconds")]
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
