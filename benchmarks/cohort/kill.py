"""A cohort whose workers and driver are killed: is each case delivered once, and is it what a serial run gives?

`python -m benchmarks.cohort.kill IMAGES -o OUT [--cases 208] [--workers 4] [--kills 10]`
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from unetpp_monai.io import find_cases

from ..tables import write_rows

BUNDLE = ("--bundle", "hippocampus")  # an included task
STARTED = ("-m", "unetpp_monai.cohort.worker")


def main() -> None:
    """Run, kill, run again, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=208)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    between = "seconds between two kills; longer than a worker needs to load the model"
    parser.add_argument("--pause", type=float, nargs=2, default=(3.0, 12.0), metavar=("LOW", "HIGH"), help=between)
    options = parser.parse_args()
    cases = find_cases(options.images)[: options.cases]
    inputs = options.output / "in"
    inputs.mkdir(parents=True)
    for case in cases:
        (inputs / case.name).symlink_to(case.resolve())
    serial, killed = options.output / "serial", options.output / "killed"
    unetpp("segment", inputs, "-o", serial, *BUNDLE).wait()
    command = ("cohort", inputs, "-o", killed, "--workers", options.workers, "--no-pictures", *BUNDLE)
    kills, ended = storm(command, options.kills, options.pause, random.Random(options.seed), killed)
    delivered = {path.name: path.stat().st_mtime_ns for path in killed.glob("*.json") if path.name != "run.json"}
    began = time.perf_counter()
    code = unetpp(*command).wait()
    seconds = time.perf_counter() - began
    kept = sum((killed / name).stat().st_mtime_ns == moment for name, moment in delivered.items())
    maps = sorted(path.name for path in serial.glob("*_seg.nii.gz"))
    equal = sum(
        (killed / name).is_file() and (killed / name).read_bytes() == (serial / name).read_bytes() for name in maps
    )
    run = json.loads((killed / "run.json").read_text())
    rows = {
        "cases, workers": f"{len(cases)}, {options.workers}",
        "workers killed with SIGKILL": str(kills),
        "driver killed with SIGKILL": "it had ended before" if ended else "1",
        "delivered before the restart, kept by it": f"{len(delivered)}, {kept}",
        "exit code and seconds of the restart": f"{code}, {seconds:.0f}",
        "label maps byte for byte as the serial run's": f"{equal} of {len(maps)}",
        "late results, discarded": str(run["late_results_discarded"]),
        "left behind: unfinished folders, claims": left(killed),
    }
    write_rows([{"what": what, "result": found} for what, found in rows.items()], options.output / "table.json")


def unetpp(*arguments: object) -> "subprocess.Popen[bytes]":
    """Start a command."""
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", "unetpp_monai", *map(str, arguments)])


def storm(
    command: tuple[object, ...], kills: int, pause: Sequence[float], rng: random.Random, output: Path
) -> tuple[int, bool]:
    """Kill two random workers so many times, then the driver.

    Returns:
        How many workers were killed, and whether the driver had ended before.
    """
    driver, count = unetpp(*command), 0
    while not any(output.glob("*_seg.nii.gz")) and driver.poll() is None:
        time.sleep(0.2)
    for _ in range(kills):
        time.sleep(rng.uniform(*pause))
        living = workers_of(driver.pid)
        for pid in rng.sample(living, min(2, len(living))):
            os.kill(pid, signal.SIGKILL)
            count += 1
    ended = driver.poll() is not None
    driver.kill()
    driver.wait()
    return count, ended


def workers_of(driver: int) -> list[int]:
    """Ids of a driver's workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            continue
        if parent == driver and STARTED[1].encode() in command:
            found.append(int(folder.name))
    return found


def left(output: Path) -> str:
    """What no process needs any more."""
    return f"{len(list(output.glob('.unetpp_*')))}, {len(list((output / '.cohort' / 'claims').glob('[!.]*')))}"


if __name__ == "__main__":
    main()
