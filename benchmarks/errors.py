"""How much of the error is the outline, how much the border between labels: `python -m benchmarks.errors PRED REF`.

Dice as found; if every voxel found had the label of the nearest one in the reference; and if exactly the reference's
foreground had been found, every voxel with the label of the nearest one found.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unetpp_monai import read_volume
from unetpp_monai.calibration import mean_dice

Labels = NDArray[np.generic]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="folder of <case>_seg.nii.gz")
    parser.add_argument("references", type=Path, help="folder of <case>.nii.gz")
    options = parser.parse_args()
    cases = []
    for path in sorted(options.predictions.glob("*_seg.nii.gz")):
        reference = options.references / path.name.replace("_seg", "")
        cases.append([read_volume(file, labels=True).array[0] for file in (path, reference)])
    if not cases:
        parser.error(f"predictions must be named <case>_seg.nii.gz, found none in {options.predictions}")
    indices = sorted({int(index) for _, reference in cases for index in np.unique(reference)} - {0})
    print(f"{len(cases)} cases, mean Dice\n\n| | {' | '.join(map(str, indices))} |\n|---|{'---|' * len(indices)}")
    rows = {
        "as found": [(found, reference) for found, reference in cases],
        "labels by the reference": [(painted(found > 0, reference), reference) for found, reference in cases],
        "outline by the reference": [(painted(reference > 0, found), reference) for found, reference in cases],
    }
    for name, pairs in rows.items():
        means = [np.mean([mean_dice(found, reference, [index]) for found, reference in pairs]) for index in indices]
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def painted(outline: NDArray[np.bool_], labels: Labels) -> Labels:
    """Give every voxel of `outline` `(X, Y, Z)` the label of the nearest labelled voxel, by voxels."""
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return np.where(outline, labels[tuple(nearest)], 0)


if __name__ == "__main__":
    main()
