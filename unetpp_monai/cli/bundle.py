"""`unetpp info`, `unetpp export` and `unetpp pack`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .common import BundleOption, WeightsOption


def info(bundle: BundleOption = None) -> None:
    """Show a bundle: labels, expected input, and what each depth gives and costs."""
    from ..bundle import load_network, read_bundle
    from ..runtimes.backend import choose_device

    found = read_bundle(bundle)
    network = load_network(found, found.parser(), choose_device("cpu"))
    out = Console()
    out.print(f"[bold]{found.name}[/bold] {found.version}\n{found.metadata.get('description', '')}")
    out.print(f"folder   {found.root}\nweights  sha256 {found.weights_sha256}", highlight=False, soft_wrap=True)
    image = found.input
    out.print(f"input    {image.channels} channel(s), {image.modality}: {', '.join(image.channel_names)}")
    for label in found.labels:
        codes = ", ".join(
            f"{code.meaning} ({code.scheme} {code.value})" for code in (label.type, label.modifier) if code
        )
        out.print(f"label {label.index}  {label.name}: {codes}", highlight=False)
    measured = found.metadata.get("depths", {})
    columns = list(dict.fromkeys(column for row in measured.values() for column in row))
    table = Table("depth", "parameters", "MB", *columns)
    for d in range(network.first_head, network.depth + 1):
        row = measured.get(str(d), {})
        parameters = sum(parameter.numel() for parameter in network.prune(d).parameters())
        cells = (str(row.get(column, "not measured")) for column in columns)
        table.add_row(str(d), f"{parameters:,}", f"{parameters * 4 / 1e6:.1f}", *cells)
    if "auto" in measured:
        cells = (str(measured["auto"].get(column, "not measured")) for column in columns)
        table.add_row("auto", "as needed", "", *cells)
    out.print(table)
    review = found.review
    if review.threshold is not None:
        line = f"review   from score {review.threshold} ({review.measure})"
        if review.share is not None and review.recall is not None:
            line += f": {review.share:.0%} of validation cases, which hold {review.recall:.0%} of their worst quarter"
        out.print(line)


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: .onnx, .xml (OpenVINO), .ts or .pt2.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino, torchscript or torch-export.")],
    depth: Annotated[int | None, typer.Option(help="Write no deeper nodes than this; default: all.")] = None,
    bundle: BundleOption = None,
    weights: WeightsOption = None,
) -> None:
    """Write the network for another runtime, with a sidecar; checked against PyTorch before it is delivered."""
    from ..bundle import read_bundle
    from ..workflows.export import export as export_network

    written = export_network(read_bundle(bundle, weights=weights), output, to=to, depth=depth)
    Console().print(
        f"{written.file}\n{written.sidecar}\nlargest difference of logits from PyTorch {written.difference:.1e}",
        soft_wrap=True,
        highlight=False,
    )


def pack(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for <name>/ and <name>.zip.")] = Path("dist"),
    task: Annotated[
        str | None, typer.Option(help="Folder of a task, or the name of one that came along; default: hippocampus.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle to pack again, instead of a task.")] = None,
) -> None:
    """Write a self-contained bundle: configs, weights and this package, loadable where only MONAI is installed."""
    from ..task import check_task

    if task is not None and bundle is None:
        check_task(task)  # first, before anything heavy is loaded
    from ..workflows.pack import pack as pack_bundle

    packed = pack_bundle(output, task=task, bundle=bundle)
    Console().print(f"{packed.folder}\n{packed.archive}", soft_wrap=True)
