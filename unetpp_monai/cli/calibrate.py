"""`unetpp calibrate` and `unetpp ranges`."""

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
    TrustOption,
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
    trust: TrustOption = False,
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
    from ..workflows.evaluate import read_label_map

    if output is not None:
        check_free([output], overwrite=overwrite)
    cases = find_cases(images)
    labels = _references_of(cases, references)
    segmenter = Segmenter.from_bundle(bundle, weights=weights, trust=trust, device=device, runtime=runtime)
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
    _deliver(text, output)


def ranges(
    images: Annotated[list[Path], typer.Argument(help="Images that the task's weights were trained on.")],
    references: Annotated[Path, typer.Option("--references", help="Folder of their label maps, with the same names.")],
    task: Annotated[str, typer.Option(help="Folder of a task, or the name of one that came along.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON to write.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure what an image of a task is like, for `plausible` in its metadata.json; others are then marked."""
    from ..labels import read_labels
    from ..plausibility import measure_ranges
    from ..task import check_task
    from ..workflows.evaluate import read_label_map

    if output is not None:
        check_free([output], overwrite=overwrite)
    found = check_task(task)
    names = {label.index: label.name for label in read_labels(found.metadata)}
    cases = find_cases(images)
    labels = _references_of(cases, references)
    values = found.values.get("label_values", ())
    measured = measure_ranges(
        ((read_volume(case), read_label_map(labels[case_name(case)], names, values)) for case in cases),
        names,
        modality=found.metadata["network_data_format"]["inputs"]["image"]["modality"],
        spatial_dims=found.values.get("spatial_dims", 3),
    )
    _deliver(json.dumps(measured.to_json(), indent=2), output)


def _references_of(cases: list[Path], references: Path) -> dict[str, Path]:
    """Case name -> its label map."""
    from ..workflows.evaluate import cases_by_name

    labels = cases_by_name(references)
    if missing := [case_name(case) for case in cases if case_name(case) not in labels]:
        raise InputError(f"every image must have a reference in {references}, got none for {', '.join(missing[:5])}")
    return labels


def _deliver(text: str, output: Path | None) -> None:
    Console().print(text, highlight=False, soft_wrap=True)
    if output is not None:
        with complete_file(output) as temporary:
            temporary.write_text(text + "\n")
