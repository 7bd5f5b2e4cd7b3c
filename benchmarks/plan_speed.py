"""What `unetpp plan` and the preparation of a training cost: `python -m benchmarks.plan_speed DATASET`.

The check reads every case once, as `plan` does; then every case is prepared and written, as the first training of the
planned task does. Processor seconds are those of all threads and processes, so that other work on the machine does not
count. MB are of voxels of images and labels, uncompressed, in the types of their files; `MB/s and core` divides by
processor seconds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unetpp_monai.io import read_volume
from unetpp_monai.planning import Checked, Options, check, find_dataset, plan
from unetpp_monai.task import BASE, VALUES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="as `unetpp plan` takes it")
    parser.add_argument("--modality", default="", help="as `unetpp plan` takes it")
    parser.add_argument("--memory", default="auto", help="as `unetpp plan` takes it")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    checked, check_seconds = timed(lambda: check(find_dataset(options.dataset), modality=options.modality))
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task"
        plan(checked, task, options=Options(options.modality, options.memory))
        parser = train_config(task)
        _, seconds = timed(lambda: parser.get_parsed_content("train#dataset"))  # prepares and writes every case
    from benchmarks.tables import write_rows

    size = megabytes(checked)
    rows = [row("check", checked, size, check_seconds), row("prepare", checked, size, seconds)]
    write_rows(rows, options.output)


def timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return a result, and the wall and processor seconds that it took; of processes only those that have ended."""
    wall, before = time.perf_counter(), os.times()
    result = work()
    return result, (time.perf_counter() - wall, sum(os.times()[:4]) - sum(before[:4]))


def train_config(task: Path) -> Any:
    """Read the config of a training on all cases of a planned task; libraries are loaded and transforms built."""
    from monai.bundle import ConfigParser  # here, as the processes of the check import this module

    parser = ConfigParser()
    parser.read_config([str(BASE / "train.json"), str(task / VALUES)])
    parser.update({"cases_file": str(task / "cases.json"), "cache_dir": str(task / "cache")})
    parser["fold"] = parser["num_folds"]
    parser.get_parsed_content("train#preprocessing")
    return parser


def megabytes(checked: Checked) -> float:
    """Size of all voxels of images and labels, MB."""
    total = 0
    for case, _ in checked.cases:
        total += sum(read_volume(path).array.nbytes for path in case.images)
        total += read_volume(case.label, labels=True).array.nbytes
    return total / 1e6


def row(what: str, checked: Checked, size: float, seconds: tuple[float, float]) -> dict[str, Any]:
    """One row of the table; seconds are wall and processor."""
    wall, cpu = seconds
    return {
        "what": what,
        "cases": len(checked.cases),
        "MB": round(size, 1),
        "wall s": round(wall, 2),
        "CPU s": round(cpu, 2),
        "MB/s": round(size / wall, 1),
        "MB/s and core": round(size / max(cpu, 0.01), 1),  # the clock's step
    }


if __name__ == "__main__":
    main()
