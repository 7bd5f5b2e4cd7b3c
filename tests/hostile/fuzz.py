"""`make fuzz`: thousands of damaged files; each is read as it was, as a legal other content, or refused by name."""

import argparse
import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hostile.formats import FORMATS, make_mutant
from hostile.judge import EQUAL, FAULT, NAMED, OTHER, WHOLE, Warm, keep_references, verdict
from hostile.warm import LONGEST, Report, run_child

COUNT = 760  # mutants of each format, 9,120 in all
PATIENCE = 600.0  # seconds to make the sound files
SIGNALS = {6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


@dataclass(frozen=True)
class Finding:
    """What became of one mutant."""

    format: str
    number: int  # with which it can be made again
    verdict: str  # equal, other content, named error or fault
    kind: str  # of error or fault
    where: str  # function of the package
    message: str
    how: str  # it was made
    size: int  # bytes of the damaged file
    ms: float  # it took

    @property
    def key(self) -> str:
        """What `known.py` calls a fault."""
        return f"{self.format}: {self.kind}" + (f" in {self.where}" if self.where else "")


def get_warm(sound: Path) -> Warm:
    """Import what children need, and load a tiny network; no thread may run when they are forked."""
    import highdicom
    import PIL.Image
    import SimpleITK
    import torch
    from helpers import phantom
    from pydicom.pixels import decoders

    from unetpp_monai import Segmenter, Volume
    from unetpp_monai.bundle import read_bundle

    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    PIL.Image.init()
    segmenter = Segmenter(read_bundle(sound / "configs" / "tiny"), device="cpu", runtime="eager")
    image = Volume(phantom((12, 14, 10))[0][None], np.eye(4))
    gc.collect()
    gc.freeze()  # so that children share our memory
    del highdicom, decoders
    return Warm(sound, segmenter, image)


def make_sound(sound: Path, names: Sequence[str]) -> Warm:
    """Make the sound files of some formats and note what they hold, in children; return what they will need."""
    for name in dict.fromkeys((*names, "configs")):  # whose bundle is the tiny network's
        with scratch_folder() as scratch:
            ended = run_child(lambda say, name=name: FORMATS[name].make(sound / name), scratch, seconds=PATIENCE)
        if ended.signal or ended.late or "Traceback" in ended.stderr:
            raise RuntimeError(f"sound files of {name} must be made, got {ended.stderr[-2000:]}")
    warm = get_warm(sound)
    for name in names:
        with scratch_folder() as scratch:
            ended = run_child(lambda say, name=name: keep_references(warm, name, scratch), scratch, seconds=PATIENCE)
        if ended.signal or ended.late or "Traceback" in ended.stderr:
            raise RuntimeError(f"sound files of {name} must be readable, got {ended.stderr[-2000:]}")
    return warm


@contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hostile_"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_mutant(warm: Warm, name: str, number: int, scratch: Path) -> Finding:
    """Make a mutant in a child of its own and see what the package makes of it."""
    whole = number % WHOLE[FORMATS[name].kind] == 0

    def work(say) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mutant = make_mutant(name, number, warm.sound / name, scratch)
            say({"how": mutant.how, "size": mutant.size})
            start = time.perf_counter()
            found = verdict(warm, name, mutant, scratch, whole=whole)
            say({"found": found, "ms": (time.perf_counter() - start) * 1000})

    ended = run_child(work, scratch)
    said: Report = {key: value for report in ended.reports for key, value in report.items()}
    found, ms = said.get("found"), said.get("ms", ended.seconds * 1000)
    if "how" not in said:
        found = FAULT, "the mutant cannot be made", "", ended.stderr[-300:]
    elif ended.late:
        found = FAULT, f"longer than {LONGEST:g} s", ended.where(), ""
    elif found is None:
        kind = f"crash ({SIGNALS.get(ended.signal, ended.signal)})" if ended.signal else "no verdict"
        found = FAULT, kind, ended.where(), ended.stderr[-300:]
    elif ended.stdout:
        found = FAULT, "output on stdout", found[2], ended.stdout[:200]
    return Finding(name, number, *found, said.get("how", "?"), said.get("size", 0), ms)


def try_twice(warm: Warm, name: str, number: int) -> Finding:
    """Give a mutant that was late a second chance: the machine may have been busy."""
    for chance in range(2):
        with scratch_folder() as scratch:
            finding = try_mutant(warm, name, number, scratch)
        if not finding.kind.startswith("longer") or chance:
            return finding
    raise AssertionError("not reached")


def run_all(warm: Warm, work: Sequence[tuple[str, int]], workers: int, folder: Path) -> list[Finding]:
    """Share the mutants among forked workers, each of which forks a child for each of its own."""
    children, parent = [], os.getpid()
    for worker in range(workers):
        child = os.fork()
        if child == 0:
            try:
                with (folder / f"{worker}.jsonl").open("w") as file:
                    for name, number in work[worker::workers]:
                        if os.getppid() != parent:  # which was killed
                            break
                        file.write(json.dumps(asdict(try_twice(warm, name, number))) + "\n")
                        file.flush()
            except BaseException as error:  # noqa: BLE001 - a copy of the parent must end here
                sys.stderr.write(f"worker {worker}: {error!r}\n")
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    if any(ends):
        raise RuntimeError(f"every worker must end well, got {ends}")
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return sorted((Finding(**json.loads(line)) for line in lines), key=lambda one: (one.format, one.number))


def show(findings: Sequence[Finding]) -> None:
    """Print a row per format, the faults by kind with the smallest file of each, and how to make it again."""
    table = Table("format", "mutants", "equal", "other content", "named errors", "faults", "p95 ms")
    by_format = defaultdict(list)
    for finding in findings:
        by_format[finding.format].append(finding)
    for name, group in by_format.items():
        counts = Counter(one.verdict for one in group)
        named = Counter(one.kind for one in group if one.verdict == NAMED)
        errors = ", ".join(f"{count} {kind}" for kind, count in named.most_common())
        late = np.percentile([one.ms for one in group], 95)
        cells = (len(group), counts[EQUAL], counts[OTHER], errors, counts[FAULT], f"{late:.0f}")
        table.add_row(name, *map(str, cells))
    out.print(table)
    kinds = defaultdict(list)
    for finding in findings:
        if finding.verdict == FAULT:
            kinds[finding.key].append(finding)
    for key, group in sorted(kinds.items(), key=lambda item: -len(item[1])):
        smallest = min(group, key=lambda one: one.size)
        out.print(f"[bold]{len(group)} x {key}[/bold]", soft_wrap=True)
        out.print(f"    {smallest.how}, {smallest.size} bytes", markup=False, soft_wrap=True)
        out.print(f"    {' '.join(smallest.message.split())[:300]}", markup=False, soft_wrap=True)
        out.print(f"    --only {smallest.format} --seed {smallest.number}; also {[one.number for one in group[:8]]}")


def show_one(warm: Warm, name: str, number: int, keep: Path) -> Finding:
    """Make one mutant again, keep it, and say what came of it."""
    keep.mkdir(parents=True)
    finding = try_mutant(warm, name, number, keep.resolve())
    for key, value in asdict(finding).items():
        out.print(f"{key}: {value}", markup=False, soft_wrap=True)
    out.print((keep / "stderr").read_text()[-3000:], markup=False, soft_wrap=True)
    out.print(f"the mutant is in {keep}", soft_wrap=True)
    return finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if there is any fault."""
    parser = argparse.ArgumentParser(prog="hostile.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"mutants of each format ({COUNT})")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (0)")
    parser.add_argument("--formats", default=",".join(FORMATS), help="comma-separated")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--json", type=Path, help="write the findings here")
    parser.add_argument("--also", default="", help="more mutants, as in nifti:2,png:88")
    parser.add_argument("--list", action="store_true", help="print the kinds of faults as known.py wants them")
    parser.add_argument("--only", choices=list(FORMATS), help="make one mutant again, with --seed")
    parser.add_argument("--seed", type=int, default=0, help="its number")
    parser.add_argument("--keep", type=Path, default=Path("mutant"), help="new folder for it")
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else options.formats.split(",")
    start = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that temporary files go
    with scratch_folder() as folder, contextlib.suppress(BrokenPipeError):
        warm = make_sound(folder / "sound", names)
        if options.only:
            return int(show_one(warm, options.only, options.seed, options.keep).verdict == FAULT)
        work = [(name, options.first + number) for number in range(options.count) for name in names]
        work += [(one.partition(":")[0], int(one.partition(":")[2])) for one in options.also.split(",") if one]
        (folder / "found").mkdir()
        findings = run_all(warm, work, options.workers, folder / "found")
    show(findings)
    if options.list:
        for key, one in sorted({one.key: one for one in reversed(findings) if one.verdict == FAULT}.items()):
            out.print(f'    "{key}": ("{one.format}", {one.number}),', markup=False, soft_wrap=True)
    faults = sum(one.verdict == FAULT for one in findings)
    out.print(f"{len(findings)} mutants, {faults} faults, {time.monotonic() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in findings]))
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
