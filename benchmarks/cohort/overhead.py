"""What a cohort's loop costs beside `segment`: with a model, with a stub, and when all is done already.

`python -m benchmarks.cohort.overhead -o OUT [--stubs 10000] [--images FOLDER --cases 24]`
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Case, Listed, Selection, list_cohort
from unetpp_monai.cohort.dispatch import Alone, dispatch
from unetpp_monai.cohort.launch import Launch
from unetpp_monai.cohort.loop import Loop
from unetpp_monai.cohort.run import Cohort, prepare, run_cases, write_results
from unetpp_monai.cohort.work import Loaded, Model, Work
from unetpp_monai.io import find_cases
from unetpp_monai.words import counted
from unetpp_monai.workflows.many import segment_cases
from unetpp_monai.workflows.request import Request

from ..tables import write_rows
from .stub import BuildsStub

BUNDLE = Path("hippocampus")  # an included task


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--stubs", type=int, default=10_000)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cases", type=int, default=24)
    options = parser.parse_args()
    rows = stubs(options.output / "stubs", options.stubs)
    if options.images is not None:
        rows.append(beside_segment(find_cases(options.images)[: options.cases], options.output))
    write_rows(rows, options.output / "table.json")


def row(what: str, result: str, goal: str = "") -> dict[str, str]:
    """A row of the table."""
    return {"what": what, "result": result, "goal": goal}


def stubs(output: Path, count: int) -> list[dict[str, str]]:
    """Time a loop that segments nothing."""
    cohort, work = stub_cohort(output, count), Work(Request())
    prepare(cohort)
    bare = seconds_of(lambda: bare_stub(cohort, work, output / "bare"))
    crew = Launch().crew(BuildsStub(work), work, cohort.ledger)
    first = seconds_of(lambda: run_cases(cohort, cohort.listed.cases, crew, launcher=Launch().stated()))
    tables = seconds_of(lambda: write_results(cohort))

    def again() -> None:
        listed = list_cohort([output / "in"], output / "out", Selection())
        same = Cohort(listed, output / "out", cohort.bundle)
        prepare(same)
        run_cases(same, listed.cases, Launch().crew(BuildsStub(work), work, same.ledger), launcher=Launch().stated())
        write_results(same)

    cost = 1000 * (first - bare) / count
    busy = time.process_time()
    repeated = seconds_of(again)
    busy = time.process_time() - busy
    finished = f"the finished {count:,} again: list, check, tables, report"
    return [
        row(f"loop over {count:,} stub cases, beside the stub alone", f"{cost:.1f} ms a case", "5 ms"),
        row(f"tables and report of {count:,} cases", f"{tables:.1f} s"),
        row(finished, f"{busy:.1f} s of processor time, {repeated:.1f} s on the clock", "5 s"),
    ]


def stub_cohort(output: Path, count: int) -> Cohort:
    """Make inputs of a few bytes."""
    (output / "in").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (output / "in" / f"case_{index:05d}.nii.gz").write_text(str(index))
    return Cohort(list_cohort([output / "in"], output / "out", Selection()), output / "out", read_bundle(BUNDLE))


def bare_stub(cohort: Cohort, work: Work, output: Path) -> None:
    """Let the stub write all cases without claims or notes."""
    output.mkdir()
    segments = BuildsStub(work)()
    for case in cohort.listed.cases:
        moved = Case(case.path, case.id, output, case.name)
        segments(moved, unless=work.is_done, overwrite=False, smallest=False)


def beside_segment(images: Sequence[Path], output: Path) -> dict[str, str]:
    """Time `segment` and a loop in turns, case by case, with the same model."""
    segmenter = Model(BUNDLE, volumes=len(images)).load()
    work = Work(Request())
    listed = Listed("images", tuple(Case(path, path.name, output / "loop", path.name) for path in images))
    cohort = Cohort(listed, output / "loop", segmenter.bundle)
    prepare(cohort)
    (output / "segment").mkdir()
    differences = []
    with Alone(Loop(Loaded(segmenter, work), work, cohort.ledger)) as crew:
        for number, case in enumerate(listed.cases):
            calls = {
                "serial": lambda case=case: list(
                    segment_cases(segmenter, [case.path], output / "segment", work.request)
                ),
                "loop": lambda case=case: list(dispatch(crew, [case], cohort.ledger)),
            }
            names = sorted(calls, reverse=bool(number % 2))  # each is first in half of the cases
            times = {name: seconds_of(calls[name]) for name in names}
            differences.append(1000 * (times["loop"] - times["serial"]))
    middle, low, high = np.median(differences), *np.quantile(differences, (0.25, 0.75))
    what = f"loop beside `segment`, same outputs, median of {counted(len(images), 'case')} (quartiles)"
    return row(what, f"{middle:.1f} ms ({low:.1f} to {high:.1f})", "20 ms")


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
