"""`unetpp calibrate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import InputError
from ..files import check_free, complete_file
from ..io import case_name, find_cases, read_volume
from .common import (
    BundleOption,
    DeviceOption,
    OverwriteOption,
    ReferenceValuesOption,
    RuntimeOption,
    WeightsOption,
    label_values,
    progress_bars,
)


def calibrate(
    images: Annotated[list[Path], typer.Argument(help="Images that the weights were not trained on.")],
    references: Annotated[Path, typer.Option("--references", help="Folder of their label maps, with the same names.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON to write.")] = None,
    bundle: BundleOption = None,
    weights: WeightsOption = None,
    reference_values: ReferenceValuesOption = "",
    max_loss: Annotated[float, typer.Option(help="Of mean Dice that early exit may cost.")] = 0.001,
    share: Annotated[float, typer.Option(help="Of cases like these that a person has time to look at.")] = 0.25,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Choose the thresholds of --depth auto and of the review flag, for inference.json and metadata.json."""
    from ..segmenter import Segmenter
    from ..workflows.calibrate import calibrate as calibrate_cases
    from ..workflows.evaluate import cases_by_name, read_label_map

    if output is not None:
        check_free([output], overwrite=overwrite)
    cases = find_cases(images)
    labels = cases_by_name(references)
    if missing := [case_name(case) for case in cases if case_name(case) not in labels]:
        raise InputError(f"every image must have a reference in {references}, got none for {', '.join(missing[:5])}")
    segmenter = Segmenter.from_bundle(bundle, weights=weights, device=device, runtime=runtime)
    values, names = label_values(reference_values), {label.index: label.name for label in segmenter.bundle.labels}
    pairs = ((read_volume(case), read_label_map(labels[case_name(case)], names, values)) for case in cases)
    with progress_bars() as progress:
        bar = progress.add_task("cases", total=len(cases))
        exit_, (review, *others) = calibrate_cases(
            segmenter,
            pairs,
            max_loss=max_loss,
            share=share,
            progress=lambda done: progress.update(bar, completed=done),
        )
    text = json.dumps(
        {
            "weights_sha256": segmenter.bundle.weights_sha256,
            "exit": asdict(exit_),
            "review": asdict(review),
            "other measures": [asdict(other) for other in others],
        },
        indent=2,
    )
    Console().print(text, highlight=False, soft_wrap=True)
    if output is not None:
        with complete_file(output) as temporary:
            temporary.write_text(text + "\n")
