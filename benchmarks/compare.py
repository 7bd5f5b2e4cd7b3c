"""Networks trained alike and compared: `python -m benchmarks.compare --dataset_dir DIR -o OUT [--task TASK] ...`.

Every network gets the same cases, augmentation, loss, schedule, steps and seeds: those of the base's `train.json`,
the task's values and `benchmarks/networks/<network>.json`, or `benchmarks/recipes/<recipe>.json`, each one change of
the recipe. The last weights are judged, on the cases of the left-out fold, so that nothing is chosen on them. A run
that is complete in OUT is not repeated, and one that was interrupted goes on.
"""

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from benchmarks.fold import TASK
from benchmarks.tables import timings, write_tables
from unetpp_monai.task import BASE, VALUES, find_task
from unetpp_monai.workflows.evaluate import CaseMetrics
from unetpp_monai.workflows.metrics import compare_masks

ROOT = Path(__file__).parents[1]
WEIGHTS = "progress_final.pt"  # what train.json leaves after the last epoch
NETWORKS = ("unetpp", "unetpp_single_head", "unetpp_attention", "unet", "unet_matched", "basic_unetpp", "dynunet")


def main() -> None:
    """Train what is not trained, judge what is not judged, print and write the tables."""
    options = parse()
    runs = list(product(options.networks, options.folds, options.seeds))
    for network, fold, seed in runs:
        folder = options.output / network / f"fold{fold}_seed{seed}"
        if not (folder / WEIGHTS).exists():
            train(options, network, fold, seed, folder)
        if not (folder / "cases.csv").exists():
            judge(options, network, fold, seed, folder)
    times = {} if options.rounds == 0 else timings(networks(options), options.rounds)
    write_tables(options.output, options.networks, times)


def parse() -> argparse.Namespace:
    """Read the command line; what is not known here replaces values of train.json, such as `--max_epochs 10`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--task", default=TASK, help="folder of a task, or the name of one in configs/")
    parser.add_argument(
        "--networks", nargs="+", default=list(NETWORKS), help="names of networks/*.json or recipes/*.json"
    )
    parser.add_argument("--folds", nargs="+", type=int, default=[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, default=5, help="of the interleaved timing; 0 = none")
    options, options.overrides = parser.parse_known_args()
    return options


def configs(options: argparse.Namespace, network: str) -> list[Path]:
    """Base, task and network, in the order in which they are merged."""
    found = [ROOT / "benchmarks" / kind / f"{network}.json" for kind in ("networks", "recipes")]
    if not (known := [path for path in found if path.is_file()]):
        raise SystemExit(f"networks must be of benchmarks/networks or benchmarks/recipes, got {network}")
    return [BASE / "train.json", find_task(options.task) / VALUES, known[0]]


def train(options: argparse.Namespace, network: str, fold: int, seed: int, folder: Path) -> None:
    """Run the bundle's training in a process of its own; its log goes to `log.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ",".join(f"'{path}'" for path in configs(options, network))
    values = {
        "config_file": f"[{files}]",
        "bundle_root": folder,
        "logging_file": BASE / "logging.conf",
        "dataset_dir": options.dataset_dir,
        "output_dir": folder,
        "ckpt_dir": folder,
        "fold": fold,
        "seed": seed,
        "resume": any(folder.glob("progress_checkpoint_*.pt")),
    }
    arguments = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    print(f"training {network}, fold {fold}, seed {seed}; log in {folder / 'log.txt'}", flush=True)
    with (folder / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "monai.bundle", "run", *arguments, *options.overrides]
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=True)


def parsed(options: argparse.Namespace, network: str, fold: int = 0) -> ConfigParser:
    """The training config with the network's overlay, for its parts."""
    parser = ConfigParser()
    parser.read_config([str(path) for path in configs(options, network)])
    parser["dataset_dir"] = str(options.dataset_dir)
    parser["fold"] = fold
    for name, value in zip(options.overrides[::2], options.overrides[1::2], strict=True):
        parser[name.removeprefix("--")] = json.loads(value)
    return parser


def judge(options: argparse.Namespace, network: str, fold: int, seed: int, folder: Path) -> None:
    """Compare every case of the fold at every depth that the network has, on the grid that the network sees."""
    parser = parsed(options, network, fold)
    net = parser.get_parsed_content("network").eval()
    net.load_state_dict(
        torch.load(folder / WEIGHTS, map_location=parser.get_parsed_content("device"), weights_only=True)["model"]
    )
    inferer = parser.get_parsed_content("validate#depth_inferer")
    rows: list[dict[str, Any]] = []
    for item in parser.get_parsed_content("validate#dataset"):
        case = Path(item["image"].meta["filename_or_obj"]).name
        spacing = (*item["image"].pixdim.tolist(), 1.0, 1.0)[:3]
        image = item["image"][None].to(parser.get_parsed_content("device"))
        for depth in depths(net):
            with torch.inference_mode():
                pred = inferer(image, net, depth=depth)[0].argmax(0).cpu().numpy()
            for index in range(1, parser["out_channels"]):
                found, reference = (
                    (array == index).reshape(*array.shape, *[1] * (3 - array.ndim))
                    for array in (pred, item["label"][0].numpy())
                )
                metrics = compare_masks(found, reference, spacing=spacing, tolerance=1.0, voxel_size=1.0)
                row = CaseMetrics(**asdict(metrics), case=case, label=str(index))
                counts = {"intersection": int((found & reference).sum()), "union": int((found | reference).sum())}
                about = {"network": network, "fold": fold, "seed": seed, "depth": depth or ""}
                rows.append({**about, **asdict(row), **counts})
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def depths(network: torch.nn.Module) -> list[int | None]:
    """Depths to judge a network at: full first; [None] where there is no choice."""
    if not hasattr(network, "prune"):
        return [None]
    return list(range(network.depth, network.first_head - 1, -1))


def networks(options: argparse.Namespace) -> dict[str, tuple[torch.nn.Module, torch.Tensor, int | None]]:
    """Row name -> network, a window as the training has it, and the depth."""
    found = {}
    for name in options.networks:
        parser = parsed(options, name)
        net = parser.get_parsed_content("network").eval()
        window = torch.randn(1, parser["in_channels"], *parser["roi_size"], device=next(net.parameters()).device)
        for depth in depths(net):
            found[name if depth in (None, depths(net)[0]) else f"{name} L{depth}"] = (net, window, depth)
    return found


if __name__ == "__main__":
    main()
