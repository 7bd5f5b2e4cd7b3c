"""`unetpp calibrate` and `unetpp ranges`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import InputError
from ..files import check_free, complete_file
from ..io import case_name, find_cases, read_case
from ..volume import Volume
from .common import (
    BundleOption,
    DeviceOption,
    OverwriteOption,
    ReferenceValuesOption,
    RuntimeOption,
    TrustOption,
    WeightsOption,
    console,
    label_values,
    progress_bars,
)

if TYPE_CHECKING:
    from ..segmenter import Segmenter


def calibrate(
    images: Annotated[list[Path], typer.Argument(help="Images not used to train the weights.")],
    references: Annotated[
        Path | None, typer.Option("--references", help="Folder of their label maps, with the same names.")
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="Without references: only choose a threshold that flags --share of the images, for unetpp cohort.",
        ),
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON to write.")] = None,
    bundle: BundleOption = None,
    weights: WeightsOption = None,
    trust: TrustOption = False,
    reference_values: ReferenceValuesOption = "",
    max_loss: Annotated[float, typer.Option(help="Highest loss of mean Dice by early exit.")] = 0.001,
    share: Annotated[float, typer.Option(help="Fraction of cases to flag for review.")] = 0.25,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Choose the thresholds of early exit (--depth auto) and review, for inference.json and metadata.json."""
    from ..bundle import read_bundle
    from ..segmenter import Segmenter
    from ..workflows.calibrate import calibrate as calibrate_cases

    if output is not None:
        check_free([output], overwrite=overwrite)
    if unlabelled == (references is not None):
        raise InputError("calibrate needs either --references FOLDER or --unlabelled, got both or neither")
    found = read_bundle(bundle, weights=weights, trust=trust)
    if references is None:
        _deliver(_quota(images, Segmenter(found, device=device, runtime=runtime), share), output)
        return
    cases = _labelled(images, references, found.channel_suffixes)
    segmenter = Segmenter(found, device=device, runtime=runtime)
    names = {label.index: label.name for label in found.labels}
    pairs = _volumes(cases, found.channel_suffixes, names, label_values(reference_values))
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
    images: Annotated[list[Path], typer.Argument(help="Images used to train the task's weights.")],
    references: Annotated[Path, typer.Option("--references", help="Folder of their label maps, with the same names.")],
    task: Annotated[str, typer.Option(help="Folder of a task, or the name of an included one.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON to write.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure typical images of a task, for `plausible` in its metadata.json; unusual images are then flagged."""
    from ..labels import read_labels
    from ..plausibility import measure_ranges
    from ..task import check_task

    if output is not None:
        check_free([output], overwrite=overwrite)
    found = check_task(task)
    names = {label.index: label.name for label in read_labels(found.metadata)}
    channels = found.values.get("channel_suffixes", ())
    cases = _labelled(images, references, channels)
    measured = measure_ranges(
        _volumes(cases, channels, names, found.values.get("label_values", ())),
        names,
        modality=found.metadata["network_data_format"]["inputs"]["image"]["modality"],
        spatial_dims=found.values.get("spatial_dims", 3),
    )
    _deliver(json.dumps(measured.to_json(), indent=2), output)


def _labelled(images: list[Path], references: Path, channels: Sequence[str]) -> dict[Path, Path]:
    """Map each case to its label map."""
    from ..workflows.label_pairs import cases_by_name

    cases, labels = find_cases(images, channels=channels), cases_by_name(references)
    names = {case: case_name(case, channels) for case in cases}
    if missing := [name for name in names.values() if name not in labels]:
        raise InputError(f"every image must have a reference in {references}, got none for {', '.join(missing[:5])}")
    return {case: labels[name] for case, name in names.items()}


def _quota(images: list[Path], segmenter: "Segmenter", share: float) -> str:
    """Return JSON with a threshold that flags a fraction of similar images."""
    from ..workflows.calibrate import site_quota

    channels = segmenter.bundle.channel_suffixes
    cases = find_cases(images, channels=channels)
    with progress_bars() as progress:
        bar = progress.add_task("cases", total=len(cases))
        found = site_quota(
            segmenter,
            (read_case(case, channels=channels).volume for case in cases),
            share=share,
            progress=lambda done: progress.update(bar, completed=done),
        )
    return json.dumps({"weights_sha256": segmenter.bundle.weights_sha256, "quota": asdict(found)}, indent=2)


def _volumes(
    cases: Mapping[Path, Path], channels: Sequence[str], names: Mapping[int, str], values: Sequence[int]
) -> Iterator[tuple[Volume, Volume]]:
    """Yield image and label map of each case, read one at a time."""
    from ..workflows.label_pairs import read_label_map

    for case, label in cases.items():
        yield read_case(case, channels=channels).volume, read_label_map(label, names, values)


def _deliver(text: str, output: Path | None) -> None:
    Console().print(text, highlight=False, soft_wrap=True)
    if output is not None:
        with complete_file(output) as temporary:
            temporary.write_text(text + "\n")
        console.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)
