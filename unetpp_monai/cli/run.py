"""`unetpp run`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..durations import seconds_of
from .common import DeviceOption, comma_separated
from .plan import (
    DatasetArgument,
    FoldsOption,
    GroupOption,
    ImageOption,
    LabelOption,
    MemoryOption,
    ModalityOption,
    SpacingOption,
    checked_dataset,
    spacing_of,
)
from .train import shown_lines, stopping


def run(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the task and for dist/.")],
    time: Annotated[str, typer.Option(help="Time for both trainings together, such as 2h; default: the plan's.")] = "",
    steps: Annotated[int | None, typer.Option(help="Steps of each training, instead of a time.")] = None,
    modality: ModalityOption = "",
    memory: MemoryOption = "auto",
    spacing: SpacingOption = "",
    folds: FoldsOption = 0,
    group: GroupOption = "",
    image: ImageOption = "",
    label: LabelOption = "",
    device: DeviceOption = "auto",
) -> None:
    """Make a bundle from a data set: plan, train fold 0 and all cases, pack. Run it again to resume."""
    from ..planning import Options, find_dataset
    from ..planning.planner import check_folder, check_options
    from ..workflows.pack_runs import Options as PackOptions
    from ..workflows.run import run as run_all

    out = Console()

    def say(line: str) -> None:
        out.print(line, soft_wrap=True, markup=False, highlight=False)

    seconds = seconds_of(time) if time else None
    options = Options(modality, memory, time, spacing_of(spacing), folds)
    check_options(options)
    check_folder(output, overwrite=True)
    found = find_dataset(dataset, images=comma_separated(image) if image else (), label=label, group=group)
    checked = checked_dataset(found, out, modality=modality)
    with shown_lines(), stopping():
        packed = run_all(
            checked,
            output,
            plan_options=options,
            seconds=seconds,
            steps=steps,
            pack_options=PackOptions(device=device),
            say=say,
        )
    say(f"{packed.folder}\n{packed.archive}")
