"""Our OpenVINO graph beside `torch.compile(backend="openvino")` and eager: start, steady state, logits.

Start is what the first call takes, in CPU seconds too; ours is started twice, the second time from the model that the
first kept. Contenders take turns; each shape has a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.tables import write_rows
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.runtimes.backend import choose_backend
from unetpp_monai.runtimes.openvino import import_openvino

Contender = Callable[[torch.Tensor], torch.Tensor]


def _compiled(network: UNetPlusPlus) -> Contender:
    """OpenVINO's backend of `torch.compile`, with its silent change to another compiler switched off."""
    from openvino.frontend.pytorch.torchdynamo import backend

    def refuse(*arguments: object) -> None:
        raise RuntimeError("OpenVINO did not compile this")

    backend.compile_fx = refuse
    options = {"device": "CPU", "config": {"INFERENCE_PRECISION_HINT": "f32"}, "aot_autograd": True}
    return torch.compile(network, backend="openvino", options=options)


def _ours(network: UNetPlusPlus) -> Contender:
    return choose_backend(network, "openvino", device=torch.device("cpu"))


CONTENDERS: dict[str, Callable[[UNetPlusPlus], Contender]] = {
    "eager": lambda network: network,
    "ours, first start": _ours,
    "ours, second start": _ours,
    "torch.compile": _compiled,
}


@torch.inference_mode()
def measure(shape: list[int], windows: int, rounds: int) -> list[dict[str, str]]:
    """Rows of the table of one shape."""
    import_openvino()
    network = UNetPlusPlus(3, 1, 3, (16, 32, 64, 128)).eval()
    images = torch.rand(windows, 1, *shape, generator=torch.Generator().manual_seed(0))
    expected = network(images)
    ready, starts, steady = {}, {}, {name: [] for name in CONTENDERS}
    for name, build in CONTENDERS.items():
        wall, cpu = time.perf_counter(), time.process_time()
        ready[name] = build(network)
        ready[name](images)
        starts[name] = time.perf_counter() - wall, time.process_time() - cpu
    for _ in range(rounds):
        for name, run in ready.items():
            start = time.perf_counter()
            run(images)
            steady[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in steady.items()}
    return [
        {
            "window": "x".join(map(str, shape)),
            "contender": name,
            "start s": f"{starts[name][0]:.2f}",
            "start CPU s": f"{starts[name][1]:.2f}",
            "steady s": f"{medians[name]:.3f}",
            "ratio": f"{medians[name] / medians['ours, first start']:.2f}",
            "logits differ by": f"{float((ready[name](images) - expected).abs().max()):.1e}",
        }
        for name in CONTENDERS
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["32x48x32", "64x64x64"])
    parser.add_argument("--windows", type=int, default=4, help="of a batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a shape, in a process of its own
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure([*map(int, options.one.split("x"))], options.windows, options.rounds)))
        return
    rows = []
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as folder:  # where our models are kept
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.openvino_compile", "--one", shape]
            command += ["--windows", str(options.windows), "--rounds", str(options.rounds)]
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows += json.loads(done.stdout.splitlines()[-1])
    print(f"{options.windows} windows, {torch.get_num_threads()} threads, torch {torch.__version__}, ", end="")
    print(f"OpenVINO {import_openvino().get_version().split('-')[0]}, {options.rounds} rounds\n")
    write_rows(rows, options.output)


if __name__ == "__main__":
    main()
