"""Which sound and which wrong cases a bundle marks for review: `python -m benchmarks.plausible --dataset_dir DIR`.

The fold's cases must not be among those that the ranges were measured on (of a task's metadata.json: fold 0). Each is
segmented at every depth; then made wrong on purpose: half and twice the spacing, noise.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fold import TASK
from unetpp_monai import Segmenter, Volume, read_volume

from .fold import fold_cases


def main() -> None:
    """Print how many are marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--task", default=TASK, help="folder of a task, or the name of one in configs/")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--bundle", type=Path, default=Path("hippocampus"))
    parser.add_argument("--weights", type=Path, help="trained without the fold")
    parser.add_argument("--cases", type=int, help="no more than these")
    options = parser.parse_args()
    segmenter = Segmenter.from_bundle(options.bundle, weights=options.weights, device="cpu", runtime="eager")
    marked: dict[str, list[bool]] = {}
    for case in fold_cases(options.fold, options.dataset_dir, options.task)[: options.cases]:
        image = read_volume(case["image"])
        for depth in (*segmenter.depths, "auto"):
            result = segmenter(image, depth=depth)
            marked.setdefault(f"sound, depth {depth}", []).append(bool(result.review))
            for reason in result.plausibility or ():
                print(Path(case["image"]).name, f"depth {depth}:", reason)
        for name, wrong in made_wrong(image):
            marked.setdefault(name, []).append(bool(segmenter(wrong, depth=1).review))
    print(json.dumps({name: f"{sum(values)} of {len(values)}" for name, values in marked.items()}, indent=2))


def made_wrong(image: Volume) -> Iterator[tuple[str, Volume]]:
    """Yield the image with wrong spacing, and noise in its place."""
    if image.shape[2] > 1:  # pictures have no mm
        yield "spacing / 2", Volume(image.array, image.affine @ np.diag([0.5, 0.5, 0.5, 1]))
        yield "spacing x 2", Volume(image.array, image.affine @ np.diag([2.0, 2.0, 2.0, 1]))
    noise = np.random.default_rng(0).normal(size=image.array.shape).astype(np.float32)
    yield "noise", Volume(noise, image.affine)


if __name__ == "__main__":
    main()
