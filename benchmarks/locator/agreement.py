"""What becomes of a head after all that can happen to it: `python -m benchmarks.locator.agreement HEAD -o OUT`.

HEAD is segmented as it is and after each change of `changes.py`. Every result is laid on the grid of HEAD and compared
with that of the unchanged head and, with `--labels`, with labels of another program, 17 left and 53 right as FreeSurfer
numbers them. `--others` are images without a hippocampus, or such that no result could be right: files, folders of
which the first three are taken, DICOM series. A failure is silent if a result is wrong and nothing says so.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch
from scipy.ndimage import binary_closing, binary_fill_holes

from benchmarks.locator.changes import EXCHANGED, NONE, SOUND, Change, doubtful, orientations, sound, without
from unetpp_monai import Segmenter, read_volume
from unetpp_monai.errors import UnetppError
from unetpp_monai.files import complete_file
from unetpp_monai.volume import Volume

SIDES = {17: (1, 2), 53: (3, 4)}  # FreeSurfer's number -> labels of the task
WRONG = 0.8  # Dice of a side with that of the unchanged head, below which a result is wrong


def main() -> None:
    """Write a line of JSON for each change, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="instead of the task's")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--only", default="", help="part of the names of the changes to make")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.from_bundle("hippocampus_head", weights=options.weights, runtime=options.runtime)
    rows = []
    for row in measured(segmenter, options):
        print(json.dumps(row), flush=True)
        rows.append(row)
    with complete_file(options.output / "agreement.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")
    with complete_file(options.output / "agreement.md") as temporary:
        temporary.write_text(table(rows))


def measured(segmenter: Segmenter, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Segment the head, and what becomes of it."""
    head = upright(read_volume(options.head))
    known = None if options.labels is None else upright(read_volume(options.labels))
    first = segmenter(head)
    brain = _brain(segmenter, head)
    yield row_of(Change("as it is", SOUND, lambda: head), segmenter, first.labels, known)
    changes = [*sound(head, brain), *doubtful(head, brain), *without(head, brain), *_others(options.others)]
    for change in [*changes, *orientations(head)]:
        if options.only in change.name:
            yield row_of(change, segmenter, first.labels, known)


def row_of(change: Change, segmenter: Segmenter, first: Volume, known: Volume | None) -> dict[str, Any]:
    """Segment one image and say what became of it."""
    row: dict[str, Any] = {"change": change.name, "expected": change.expected}
    begin = time.perf_counter()
    try:
        result = segmenter(change.make())
    except UnetppError as error:
        return {**row, "state": "refused", "said": [str(error)], "silent": False}
    row["seconds"] = round(time.perf_counter() - begin, 2)
    row["state"], row["said"] = ("flagged" if result.plausibility else "plain"), list(result.plausibility or ())
    row["ml"] = {key: round(value, 3) for key, value in result.ml.items()}
    row["doubt"] = [round(found.uncertainty, 4) for found in result.located.found] if result.located else []
    row["brain_ml"] = round(result.located.brain_ml) if result.located else None
    if change.expected == NONE:
        return {**row, "silent": row["state"] == "plain"}
    own = on_grid(result.labels, first)
    if change.expected == EXCHANGED:
        own = np.array([0, 3, 4, 1, 2], np.uint8)[own[::-1]]
    row["same"] = [round(dice(np.isin(own, labels), np.isin(first.array[0], labels)), 4) for labels in SIDES.values()]
    row["identical"] = bool(np.array_equal(own, first.array[0]))
    if known is not None and change.expected != EXCHANGED:
        place = on_grid(result.labels, known)
        row["known"] = [
            round(dice(np.isin(place, labels), known.array[0] == number), 4) for number, labels in SIDES.items()
        ]
    return {**row, "silent": row["state"] == "plain" and min(row["same"]) < WRONG}


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown; the 48 orientations are one."""
    turned = [row for row in rows if row["change"].startswith("axes ")]
    others = [row for row in rows if row not in turned]
    lines = [
        [row["change"], row["state"], *_pair(row.get("same")), *_pair(row.get("known")), "; ".join(row["said"])]
        for row in others
    ]
    heads = ["change", "result", "same, left", "right", "known, left", "right", "said"]
    text = "".join("| " + " | ".join(cells) + " |\n" for cells in [heads, ["---"] * len(heads), *lines])
    if turned:
        equal = sum(row.get("identical", False) for row in turned)
        text += f"\n{len(turned)} orders and directions of the axes: {equal} with identical labels.\n"
    return text + f"\n{sum(row['silent'] for row in rows)} silent failures in {len(rows)} images.\n"


def _pair(values: list[float] | None) -> list[str]:
    return ["", ""] if values is None else [f"{value:.3f}" for value in values]


def _others(paths: list[Path]) -> Iterator[Change]:
    for path in paths:
        files = sorted(path.rglob("*.nii.gz"))[:3] or [path]  # else a file, or a DICOM series
        for file in files:
            yield Change(file.name, NONE, lambda file=file: read_volume(file))


def upright(volume: Volume) -> Volume:
    """The same voxels with axes in the order and direction of RAS."""
    image = nib.as_closest_canonical(nib.Nifti1Image(volume.array[0], volume.affine))
    return Volume(np.asarray(image.dataobj)[None], image.affine)


def _brain(segmenter: Segmenter, head: Volume) -> np.ndarray:
    """A mask of the brain as the locator sees it, on the grid of a head: for the changes that need one."""
    locator = segmenter._inferer.locator
    with torch.inference_mode():
        prepared = segmenter.prepare(head)
        image = segmenter._batch(prepared)
        classes, _ = locator._classified(image)
    mask = np.isin(classes, locator.brain)
    mask = binary_fill_holes(binary_closing(mask, iterations=2))
    coarse = np.asarray(prepared.data["image"].affine) @ np.diag([*locator.factors, 1.0])
    coarse[:3, 3] += np.asarray(prepared.data["image"].affine)[:3, :3] @ ((np.array(locator.factors) - 1) / 2)
    return on_grid(Volume(mask[None].astype(np.uint8), coarse), head) > 0


def on_grid(labels: Volume, grid: Volume) -> np.ndarray:
    """Labels `(X, Y, Z)` on another grid, each voxel that of the nearest."""
    if labels.same_grid(grid):
        return np.asarray(labels.array[0])
    source = MetaTensor(torch.from_numpy(labels.array.astype(np.float32)), meta={"affine": labels.affine})
    target = MetaTensor(torch.zeros(1, *grid.shape), meta={"affine": grid.affine})
    found = ResampleToMatch(mode="nearest", padding_mode="zeros")(source, target)
    return found.numpy()[0].round().astype(np.uint8)


def dice(found: np.ndarray, wanted: np.ndarray) -> float:
    """Dice of two masks; 1 if both are empty."""
    total = found.sum() + wanted.sum()
    return float(2 * (found & wanted).sum() / total) if total else 1.0


if __name__ == "__main__":
    main()
