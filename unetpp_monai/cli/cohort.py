"""`unetpp cohort`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..dicom.deidentify import read_key
from ..errors import InputError
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
    report_failures,
    with_option,
)

if TYPE_CHECKING:
    from ..cohort.begin import Begun
    from ..cohort.launch import Launch
    from ..cohort.ledger import Outcome

PARTICIPANT = "participant"  # third argument of a BIDS App at participant level
SHOWN = 20  # most failed and running cases in `--status`


def cohort(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Folder, BIDS data set, CSV of cases, imagesTs, DICOM tree; or BIDS_DIR OUTPUT_DIR participant.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for results, tables, report.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes, which share the cores; 0: this process.")] = 0,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only part I of N, for job arrays.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="auto|ADDRESS", help="Work on a Ray cluster, --workers actors there.")
    ] = None,
    image: Annotated[str, typer.Option(help="BIDS: suffix of the images.")] = "T1w",
    participants: Annotated[
        list[str] | None, typer.Option("--participant-label", "--participant_label", help="BIDS: only these.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="DICOM tree: rules to select series, as in unetpp listen; default: the bundle's modality."),
    ] = None,
    review: Annotated[
        Path | None, typer.Option(help="review.csv of the report: cases to exclude or segment again.")
    ] = None,
    quota: Annotated[
        Path | None, typer.Option(help="JSON of unetpp calibrate --unlabelled, for flags in the report.")
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Draw an overview of each case for the report.")] = True,
    status: Annotated[bool, typer.Option("--status", help="Show the progress of the cohort in folder INPUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: as JSON.")] = False,
    lines: Annotated[
        bool, typer.Option("--progress", help="Print lines such as progress 3/8 failed 1 on stderr, for programs.")
    ] = False,
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
) -> None:
    """Segment many cases, resumable at any time; exit 0 only if every case is done."""
    if status:
        _show_status(inputs, as_json=as_json)
        return
    from ..cohort.begin import Options, begin
    from ..cohort.launch import Launch
    from ..cohort.ledger import DONE, EXCLUDED
    from ..cohort.report import REPORT
    from ..cohort.run import write_results
    from ..cohort.work import Model
    from ..workflows.request import Request

    inputs, output = _bids_app(inputs, output)
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
    model = Model(bundle, weights, trust, device, depth, runtime, precision)
    launch = Launch(workers, None if shard is None else _shard(shard), ray)
    options = Options(image, tuple(participants or ()), rules, review, quota, pictures, verify)
    begun = begin(inputs, output, model, request, options=options, launch=launch)
    if begun.outdated:
        console.print(f"ignored {counted(len(begun.outdated), 'review')} of other results", highlight=False)
    failures = _run(begun, launch, lines=lines)
    states = [record.status for record in write_results(begun.cohort)]
    cases = len(states) - states.count(EXCLUDED)
    said = f"{states.count(DONE)} of {cases} cases done; report: {begun.cohort.output / REPORT}"
    Console().print(said, highlight=False, markup=False, soft_wrap=True)
    report_failures(failures)


def _run(begun: "Begun", launch: "Launch", *, lines: bool) -> list[tuple[str, str]]:
    """Segment, show progress, and return the failures."""
    from ..cohort.run import input_records, run_cases
    from ..runtimes.backend import choose_device

    cohort, cases = begun.cohort, begun.cases
    shown = {case.id: case.id if cohort.keyed else str(case.path) for case in cases}
    failures = [(record.case, record.reason or record.kind) for record in input_records(cohort)]
    total = sum(case.id not in cohort.excluded for case in cases)
    gpu = choose_device(begun.builds.model.device).type == "cuda" if launch.ray is not None else False
    crew = launch.crew(begun.builds, begun.work, cohort.ledger, gpu=gpu)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    with bars as progress:
        bar = progress.add_task("cases", total=total, rate="")

        def show(outcome: "Outcome") -> None:
            if outcome.status == "failed":
                failures.append((shown[outcome.id], with_option(outcome.reason, outcome.option)))
            progress.advance(bar)
            task = progress.tasks[0]
            rate = f"{60 * task.speed:.1f}/min, {len(failures)} failed" if task.speed else ""
            progress.update(bar, rate=rate)
            if lines:
                console.print(f"progress {int(task.completed)}/{total} failed {len(failures)}", highlight=False)

        counts = run_cases(cohort, cases, crew, launcher=launch.stated(), progress=show)
    if counts["done"]:
        console.print(done_before(counts["done"], total), highlight=False)
    return failures


def _bids_app(inputs: list[Path], output: Path | None) -> tuple[list[Path], Path]:
    """Return inputs and output, also from a BIDS App's arguments."""
    if output is not None:
        return inputs, output
    if len(inputs) == 3 and str(inputs[2]) == PARTICIPANT:
        return inputs[:1], inputs[1]
    raise InputError("cohort needs -o FOLDER, or BIDS_DIR OUTPUT_DIR participant")


def _shard(text: str) -> tuple[int, int]:
    """Parse `--shard`."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise InputError(f"a shard must be such as 2/8, got {text!r}")
    return int(index), int(count)


def _show_status(inputs: list[Path], *, as_json: bool) -> None:
    """Print the progress of a cohort."""
    from ..cohort.run import state_of_runs

    if len(inputs) != 1:
        raise InputError(f"--status takes one folder of results, got {len(inputs)}")
    state, out = state_of_runs(inputs[0]), Console()
    if as_json:
        out.print(json.dumps(state, indent=2), highlight=False, markup=False, soft_wrap=True)
        return
    what = "{cases} cases: {done} done, {failed} failed, {waiting} waiting, {late_results_discarded} results late"
    out.print(what.format(**state), highlight=False, soft_wrap=True)
    for run in state["runs"]:
        shard = f" shard {run['launcher']['shard']}" if run["launcher"].get("shard") else ""
        end = f"ended {run['ended']}" if run["ended"] else f"last heard of {run['updated']}"
        said = f"run{shard} began {run['began']}, {end}, {60 * run['rate']:.1f} cases/min"
        out.print(said, highlight=False, soft_wrap=True)
    for one in state["running"][:SHOWN]:
        out.print(f"running  {one['case']} on {one['host']}", highlight=False, markup=False, soft_wrap=True)
    for one in state["failures"][:SHOWN]:
        out.print(f"failed   {one['case']}: {one['reason']}", highlight=False, markup=False, soft_wrap=True)
