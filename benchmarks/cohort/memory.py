"""Memory of one worker over many cases: does it grow?

`python -m benchmarks.cohort.memory IMAGES -o OUT [--cases 500] [--every 50] [--depth 1]`; images are given again under
other names. States after how many cases: MiB that the worker holds, and has held at most.
"""

import argparse
from itertools import cycle, islice
from pathlib import Path

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Selection, list_cohort
from unetpp_monai.cohort.ledger import Outcome
from unetpp_monai.cohort.local import Workers
from unetpp_monai.cohort.messages import Start
from unetpp_monai.cohort.run import Cohort, prepare, run_cases
from unetpp_monai.cohort.work import Model, Segmenting, Work
from unetpp_monai.io import find_cases
from unetpp_monai.workflows.request import Request

from ..tables import write_rows

BUNDLE = Path("hippocampus")  # an included task
KIB = 1024  # per MiB


def main() -> None:
    """Segment, look at the worker now and then, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--depth", type=int)
    options = parser.parse_args()
    inputs, output = options.output / "in", options.output / "out"
    inputs.mkdir(parents=True)
    for number, image in enumerate(islice(cycle(find_cases(options.images)), options.cases)):
        (inputs / f"{number:04d}_{image.name}").symlink_to(image.resolve())
    rows = measure(inputs, output, options.every, options.depth)
    write_rows(rows, options.output / "table.json")


def measure(inputs: Path, output: Path, every: int, depth: int | None) -> list[dict[str, int]]:
    """Memory of the worker after every so many cases."""
    cohort = Cohort(list_cohort([inputs], output, Selection()), output, read_bundle(BUNDLE))
    prepare(cohort)
    work = Work(Request(depth=depth), pictures=cohort.ledger.pictures)
    model = Model(BUNDLE, depth=depth, volumes=len(cohort.listed.cases))
    crew = Workers(1, Start(Segmenting(model, work, 1), work, output, False), threads=1)
    rows: list[dict[str, int]] = []
    count = 0

    def look(outcome: Outcome) -> None:
        nonlocal count
        count += 1
        if count % every == 0:
            (worker,) = crew.processes()
            rows.append({"cases": count, **memory_of(worker)})

    run_cases(cohort, cohort.listed.cases, crew, launcher={}, progress=look)
    return rows


def memory_of(process: int) -> dict[str, int]:
    """MiB that a process holds, and held at most."""
    lines = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    found = {line[0]: int(line[1]) // KIB for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
    return {"MiB held": found["VmRSS:"], "MiB held at most": found["VmHWM:"]}


if __name__ == "__main__":
    main()
