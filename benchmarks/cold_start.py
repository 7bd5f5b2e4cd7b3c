"""How long does a command take to start? CPU seconds of whole processes, side by side, the median of some rounds.

python -m benchmarks.cold_start [--rounds 5]

Compares `unetpp segment` of the sample with importing torch and monai.bundle, which it cannot do without, plus the time
of the network. Also: OpenVINO's first start (nothing kept) and its second (the compiled model kept by the first).
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tables import write_rows

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "unetpp_monai/sample/mni_hippocampus_right.nii.gz"
IMPORTS = ("-c", "import torch, monai.bundle")
NETWORK = (  # CPU seconds of a volume once all is loaded
    "import time; from unetpp_monai import Segmenter, read_volume\n"
    "segmenter = Segmenter.from_bundle('hippocampus', device='cpu', runtime='eager')\n"
    f"volume = read_volume({str(SAMPLE)!r})\n"
    "segmenter(volume); start = time.process_time(); segmenter(volume); print(time.process_time() - start)"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, seconds in _round(Path(folder)).items():
                found.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, seconds in medians.items():
        print(f"{name:28} {seconds:6.2f} CPU s  ({min(found[name]):.2f} to {max(found[name]):.2f})")
    write_rows([{"what": name, "CPU s": round(seconds, 2)} for name, seconds in medians.items()], options.output)
    allowed = 1.3 * medians["imports"] + medians["network, eager"]
    print(f"segment, auto / (1.3 x imports + network): {medians['segment, auto'] / allowed:.2f}")


def _round(folder: Path) -> dict[str, float]:
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    found = {"imports": _cpu(*IMPORTS), "network, eager": float(_run("-c", NETWORK))}
    for name, options in (
        ("segment, auto", ()),
        ("segment, eager", ("--runtime", "eager")),
        ("segment, OpenVINO first", ("--runtime", "openvino")),
        ("segment, OpenVINO again", ("--runtime", "openvino")),
    ):
        out = folder / name.replace(" ", "_")
        command = ("segment", SAMPLE, "--task", "hippocampus", "-o", out, "--device", "cpu", *options)
        found[name] = _cpu("-m", "unetpp_monai", *command, **cache)
    return found


def _cpu(*arguments: object, **variables: str) -> float:
    """User and system seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(*arguments, **variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(*arguments: object, **variables: str) -> str:
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **variables}, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
