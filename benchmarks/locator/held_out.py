"""How a locator does on label maps that no training saw: `python -m benchmarks.locator.held_out MAPS WEIGHTS`.

Heads are synthesised as for training. One line of JSON for each, and a last one for all: how many are refused, how far
the centres are from those of the labels, Dice of the hippocampi, doubt, and volumes of the hippocampi and the brain
over the true ones. Synthetic figures are no goals; they show what the ranges of the gates are made of.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.locator.heads import CLASSES, HELD_OUT, SPACING, Synthesis, read_maps
from unetpp_monai.errors import InputError
from unetpp_monai.inference import Locator
from unetpp_monai.pieces import components
from unetpp_monai.task import read_task


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    values = {
        key.removeprefix("locator_"): value
        for key, value in read_task("hippocampus_head").values.items()
        if key.startswith("locator_")
    }
    locator = Locator(pixdim=(SPACING,) * 3, **values)
    locator.network.load_state_dict(torch.load(options.weights, weights_only=True))
    rows = []
    for row in measured(locator, options.maps, options.images):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print(json.dumps(summary(rows)))


@torch.inference_mode()
def measured(locator: Locator, maps: Path, images: int) -> Iterator[dict[str, Any]]:
    """Locate in heads whose labels are known."""
    for number, seed, image, classes in _heads(maps, images // len(HELD_OUT)):
        known = classes[0].numpy()
        brain = np.isin(known, locator.brain)
        row: dict[str, Any] = {"map": number, "seed": seed, "brain": float(brain.sum() * SPACING**3 / 1000)}
        try:
            found = locator(image[None], None)
        except InputError as error:
            yield {**row, "refused": str(error).split(";")[0]}
            continue
        labels, _ = locator._classified(image[None])
        pieces = sorted(components(known == 1, 2)[0], key=lambda piece: float(np.argwhere(piece)[:, 0].mean()))
        centres = [(np.argwhere(piece).mean(0) + 0.5) * SPACING - SPACING / 2 for piece in pieces]
        away = [
            float(np.linalg.norm(np.array(one.centre) - centre))
            for one, centre in zip(found.found, centres, strict=False)
        ]
        yield {
            **row,
            "away_mm": away,
            "dice": _dice(labels, known, CLASSES.index("hippocampus")),
            "doubt": [one.uncertainty for one in found.found],
            "ml_over_known": [one.ml / _ml(piece) for one, piece in zip(found.found, pieces, strict=False)],
            "size": [one.size for one in found.found],
            "brain_over_known": found.brain_ml / row["brain"],
            "remarks": found.remarks,
        }


def _heads(maps: Path, count: int) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor]]:
    for number in HELD_OUT:
        with TemporaryDirectory() as folder:
            synthesis = Synthesis(read_maps(maps, [number]), Path(folder), count=8)
            for seed in range(count):
                yield number, seed, *synthesis(10_000 + seed)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The spread over all images that were not refused."""
    sound = [row for row in rows if "refused" not in row]
    spread = {}
    for key in ("away_mm", "dice", "doubt", "ml_over_known", "brain_over_known"):
        values = np.hstack([row[key] for row in sound])
        spread[key] = [float(f"{value:.3g}") for value in np.percentile(values, (0, 5, 50, 95, 100))]
    return {"images": len(rows), "refused": len(rows) - len(sound), **spread}


def _ml(piece: np.ndarray) -> float:
    return float(piece.sum() * SPACING**3 / 1000)


def _dice(found: np.ndarray, known: np.ndarray, number: int) -> float:
    one, other = found == number, known == number
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))


if __name__ == "__main__":
    main()
