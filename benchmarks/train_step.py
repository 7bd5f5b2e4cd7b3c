"""Training steps beside MONAI's UNet++: samples per second and peak memory, `python -m benchmarks.train_step`.

Forward, Dice + cross-entropy, backward and AdamW on random crops of the bundle's size; each network in a process of its
own, taking turns, medians over the rounds.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import BasicUNetPlusPlus

from benchmarks.tables import write_rows
from unetpp_monai import UNetPlusPlus, read_bundle

TRAIN = read_bundle("hippocampus").root / "configs/train.json"
NAMES = ("monai BasicUNetPlusPlus", "ours, final head", "ours, deep supervision", "ours, deep supervision, bfloat16")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--features", type=int, nargs=5, default=[16, 32, 64, 128, 256], help="MONAI's has five levels")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name in NAMES:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(name, options.features, there), daemon=True)
        process.start()
        here.recv()  # warmed up
        workers[name] = here
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for _ in range(options.rounds):
        for name, pipe in workers.items():
            pipe.send("step")
            results[name].append(pipe.recv())
    for pipe in workers.values():
        pipe.send("end")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds\n")
    speeds = {name: statistics.median(run[0] for run in runs) for name, runs in results.items()}
    first = next(iter(speeds.values()))
    rows = [
        {
            "network": name,
            "samples/s": round(speed, 2),
            "relative": round(speed / first, 2),
            "peak GiB": round(max(run[1] for run in results[name]), 2),
        }
        for name, speed in speeds.items()
    ]
    write_rows(rows, options.output)


def serve(name: str, features: list[int], pipe: Connection) -> None:
    """Take one step for each message; answer with samples per second and GiB."""
    config = json.loads(TRAIN.read_text())
    batch, crop = config["batch_size"], config["patch_size"]
    torch.manual_seed(0)
    images, labels = torch.rand(batch, 1, *crop), torch.randint(0, 3, (batch, 1, *crop))
    if name.startswith("monai"):
        network: torch.nn.Module = BasicUNetPlusPlus(3, 1, 3, features=[*features, features[0]])
    else:
        network = UNetPlusPlus(3, 1, 3, features, deep_supervision="deep" in name)
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in name):
            heads = network(images)
        loss([head.float() for head in heads] if isinstance(heads, list) else heads.float(), labels).backward()
        optimizer.step()
        return batch / (time.perf_counter() - start)

    step()
    pipe.send("ready")
    while pipe.recv() == "step":
        pipe.send((step(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2))


if __name__ == "__main__":
    main()
