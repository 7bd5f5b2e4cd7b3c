"""`make crash`: `unetpp segment` killed, out of space, its output removed, two at once; in the end every case is there.

The contract: the same command again does what is left, skips and counts what is done, and ends with 0.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from helpers import BUNDLE, phantom, save_nifti
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.tiny import make_tiny

from hostile.report import Fault, show
from hostile.segmenting import NEVER, Run, start

KILLS, CASES = 30, 20
ROOM_SHARE = 0.5  # of what all results take, on the disk that becomes full
BLOCK = 4096  # bytes that a file takes at least
MATCHED = ("_seg.nii.gz", "_seg.tsv")  # results that must be equal to the byte


@dataclass
class Cohort:
    """The cases, what an undisturbed run makes of them, and what was found wrong."""

    folder: Path
    rng: Random
    cases: int
    calm: dict[str, bytes] = field(default_factory=dict)  # name -> content of each result
    first, last, operations = 1.0, 5.0, 100  # s until the first result and the end, file operations
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def start(self, output: Path, *, die_before: int = NEVER, name: str = "run") -> Run:
        """Segment all cases, as a user does who repeats his command."""
        arguments = [
            "segment",
            "--task",
            "hippocampus",
            str(self.folder / "cases"),
            "-o",
            str(output),
            "--device",
            "cpu",
        ]
        arguments += ["--runtime", "eager", "--depth", "1", "--bundle", str(self.folder / "bundle")]
        return start(arguments, output, self.folder / f"{name}.log", die_before=die_before)

    def count(self, trial: str, **numbers: int) -> None:
        counts = self.counts.setdefault(trial, {})
        for name, number in numbers.items():
            counts[name] = counts.get(name, 0) + number

    def wrong(self, kind: str, detail: str) -> None:
        self.faults.append(Fault(kind, detail))


def make_cohort(folder: Path, seed: int, cases: int) -> Cohort:
    """Make phantoms, one of them a DICOM series, and segment them undisturbed."""
    import torch

    import unetpp_monai.workflows.segment  # noqa: F401 - so that children find it imported

    torch.set_num_threads(1)
    (folder / "cases").mkdir()
    for number in range(cases - 1):
        save_nifti(folder / "cases" / f"case_{number:02d}.nii.gz", phantom((24, 30, 20), seed=number)[0])
    make_series(folder / "cases" / "series", axial_affine(), (24, 20, 9))
    shutil.copytree(BUNDLE, folder / "bundle", ignore=shutil.ignore_patterns("docs"))
    make_tiny(folder / "bundle")
    cohort = Cohort(folder, Random(seed), cases)
    output = folder / "calm"
    run = cohort.start(output, name="calm")
    while not list(output.glob("*.json")) and run.poll() is None:
        time.sleep(0.005)
    cohort.first = time.monotonic() - run.started
    if code := run.wait():
        raise RuntimeError(f"an undisturbed run must end with 0, got {code}: {run.said}")
    cohort.last = time.monotonic() - run.started
    cohort.operations = int(run.log.with_suffix(".operations").read_text())
    cohort.calm = {path.name: path.read_bytes() for path in output.iterdir()}
    if sum(name.endswith(".json") for name in cohort.calm) != cases:
        raise RuntimeError(f"an undisturbed run must give {cases} reports, got {sorted(cohort.calm)}")
    return cohort


def kill_runs(cohort: Cohort, kills: int) -> None:
    """Kill runs by the clock or before a file operation, in turns, and start them again until all is done."""
    left, campaign = kills, 0
    while left > 0:
        output = cohort.folder / f"killed_{campaign}"
        for _ in range(cohort.cases):  # a run that ends by itself ends the campaign
            if left <= 0:
                break
            by_clock = left % 2 == 0
            share = 1 - sum(name.suffix == ".json" for name in output.glob("*")) / cohort.cases
            die_before = NEVER if by_clock else cohort.rng.randint(1, max(1, int(cohort.operations * share)))
            run = cohort.start(output, die_before=die_before, name=f"killed_{campaign}")
            if by_clock:
                time.sleep(cohort.rng.uniform(0, cohort.first + (cohort.last - cohort.first) * share))
                run.kill()
            if run.wait() != -9:
                break
            left -= 1
            cohort.count("killed", kills=1)
            check_visible(cohort, output, f"after kill {kills - left}")
        finish(cohort, output, "killed")
        campaign += 1
    repeat(cohort, cohort.folder / "killed_0")


def check_visible(cohort: Cohort, output: Path, when: str) -> None:
    """Whatever bears the name of a result must be a whole one."""
    for path in sorted(output.glob("[!.]*")):
        if path.name not in cohort.calm:
            cohort.wrong("a file that is no result is visible", f"{path.name} {when}")
        elif (path.name.endswith(MATCHED) and path.read_bytes() != cohort.calm[path.name]) or (
            path.suffix == ".json" and not path.read_text().endswith("}\n")
        ):
            cohort.wrong("a half-written or other result is visible", f"{path.name} {when}")


def finish(cohort: Cohort, output: Path, trial: str) -> None:
    """Run the same command undisturbed: then every case is there once, and nothing else."""
    run = cohort.start(output, name=f"finish_{trial}")
    code = run.wait()
    cohort.count(trial, runs_to_the_end=1)
    if code == 1 and "exist" in run.said:
        cohort.wrong("done cases are failures", f"exit 1 {trial}: {run.said[:300]}")
    elif code != 0:
        cohort.wrong("the same command again fails", f"exit {code} {trial}: {run.said[-300:]}")
    check_traceback(cohort, run, trial)
    check_visible(cohort, output, f"at the end, {trial}")
    there = {path.name for path in output.glob("[!.]*")}
    if lost := sorted(set(cohort.calm) - there):
        cohort.wrong("results are missing in the end", f"{lost[:6]} {trial}")
    if left := sorted(str(path.relative_to(output)) for path in output.glob(".*")):
        cohort.wrong("temporary files are left in the output", f"{left[:6]} {trial}")
    if left := sorted(path.name for path in run.log.with_suffix(".tmp").glob("unetpp*")):
        cohort.wrong("temporary files are left in the temporary folder", f"{left[:6]} {trial}")
    for name in sorted(there & {name for name in cohort.calm if name.endswith(".json")}):
        check_report(cohort, output / name, trial)


def check_report(cohort: Cohort, path: Path, trial: str) -> None:
    """A report names the files that lie beside it."""
    from unetpp_monai.files import sha256

    for entry in json.loads(path.read_text())["outputs"].values():
        file = path.with_name(entry["file"])
        if not file.exists() or sha256(file) != entry["sha256"]:
            cohort.wrong("a report names another file than lies beside it", f"{file.name} {trial}")


def check_traceback(cohort: Cohort, run: Run, trial: str) -> None:
    if "Traceback" in run.said:
        cohort.wrong("a traceback instead of a reason", f"{trial}: {run.said[-400:]}")


def repeat(cohort: Cohort, output: Path) -> None:
    """Once more when all is done: a success that computes nothing and says how many cases were done."""
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("[!.]*")}
    run = cohort.start(output, name="repeat")
    code = run.wait()
    cohort.count("repeated", runs=1)
    if code:
        cohort.wrong("done cases are failures", f"exit {code} when all is done: {run.said[:200]}")
    elif not re.search(rf"\b{cohort.cases}\b", run.said):
        cohort.wrong("done cases are not counted", f"no {cohort.cases} in {run.said!r}")
    if before != {path.name: path.stat().st_mtime_ns for path in output.glob("[!.]*")}:
        cohort.wrong("done cases are computed again", "other times of files")


def fill_disk(cohort: Cohort) -> None:
    """Write to a disk that has room for half of the results, then to the same with room for all."""
    output = cohort.folder / "full"
    output.mkdir()
    needed = sum(-(-len(content) // BLOCK) * BLOCK for content in cohort.calm.values())
    room = int(needed * ROOM_SHARE) // BLOCK * BLOCK
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "hostile", str(output)]
    if subprocess.run(mount, capture_output=True).returncode:
        cohort.count("disk full (not tried: needs the right to mount)", runs=0)
        return
    try:
        run = cohort.start(output, name="full")
        code = run.wait()
        cohort.count("disk full", runs=1, reports=len(list(output.glob("*.json"))))
        check_traceback(cohort, run, "disk full")
        check_visible(cohort, output, "on a full disk")
        if code != 1 or not re.search(r"writable|space", run.said):
            cohort.wrong("a full disk is not named", f"exit {code}: {run.said[-300:]}")
        if left := [path.name for path in output.glob(".*")]:
            cohort.wrong("temporary files are left in the output", f"{left} disk full")
        more = f"remount,size={needed * 4}"
        subprocess.run(["mount", "-o", more, str(output)], check=True)
        finish(cohort, output, "disk full")
    finally:
        subprocess.run(["umount", "--lazy", str(output)], check=False)


def remove_output(cohort: Cohort) -> None:
    """Remove the output folder while a run writes to it."""
    output = cohort.folder / "removed"
    run = cohort.start(output, name="removed")
    while not list(output.glob("*.json")) and run.poll() is None:
        time.sleep(0.005)
    time.sleep(cohort.rng.uniform(0, (cohort.last - cohort.first) / 2))
    shutil.rmtree(output, ignore_errors=True)
    code = run.wait()
    cohort.count("output removed", runs=1)
    check_traceback(cohort, run, "output removed")
    if code not in (0, 1):
        cohort.wrong("a removed output ends the process", f"exit {code}: {run.said[-300:]}")
    finish(cohort, output, "output removed")


def write_twice(cohort: Cohort) -> None:
    """Two runs of the same command at once."""
    output = cohort.folder / "twice"
    runs = [cohort.start(output, name=f"twice_{number}") for number in range(2)]
    codes = [run.wait() for run in runs]
    cohort.count("two writers", runs=2)
    for run, code in zip(runs, codes, strict=True):
        check_traceback(cohort, run, "two writers")
        if code and "exist" in run.said:
            cohort.wrong("done cases are failures", f"two writers: {run.said[:200]}")
        elif code:
            cohort.wrong("one of two writers fails", f"exit {code}: {run.said[-300:]}")
    check_visible(cohort, output, "of two writers")
    finish(cohort, output, "two writers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if there is any fault."""
    parser = argparse.ArgumentParser(prog="hostile.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"({KILLS})")
    parser.add_argument("--cases", type=int, default=CASES, help=f"({CASES})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--json", type=Path, help="write the faults here")
    options = parser.parse_args(arguments)
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile_") as folder:
        cohort = make_cohort(Path(folder), options.seed, options.cases)
        cohort.count("undisturbed", cases=options.cases, file_operations=cohort.operations)
        kill_runs(cohort, options.kills)
        for trial in (fill_disk, remove_output, write_twice):
            trial(cohort)
    cohort.count("all", seconds=round(time.monotonic() - start_time))
    if options.json:
        options.json.write_text(json.dumps([[fault.kind, fault.detail] for fault in cohort.faults]))
    return show("crash", cohort.counts, cohort.faults)


if __name__ == "__main__":
    sys.exit(main())
