"""`unetpp info`, `unetpp export` and `unetpp pack`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import InputError
from ..words import counted
from .common import BundleOption, DeviceOption, TrustOption, WeightsOption

if TYPE_CHECKING:
    from ..bundle import Bundle

SHOWN = 10  # most unlisted names shown
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # texts of a bundle are not markup


def info(
    bundle: BundleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show a bundle: labels, expected input, accuracy and cost of each depth, and whether it must be trusted.

    Runs no code of the bundle.
    """
    from ..bundle import parameters_by_depth, read_bundle

    found = read_bundle(bundle)
    out = Console()
    if as_json:
        out.print(json.dumps(_stated(found), indent=2), **PLAIN)
        return
    out.print(Text(f"{found.name} {found.version}\n{found.metadata.get('description', '')}", "bold"), soft_wrap=True)
    out.print(f"folder   {found.root}\nweights  sha256 {found.weights_sha256}", **PLAIN)
    image = found.input
    out.print(
        f"input    {counted(image.channels, 'channel')}, {image.modality}: {', '.join(image.channel_names)}", **PLAIN
    )
    for label in found.labels:
        codes = ", ".join(
            f"{code.meaning} ({code.scheme} {code.value})" for code in (label.type, *label.modifiers) if code
        )
        out.print(f"label {label.index}  {label.name}: {codes}", **PLAIN)
    out.print(_depths(found.metadata.get("depths", {}), parameters_by_depth(found)))
    review = found.review
    if review.threshold is not None:
        line = f"review   from score {review.threshold} ({review.measure})"
        if review.share is not None and review.recall is not None:
            line += f": flags {review.share:.0%} of validation cases, with {review.recall:.0%} of the worst quarter"
        out.print(line)
    for one in found.foreign[:SHOWN]:
        out.print(f"trust    runs only with --trust: {one}", style="red", **PLAIN)
    if len(found.foreign) > SHOWN:
        out.print(f"         and {len(found.foreign) - SHOWN} more", style="red")
    if not found.foreign:
        out.print("trust    not needed: its configs use listed names only")


def _stated(found: "Bundle") -> dict[str, Any]:
    """Return what `info` shows, in JSON types."""
    from ..bundle import parameters_by_depth

    return {
        "name": found.name,
        "version": found.version,
        "description": found.metadata.get("description", ""),
        "folder": str(found.root),
        "weights_sha256": found.weights_sha256,
        "input": asdict(found.input),
        "channel_suffixes": list(found.channel_suffixes),
        "labels": [asdict(label) for label in found.labels],
        "depths": found.metadata.get("depths", {}),
        "parameters": {str(depth): count for depth, count in parameters_by_depth(found).items()},
        "review": asdict(found.review),
        "must_be_trusted_for": [str(one) for one in found.foreign],
    }


def _depths(measured: Mapping[str, Mapping[str, Any]], parameters: Mapping[int, int]) -> Table:
    """Return a table of accuracy and cost by depth."""
    columns = list(dict.fromkeys(column for row in measured.values() for column in row))
    table = Table("depth", "parameters", "MB")
    for column in columns:
        table.add_column(Text(column))
    counts: dict[str, tuple[str, str]] = {
        str(depth): (f"{count:,}", f"{count * 4 / 1e6:.1f}") for depth, count in parameters.items()
    }
    if "auto" in measured:
        counts["auto"] = ("as needed", "")
    for depth, sizes in counts.items():
        row = measured.get(depth, {})
        table.add_row(depth, *sizes, *(Text(str(row.get(column, "not measured"))) for column in columns))
    return table


def export(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="File to write: .onnx, .xml (OpenVINO), .ts or .pt2; a folder with --layout."
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino, torchscript or torch-export.")] = "",
    layout: Annotated[
        str, typer.Option(help="Write a model folder for a server instead: triton or openvino-server.")
    ] = "",
    depth: Annotated[int | None, typer.Option(help="Write nodes up to this depth; default: all.")] = None,
    bundle: BundleOption = None,
    weights: WeightsOption = None,
    trust: TrustOption = False,
) -> None:
    """Export the network for another runtime, with a sidecar; verified against PyTorch."""
    from ..bundle import read_bundle
    from ..workflows.export import export as export_network
    from ..workflows.serving import export_for_server

    if bool(to) == bool(layout):
        raise InputError(f"export needs either --to or --layout, got {'both' if to else 'neither'}; give one")
    found = read_bundle(bundle, weights=weights, trust=trust)
    if layout:
        written = export_for_server(found, output, layout=layout, depth=depth)
    else:
        written = export_network(found, output, to=to, depth=depth)
    Console().print(
        f"{written.file}\n{written.sidecar}\nlargest difference of logits from PyTorch {written.difference:.1e}",
        soft_wrap=True,
        highlight=False,
    )


def pack(
    task: Annotated[
        str | None, typer.Argument(help="Folder of a task, or the name of an included one; default: hippocampus_head.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for <name>/ and <name>.zip.")] = Path("dist"),
    named: Annotated[str | None, typer.Option("--task", help="Same as the TASK argument.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Pack this bundle again instead of a task.")] = None,
    trust: TrustOption = False,
    weights: Annotated[
        str, typer.Option(metavar="RUN", help="Training run: all, fold0, ...; default: all, or the only one.")
    ] = "",
    depth: Annotated[
        str, typer.Option(metavar="auto|N|full", help="Default depth; auto: the shallowest without loss of accuracy.")
    ] = "auto",
    max_loss: Annotated[float, typer.Option(help="Highest loss of mean Dice at a shallower depth.")] = 0.002,
    calibrate: Annotated[
        int, typer.Option(metavar="N", help="Most cases to calibrate early exit and review; 0: do not.")
    ] = 20,
    pictures: Annotated[bool, typer.Option(help="Show the worst three held-out cases on the card.")] = True,
    name_cases: Annotated[bool, typer.Option("--name-cases", help="Name the worst cases on the card.")] = False,
    dataset: Annotated[Path | None, typer.Option("--dataset", help="Data folder; default: the task's.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write a self-contained bundle of configs, weights and this package; it needs MONAI only.

    For a task trained by folds, the held-out folds choose depth, thresholds and postprocessing, as the card states.
    """
    from ..task import check_task

    if task is not None and named is not None:
        raise InputError(f"pack takes one task, got {task} and {named}; name one")
    task = task or named
    checked = check_task(task) if task is not None and bundle is None else None  # before loading large libraries
    out = Console()

    def say(line: str) -> None:
        out.print(line, **PLAIN)

    from ..workflows.pack import pack as pack_bundle
    from ..workflows.pack_runs import Options, has_runs, pack_runs

    options = Options(weights, depth, max_loss, calibrate, name_cases, pictures, dataset, device)
    if checked is not None and has_runs(checked, weights):
        packed = pack_runs(output, checked, options=options, say=say)
    elif weights or depth != "auto":
        raise InputError("--weights and --depth need a task with trainings, got none; train it first")
    else:
        packed = pack_bundle(output, task=task, bundle=bundle, trust=trust)
    say(f"{packed.folder}\n{packed.archive}")
