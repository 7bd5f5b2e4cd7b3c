"""What compared networks cost, and the tables and the plot of a comparison."""

import csv
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

METRICS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "surface_dice": "surface Dice"}
Timed = tuple[torch.nn.Module, torch.Tensor, int | None]


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Print rows as a Markdown table, and write them as JSON for `docs/figures.py take`."""
    shown = [dict(zip(rows[0], rows[0], strict=True)), dict.fromkeys(rows[0], "---"), *rows]
    print("\n".join(f"| {' | '.join(map(str, row.values()))} |" for row in shown))
    if path is not None:
        path.write_text(json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n")


def timings(networks: Mapping[str, Timed], rounds: int) -> dict[str, dict[str, float]]:
    """Row name -> parameters, GFLOPs and median seconds of one window, networks taking turns.

    A multiplication and an addition are two operations.
    """
    costs, seconds = {}, {name: [] for name in networks}
    for name, (network, window, depth) in networks.items():
        small = network if depth is None else network.prune(depth)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            small(window)
        parameters = sum(parameter.numel() for parameter in small.parameters())
        costs[name] = {"parameters": parameters, "GFLOPs": counter.get_total_flops() / 1e9}
    for _ in range(rounds):
        for name, (network, window, depth) in networks.items():
            options = {} if depth is None else {"depth": depth}
            start = time.perf_counter()
            with torch.inference_mode():
                network(window, **options)
            seconds[name].append(time.perf_counter() - start)
    return {name: {**costs[name], "seconds": statistics.median(seconds[name])} for name in networks}


def write_tables(folder: Path, networks: Sequence[str], costs: Mapping[str, Mapping[str, float]]) -> None:
    """Read every `cases.csv` below the folder, print the table, write `table.md`, `table.json` and `depths.png`."""
    rows = [row for name in networks for row in read_rows(folder / name)]
    names = list(dict.fromkeys(row["row"] for row in rows))
    first = names[0]
    table = [describe(name, rows, first, costs.get(name, {})) for name in names]
    columns = list(table[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(entry.get(column, "")) for column in columns) + " |" for entry in table]
    print("\n".join(lines))
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    (folder / "table.json").write_text(json.dumps(table, indent=1) + "\n")
    plot_depths(folder / "depths.png", table)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Every judged case of a network; a row is named after the network and, below full depth, the depth."""
    rows = []
    for path in sorted(folder.glob("*/cases.csv")):
        with path.open() as file:
            found = list(csv.DictReader(file))
        full = max((int(row["depth"] or 0) for row in found), default=0)
        for row in found:
            name = row["network"] if int(row["depth"] or 0) == full else f"{row['network']} L{row['depth']}"
            values = {metric: float(row[metric]) if row[metric] else None for metric in METRICS}
            rows.append({**row, **values, "row": name})
    return rows


def describe(name: str, rows: Sequence[Mapping[str, Any]], first: str, costs: Mapping[str, float]) -> dict[str, Any]:
    """One line of the table: mean ± sd over the runs (folds and seeds), and the paired test against the first row."""
    own = [row for row in rows if row["row"] == name]
    runs = sorted({(row["fold"], row["seed"]) for row in own})
    entry: dict[str, Any] = {"network": name, "runs": len(runs)}
    labels = sorted({row["label"] for row in own})
    for metric, title in METRICS.items():
        for label in labels:
            means = [
                mean(row[metric] for row in own if (row["fold"], row["seed"]) == run and row["label"] == label)
                for run in runs
            ]
            entry[title if len(labels) == 1 else f"{title} {label}"] = spread([one for one in means if one is not None])
    for label in labels:
        chosen = [row for row in own if row["label"] == label]
        pooled = [pooled_iou([row for row in chosen if (row["fold"], row["seed"]) == run]) for run in runs]
        entry["pooled IoU" if len(labels) == 1 else f"pooled IoU {label}"] = spread(pooled)
    entry["p"] = "" if name == first else f"{paired(own, [row for row in rows if row['row'] == first]):.2g}"
    entry["parameters"] = f"{costs['parameters']:,.0f}" if costs else ""
    entry["GFLOPs"] = f"{costs['GFLOPs']:.1f}" if costs else ""
    entry["seconds"] = f"{costs['seconds']:.3f}" if costs else ""
    return entry


def paired(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> float:
    """Two-sided Wilcoxon signed-rank test of the cases' Dice, mean over labels and seeds; 1 if all are equal."""
    from scipy.stats import wilcoxon

    first, second = by_case(rows), by_case(others)
    cases = sorted(first.keys() & second.keys())
    differences = np.array([first[case] - second[case] for case in cases])
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def by_case(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Case -> Dice, mean over labels and seeds."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row["dice"])
    return {case: statistics.mean(values) for case, values in cases.items()}


def pooled_iou(rows: Sequence[Mapping[str, Any]]) -> float:
    """Intersection over union of all cases' voxels together, so that a case counts by its size; 1 if all are empty."""
    union = sum(int(row["union"]) for row in rows)
    return sum(int(row["intersection"]) for row in rows) / union if union else 1.0


def spread(means: Sequence[float]) -> str:
    """Mean ± standard deviation; a distance to nothing is undefined."""
    if not means:
        return "undefined"
    return f"{statistics.mean(means):.3f}" + (f" ± {statistics.stdev(means):.3f}" if len(means) > 1 else "")


def mean(values: Any) -> float | None:
    """Mean of the values that are defined; None: of none."""
    defined = [value for value in values if value is not None]
    return statistics.mean(defined) if defined else None


def plot_depths(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """Draw overlap over seconds of one window: the depths of a network joined, the other networks as single points.

    What is more than 0.1 below the best, as depths that were not trained, is left out.
    """
    from matplotlib.figure import Figure

    metric = next(column for column in table[0] if column.startswith("IoU"))
    overlap = {entry["network"]: float(entry[metric].split(" ")[0]) for entry in table}
    best = max(overlap.values())
    timed = [entry for entry in table if entry["seconds"] and overlap[entry["network"]] >= best - 0.1]
    if not timed:
        return
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    panel = figure.subplots()
    families: dict[str, list[Mapping[str, Any]]] = {}
    for entry in timed:
        families.setdefault(entry["network"].split(" ")[0], []).append(entry)
    for name, entries in families.items():
        points = [(float(entry["seconds"]), overlap[entry["network"]]) for entry in entries]
        panel.plot(*zip(*points, strict=True), "o-", label=name)
        for entry, point in zip(entries[1:], points[1:], strict=True):
            panel.annotate(entry["network"].split(" ")[1], point, textcoords="offset points", xytext=(5, -10))
    panel.set(xlabel="seconds per window", ylabel=metric, ylim=(best - 0.1, best + 0.01))
    panel.legend(loc="lower right")
    figure.savefig(path, dpi=110)
