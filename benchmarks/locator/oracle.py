"""What the segmenter gives in boxes around known labels: `python -m benchmarks.locator.oracle HEAD LABELS`.

The goal for a locator is not to fall behind this. LABELS are on the grid of HEAD, 17 left and 53 right as FreeSurfer
numbers them. No weights of a locator are needed.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing
from torch.nn.functional import avg_pool3d

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.bundle import read_bundle, write_bundle
from unetpp_monai.bundle.weights import LOCATE, SEGMENT
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.task import check_task, find_task
from unetpp_monai.volume import Volume

SIDES = {17: (1, 2), 53: (3, 4)}  # FreeSurfer's number -> labels of the task
SURE = 50.0  # logit of a voxel that is a structure's as a whole


class Known(UNetPlusPlus):
    """Stands for the locator's network, and gives known labels."""

    def __init__(self, labels: Volume, classes: int) -> None:
        super().__init__(3, 1, classes, (2, 2))
        image = MetaTensor(torch.from_numpy(labels.array.astype(np.float32)), meta={"affine": labels.affine})
        self.labels = Spacing((1.0, 1.0, 1.0), mode="nearest")(
            Orientation(axcodes="RAS", labels=None)(image)
        ).as_tensor()

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Logits `(1, classes, *spatial)` by the share of each coarse voxel that a structure has."""
        shares = avg_pool3d(torch.cat([(self.labels == number).float() for number in SIDES])[None], 3, ceil_mode=True)
        logits = x.new_zeros(1, self.out_channels, *x.shape[2:])
        logits[0, 1] = shares[0].sum(0)
        logits[0, 0] = 1 - logits[0, 1]
        return logits * SURE


def main() -> None:
    """Print a line of JSON for each margin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--margins", type=float, nargs="+", default=[4.0, 6.0, 7.0, 8.0, 10.0], help="mm")
    options = parser.parse_args()
    for row in measured(options.head, options.labels, options.margins):
        print(json.dumps(row, default=float), flush=True)


def measured(head: Path, known: Path, margins: Sequence[float], **options: Any) -> Iterator[dict[str, Any]]:
    """Compare what is found in boxes of each margin, mm, with the labels that they are around."""
    image, labels = read_volume(head), read_volume(known)
    segmenter = _segmenter()
    locator = segmenter._inferer.locator
    locator.network, locator.brain_ml = Known(labels, len(locator.classes)).eval(), 0.0
    for margin in margins:
        locator.margin = margin
        result = segmenter(image, **options)
        found = {number: np.isin(result.labels.array, own) for number, own in SIDES.items()}
        dice = {number: _dice(mask, labels.array == number) for number, mask in found.items()}
        flagged = [said for said in result.plausibility if not said.startswith("brain")]  # which is not known
        stated = {"ml": result.ml, "score": result.score, "flagged": flagged, "seconds": result.seconds}
        yield {"margin": margin, "dice": dice, **stated}


def _segmenter() -> Segmenter:
    """The task's bundle with weights of the hippocampus, and a locator that has learned nothing."""
    task = check_task("hippocampus_head")
    features, classes = task.values["locator_features"], len(task.values["locator_classes"])
    segment = torch.load(find_task("hippocampus") / "model.pt", map_location="cpu", weights_only=True)
    locate = UNetPlusPlus(3, 1, classes, features).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.pt"
        joined = {f"{LOCATE}{key}": value for key, value in locate.items()}
        torch.save({**joined, **{f"{SEGMENT}{key}": value for key, value in segment.items()}}, weights)
        write_bundle(task, Path(folder) / "bundle", weights=weights)
        return Segmenter(read_bundle(Path(folder) / "bundle"), device="cpu")


def _dice(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


if __name__ == "__main__":
    main()
