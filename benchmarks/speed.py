"""Seconds from an image file to a label map, beside MONAI's networks and nnU-Net: `python -m benchmarks.speed IMAGE`.

Each contender is a process of its own (so that its peak memory is known) that has loaded and warmed up; they take
turns, and medians over the rounds are printed. Contenders have the bundle's widths, window, overlap and spacing.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from unetpp_monai import Volume, read_bundle, write_nifti
from unetpp_monai.bundle import load_network

ROOT = Path(__file__).parents[1]
DEFAULT = "monai:BasicUNetPlusPlus monai:BasicUNet ours:eager:full ours:openvino:full ours:openvino:auto"


def main() -> None:
    """Start the contenders, let them take turns, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="NIfTI volume, picture (ours), or ct: a made-up one of 512x512x300")
    parser.add_argument("--bundle", type=Path, default=read_bundle("hippocampus").root)
    parser.add_argument("--weights", type=Path, help="instead of the bundle's own")
    parser.add_argument("--contenders", nargs="+", default=DEFAULT.split(), help="the first is what ratios refer to")
    parser.add_argument("--pixdim", type=float, help="mm, instead of the bundle's spacing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nnunet_python", default=sys.executable, help="an interpreter that has nnunetv2")
    parser.add_argument("-o", "--output", type=Path, help="folder for table.md, table.json, speed.png")
    options = parser.parse_args()
    weights = options.weights or read_bundle(options.bundle).weights
    with tempfile.TemporaryDirectory() as folder:
        dice_known = options.pixdim is None and str(options.image) != "ct"
        if str(options.image) == "ct":
            options.image = _ct_like(Path(folder) / "ct.nii.gz")
        options.bundle = _with_spacing(options.bundle, options.pixdim, Path(folder) / "bundle")
        paths = [str(path.resolve()) for path in (options.bundle, weights, options.image)]
        workers = {}
        for index, name in enumerate(options.contenders):
            python = options.nnunet_python if name == "nnunet" else sys.executable
            out = str(Path(folder) / f"{index}.nii.gz")
            command = [python, "-W", "ignore", "-m", "benchmarks.contenders", name, *paths, out]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
            workers[name] = subprocess.Popen(command, **pipes)
            workers[name].ready = _answer(workers[name], "ready")["ready"]
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for _ in range(options.rounds):
            for name, worker in workers.items():
                worker.stdin.write("\n")
                worker.stdin.flush()
                results[name].append(_answer(worker, "seconds"))
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        peak = _gemm_peak()
        table = _table(results, _gflops(options.bundle, weights), peak)
        _print(table, peak, options)
        if dice_known and options.output is not None:
            metadata = read_bundle(options.bundle, weights=options.weights).metadata
            _plot(table, metadata, options.output / "speed.png")


def _ct_like(path: Path) -> Path:
    """A body of noise in air of -1024, 0.8 x 0.8 x 1 mm."""
    x, y = np.meshgrid(np.linspace(-1, 1, 512), np.linspace(-1, 1, 512), indexing="ij")
    body = (x**2 * 1.6 + y**2 * 2.5 < 1)[..., None]
    noise = np.random.default_rng(0).normal(40, 60, (512, 512, 300))
    volume = Volume(np.where(body, noise, -1024).astype(np.int16)[None], np.diag([0.8, 0.8, 1.0, 1.0]))
    write_nifti(volume, path)
    return path


def _with_spacing(bundle: Path, pixdim: float | None, copy: Path) -> Path:
    """The bundle, or a copy of it with another spacing."""
    if pixdim is None:
        return bundle
    shutil.copytree(bundle, copy)
    config = json.loads((copy / "configs/inference.json").read_text())
    config["pixdim"] = [pixdim] * len(config["pixdim"])
    (copy / "configs/inference.json").write_text(json.dumps(config))
    return copy


def _answer(worker: subprocess.Popen, key: str) -> dict[str, Any]:
    """The next JSON line that has the key; other lines are chatter."""
    for line in worker.stdout:
        if line.startswith("{") and key in line:
            return json.loads(line)
    raise SystemExit(f"{' '.join(map(str, worker.args))} ended with {worker.wait()}")


def _gflops(bundle: Path, weights: Path) -> dict[int, float]:
    """Depth -> GFLOP of one window, two per multiplication and addition."""
    found = read_bundle(bundle, weights=weights)
    parser = found.parser()
    network = load_network(found, parser, torch.device("cpu"))
    roi = parser.get_parsed_content("roi_size")
    window = torch.rand(1, network.in_channels, *roi)
    result = {}
    for depth in range(1, network.depth + 1):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(window, depth)
        result[depth] = counter.get_total_flops() / 1e9
    return result


def _gemm_peak() -> float:
    """GFLOP/s of a float32 matrix product, the best of some."""
    a = torch.rand(2048, 2048)
    best = 1e9
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


def _table(results: dict[str, list[dict[str, Any]]], gflops: dict[int, float], peak: float) -> list[dict[str, Any]]:
    rows = []
    reference = None
    for name, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        network = statistics.median(run["network"] for run in runs)
        reference = reference or seconds
        windows = {int(depth): count for depth, count in runs[0].get("windows", {}).items()}
        work = sum(gflops[depth] * count for depth, count in windows.items() if depth > 0)
        rows.append(
            {
                "contender": name,
                "seconds": round(seconds, 2),
                "speed-up": round(reference / seconds, 2),
                "in the network": round(network, 2),
                "share": round(network / seconds, 2),
                "GFLOP": round(work) if work else "",
                "of GEMM peak": round(work / network / peak, 2) if work else "",
                "peak GiB": round(max(run["peak_gib"] for run in runs), 2),
                "windows per depth": windows or "",
            }
        )
    return rows


def _print(table: list[dict[str, Any]], peak: float, options: argparse.Namespace) -> None:
    columns = list(table[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in table]
    about = (
        f"{options.image.name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.rounds} rounds, "
        f"float32 GEMM {peak:.0f} GFLOP/s"
    )
    text = "\n".join([about, "", *lines])
    print(text)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "table.md").write_text(text + "\n")
        (options.output / "table.json").write_text(json.dumps(table, indent=1) + "\n")


def _plot(table: list[dict[str, Any]], metadata: dict[str, Any], path: Path) -> None:
    """Dice of each depth, as the bundle's metadata states it, over seconds; a line for who has no weights here."""
    from matplotlib.figure import Figure

    dice = {depth: np.mean([row[key] for key in row if "Dice" in key]) for depth, row in metadata["depths"].items()}
    deepest = max(filter(str.isdecimal, dice), default="")
    lines: dict[str, list[tuple[float, float, str]]] = {}
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(table):
        kind, *rest = row["contender"].split(":")
        depth = rest[1].replace("full", deepest) if kind == "ours" else ""
        if depth in dice and not rest[2:]:  # Dice is float32's
            lines.setdefault(rest[0], []).append((row["seconds"], dice[depth], depth))
        elif kind != "ours":
            axes.axvline(row["seconds"], color="grey", linestyle=("-", "--", ":")[index % 3], linewidth=1)
            place = {"transform": axes.get_xaxis_transform(), "rotation": 90, "fontsize": 8}
            axes.text(row["seconds"], 0.02, f" {rest[0] if rest else 'nnU-Net'}", **place)
    for runtime, points in lines.items():
        numbered = [(x, y) for x, y, depth in points if depth != "auto"]
        (line,) = axes.plot([x for x, _ in numbered], [y for _, y in numbered], "o-", label=runtime)
        for x, y, depth in points:
            axes.annotate(depth, (x, y), textcoords="offset points", xytext=(4, -11), fontsize=8)
            if depth == "auto":
                axes.plot(x, y, "*", color=line.get_color(), markersize=9)
    axes.set_xlim(left=0)
    axes.set(xlabel="seconds, file to file", ylabel="mean Dice of the depth (fold 0)")
    axes.legend(title="ours", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
