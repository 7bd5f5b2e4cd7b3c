"""Which launcher is the fastest on this machine: this process, or workers that share its cores?

`python -m benchmarks.cohort.launchers IMAGES -o OUT [--cases 24] [--repeats 3]`, on an idle machine. Each is timed once
its models are loaded, in turns, and the median stated. The fastest is what the default should be.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Case, Listed
from unetpp_monai.cohort.dispatch import Alone, Crew
from unetpp_monai.cohort.launch import cores
from unetpp_monai.cohort.local import Workers
from unetpp_monai.cohort.loop import Loop
from unetpp_monai.cohort.messages import Start
from unetpp_monai.cohort.run import Cohort, prepare, run_cases
from unetpp_monai.cohort.work import Model, Segmenting, Work
from unetpp_monai.io import find_cases
from unetpp_monai.words import counted
from unetpp_monai.workflows.request import Request

from ..tables import write_rows

BUNDLE = Path("hippocampus")  # an included task
GOAL = 1.7  # cases a second, one worker of one thread = 1


def main() -> None:
    """Time all launchers in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    images = find_cases(options.images)[: options.cases]
    ways = sorted({(workers, threads) for workers in range(1, cores() + 1) for threads in (1, cores() // workers)})
    rates: dict[tuple[int, int], list[float]] = defaultdict(list)
    for repeat in range(options.repeats):
        for workers, threads in [(0, cores()), *ways]:
            output = options.output / f"{repeat}_{workers}_{threads}"
            rates[workers, threads].append(rate_of(images, output, workers, threads))
    one = median(rates[1, 1])
    rows = [
        {
            "launcher": described(workers, threads),
            "cases a second, median": round(median(found), 2),
            "lowest": round(min(found), 2),
            "highest": round(max(found), 2),
            "one worker of one thread = 1": round(median(found) / one, 2),
        }
        for (workers, threads), found in sorted(rates.items(), key=lambda item: -median(item[1]))
    ]
    write_rows(rows, options.output / "table.json")
    print(f"\n{counted(len(images), 'case')}; goal for two workers of one thread: {GOAL}")


def described(workers: int, threads: int) -> str:
    """Describe a launcher."""
    if not workers:
        return f"this process, {counted(threads, 'thread')}: the default"
    return f"{counted(workers, 'worker')} of {counted(threads, 'thread')}"


def rate_of(images: Sequence[Path], output: Path, workers: int, threads: int) -> float:
    """Return cases per second, from each worker's first result to the last one."""
    work = Work(Request())
    cases = tuple(Case(path, path.name, output, path.name) for path in images)
    cohort = Cohort(Listed("images", cases), output, read_bundle(BUNDLE))
    prepare(cohort)
    builds = Segmenting(Model(BUNDLE, volumes=len(images)), work, threads if workers else None)
    crew: Crew = Alone(Loop(builds(), work, cohort.ledger)) if not workers else _workers(builds, output, workers)
    moments: list[float] = []
    run_cases(cohort, cases, crew, launcher={}, progress=lambda outcome: moments.append(time.perf_counter()))
    first = max(workers, 1)
    return (len(moments) - first) / (moments[-1] - moments[first - 1])


def _workers(builds: Segmenting, output: Path, count: int) -> Workers:
    return Workers(count, Start(builds, builds.work, output, False), threads=builds.threads)


if __name__ == "__main__":
    main()
