"""What each depth of the head task gives and costs on one head: `python -m benchmarks.locator.depths HEAD LABELS`.

LABELS are those of another program, 17 left and 53 right as FreeSurfer numbers them, which does not divide anterior
from posterior: both parts are compared together. Seconds are the least of `--rounds`, whose depths take turns.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.locator.agreement import SIDES, dice, on_grid, upright
from unetpp_monai import Segmenter, read_volume


def main() -> None:
    """Print a line of JSON for each depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--task", default="hippocampus_head", help="or a bundle")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for row in measured(
        options.head, options.labels, task=options.task, runtime=options.runtime, rounds=options.rounds
    ):
        print(json.dumps(row), flush=True)


def measured(head: Path, labels: Path, *, task: str | Path, runtime: str, rounds: int) -> list[dict[str, Any]]:
    """Segment a head at every depth and by `auto`; time is relative to the full depth."""
    segmenter = Segmenter.from_bundle(task, runtime=runtime, volumes=rounds)
    image, known = upright(read_volume(head)), upright(read_volume(labels))
    depths: tuple[int | str, ...] = (*segmenter.depths, "auto")
    rows: dict[int | str, dict[str, Any]] = {}
    seconds: dict[int | str, list[dict[str, float]]] = {depth: [] for depth in depths}
    for _ in range(rounds + 1):
        for depth in depths:
            result = segmenter(image, depth=depth)
            seconds[depth].append(result.seconds)
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
        row["total"] = min(sum(each.values()) for each in warm)
    full = rows[segmenter.full_depth]
    for row in rows.values():
        row["relative"] = row["seconds"]["network"] / full["seconds"]["network"]
        row["relative_total"] = row["total"] / full["total"]
    return list(rows.values())


if __name__ == "__main__":
    main()
