"""What each depth of the head task gives and costs on one head: `python -m benchmarks.locator.depths HEAD LABELS`.

LABELS are those of another program, 17 left and 53 right as FreeSurfer numbers them, which does not divide anterior
from posterior: both parts are compared together. Seconds are the least of `--rounds`, whose depths take turns: by the
clock for each step, of all threads' work (`cpu_seconds`) for a whole call. The latter hardly depends on what else a
machine does, so that depths are compared by it.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.locator.agreement import SIDES, dice, on_grid, upright
from benchmarks.tables import write_rows
from unetpp_monai import Segmenter, read_volume


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--task", default="hippocampus_head", help="or a bundle")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="folder for table.json")
    options = parser.parse_args()
    rows = measured(options.head, options.labels, task=options.task, runtime=options.runtime, rounds=options.rounds)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    full = next(row["seconds"]["network"] for row in rows if row["relative"] == 1)
    write_rows([described(row, full) for row in rows], options.output and options.output / "table.json")


def described(row: dict[str, Any], full: float) -> dict[str, Any]:
    """Return a row of the table; `full` is the network's seconds at full depth."""
    left, right = (sum(ml for label, ml in row["ml"].items() if side in label) for side in ("left", "right"))
    return {
        "depth": row["depth"],
        "Dice left": round(row["dice"][0], 3),
        "right": round(row["dice"][1], 3),
        "mL left": round(left, 2),
        "mL right": round(right, 2),
        "network, full depth = 1": round(row["seconds"]["network"] / full, 2),
        "whole call, full depth = 1": round(row["relative"], 2),
    }


def measured(head: Path, labels: Path, *, task: str | Path, runtime: str, rounds: int) -> list[dict[str, Any]]:
    """Segment a head at every depth and by `auto`; time is relative to the full depth."""
    segmenter = Segmenter.from_bundle(task, runtime=runtime, volumes=rounds)
    image, known = upright(read_volume(head)), upright(read_volume(labels))
    depths: tuple[int | str, ...] = (*segmenter.depths, "auto")
    rows: dict[int | str, dict[str, Any]] = {}
    seconds: dict[int | str, list[dict[str, float]]] = {depth: [] for depth in depths}
    for _ in range(rounds + 1):
        for depth in depths:
            begin = time.process_time()
            result = segmenter(image, depth=depth)
            seconds[depth].append({**result.seconds, "cpu": time.process_time() - begin})
            place = on_grid(result.labels, known)
            rows[depth] = {
                "depth": depth,
                "dice": [dice(np.isin(place, own), known.array[0] == number) for number, own in SIDES.items()],
                "ml": result.ml,
                "windows": result.windows,
            }
    for depth, row in rows.items():
        warm = seconds[depth][1:]  # the first call of a depth also builds its graph
        row["seconds"] = {step: min(each[step] for each in warm) for step in warm[0]}
        row["cpu_seconds"] = row["seconds"].pop("cpu")
    full = rows[segmenter.full_depth]
    for row in rows.values():
        row["relative"] = row["cpu_seconds"] / full["cpu_seconds"]
    return list(rows.values())


if __name__ == "__main__":
    main()
