"""What the error is made of: `python -m benchmarks.errors PRED REF`.

Mean Dice and IoU as found; if every voxel found had the label of the nearest one in the reference; if exactly the
reference's foreground had been found, every voxel with the label of the nearest one found; and if what is found were
made wider or narrower everywhere by one distance (up to 2 voxels), the one that fits the case's own reference best.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unetpp_monai import find_cases
from unetpp_monai.io import case_name
from unetpp_monai.words import counted
from unetpp_monai.workflows.label_pairs import read_label_map
from unetpp_monai.workflows.metrics import mean_dice

Labels = NDArray[np.generic]
DISTANCES = np.arange(-20, 21) / 10  # voxels; negative = narrower


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="folder of <case>_seg.nii.gz or .png")
    parser.add_argument("references", type=Path, help="folder of <case>.nii.gz or .png")
    parser.add_argument("--reference_values", type=int, nargs="*", default=[], help="of the labels 0, 1, ...")
    options = parser.parse_args()
    references = {case_name(case): case for case in find_cases(options.references)}
    cases = []
    for path in find_cases(options.predictions):
        name = case_name(path).removesuffix("_seg")
        if name not in references:
            parser.error(f"a prediction needs a reference of its name, found none for {path} in {options.references}")
        reference = read_label_map(references[name], None, options.reference_values)
        cases.append((read_label_map(path, None, ()).array[0], reference.array[0]))
    indices = sorted({int(index) for _, reference in cases for index in np.unique(reference)} - {0})
    heads = [f"{metric} {index}" for metric in ("Dice", "IoU") for index in indices]
    print(f"{counted(len(cases), 'case')}, means\n\n| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    rows = {
        "as found": cases,
        "labels by the reference": [(painted(found > 0, reference), reference) for found, reference in cases],
        "outline by the reference": [(painted(reference > 0, found), reference) for found, reference in cases],
        "outline moved as fits best": [(moved(found, reference, indices), reference) for found, reference in cases],
    }
    for name, pairs in rows.items():
        dice = np.array([[mean_dice(found, reference, [index]) for index in indices] for found, reference in pairs])
        means = [*dice.mean(0), *(dice / (2 - dice)).mean(0)]
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def painted(outline: NDArray[np.bool_], labels: Labels) -> Labels:
    """Give every voxel of `outline` `(X, Y, Z)` the label of the nearest labelled voxel, by voxels."""
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return np.where(outline, labels[tuple(nearest)], 0)


def moved(labels: Labels, reference: Labels, indices: list[int]) -> Labels:
    """Widen or narrow all of `labels` `(X, Y, Z)` by the distance that gives the best mean Dice with `reference`."""
    outside, inside = (distance_transform_edt(mask) for mask in (labels == 0, labels != 0))
    beyond = np.where(labels == 0, outside - 0.5, 0.5 - inside)  # voxels beyond the outline
    spread = painted(np.ones_like(beyond, bool), labels)
    candidates = (np.where(beyond < distance, spread, 0) for distance in DISTANCES)
    return max(candidates, key=lambda candidate: mean_dice(candidate, reference, indices))


if __name__ == "__main__":
    main()
