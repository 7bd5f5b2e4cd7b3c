"""Ranges for `gates` of a head task, measured on label maps: `python -m benchmarks.locator.ranges MAPS`.

Sizes and volumes as a locator without a mistake sees them at 3 mm; the ratio of the sides at 1 mm. Each range goes
`WIDER` beyond the smallest and the largest of the maps, and the volume as located as much further up as the locator
was seen to exceed what is then segmented.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool3d

from benchmarks.locator.heads import CLASSES, HIPPOCAMPI, SPACING, classes_of, read_maps
from unetpp_monai.pieces import components

SMALL = (1, 7, 18)  # maps whose hippocampi are too small to show what is normal
WIDER = 1.25
GENEROUS = 1.55  # volume as located over that segmented, at most, of the four sides of chris_t1 and the ICBM template
BRAIN = range(1, 4)  # of `CLASSES`


def main() -> None:
    """Print the ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    print(json.dumps(gates(parser.parse_args().maps)))


def gates(folder: Path) -> dict[str, Any]:
    """Measure the maps in a folder."""
    found = [_measured(folder, number) for number in range(1, 21) if number not in SMALL]
    sizes = np.array([size for each in found for size in each["size"]])
    values = {key: np.concatenate([each[key] for each in found]) for key in ("located", "brain", "sides")}
    return {
        "size": [_range(axis) for axis in sizes.T],
        "located": _range(values["located"], GENEROUS),
        **{key: _range(values[key]) for key in ("brain", "sides")},
    }


def _measured(folder: Path, number: int) -> dict[str, Any]:
    (head,) = read_maps(folder, [number])
    classes = classes_of(head.values)[head.labels.long()]
    step = int(SPACING)
    shares = [avg_pool3d((classes == at)[None].float(), step, ceil_mode=True)[0] for at in range(len(CLASSES))]
    coarse = torch.stack(shares).argmax(0).numpy()
    places = [np.argwhere(piece) for piece in components(coarse == 1, 2)[0]]
    fine = [int((head.labels == head.values.index(side)).sum()) for side in HIPPOCAMPI]
    return {
        "size": [(place.max(0) + 1 - place.min(0)) * SPACING for place in places],
        "located": [len(place) * SPACING**3 / 1000 for place in places],
        "brain": [np.isin(coarse, BRAIN).sum() * SPACING**3 / 1000],
        "sides": [fine[0] / fine[1]],
    }


def _range(values: np.ndarray, generous: float = 1.0) -> list[float]:
    return [float(f"{bound:.3g}") for bound in (values.min() / WIDER, values.max() * WIDER * generous)]


if __name__ == "__main__":
    main()
