"""Colin27, and a CT of a head, of two Debian packages: `python -m benchmarks.locator.packaged FOLDER -o OUT`.

    apt-get download mricron-data invesalius-examples
    for package in *.deb; do dpkg-deb -x $package FOLDER; done

Colin27 (`ch2.nii.gz`) is compared with AAL (`aal.nii.gz`), an atlas drawn on it that is coarse, twice as large as a
hippocampus: it says where one is, not how large. The CT (`Cranium.inv3`) must be refused or flagged, as stored and in
two windows.
"""

import argparse
import plistlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.locator.agreement import on_grid, row_of, upright
from benchmarks.locator.changes import NONE, Change
from benchmarks.tables import write_rows
from unetpp_monai import Segmenter, read_volume
from unetpp_monai.volume import Volume

AAL = {37: (1, 2), 38: (3, 4)}  # number of a side's hippocampus in AAL -> labels of the task
WINDOWS = {"as stored": (-1024, 4000), "brain, 0 to 80 HU": (0, 80), "soft tissue, -200 to 400 HU": (-200, 400)}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.from_bundle("hippocampus_head")
    for rows, name in ((colin27, "colin27.json"), (computed, "ct.json")):
        write_rows([row for found in rows(segmenter, options.folder) for row in found], options.output / name)


def colin27(segmenter: Segmenter, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Measure the distance of located and segmented hippocampi from AAL's, in mm."""
    atlas = upright(read_volume(_file(folder, "aal.nii.gz")))
    for name in ("ch2.nii.gz", "ch2bet.nii.gz"):
        result = segmenter(read_volume(_file(folder, name)))
        found = on_grid(result.labels, atlas)
        rows = []
        for structure, (number, own) in zip(result.located.found, AAL.items(), strict=True):
            wanted, mask = np.rint(atlas.array[0]) == number, np.isin(found, own)
            centre = _centre(wanted, atlas)
            row = {
                "image": name,
                "structure": structure.name,
                "located, mm from AAL's centre": round(float(np.linalg.norm(np.array(structure.centre) - centre)), 1),
                "segmented, mm": round(float(np.linalg.norm(_centre(mask, atlas) - centre)), 1),
                "% within AAL's": round(100 * float((mask & wanted).sum() / mask.sum())),
                "mL": round(sum(result.ml[label.name] for label in segmenter.bundle.labels if label.index in own), 2),
                "flags": len(result.plausibility or ()),
            }
            rows.append(row)
        yield rows


def computed(segmenter: Segmenter, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Segment the CT in each window."""
    scan = read_inv3(_file(folder, "Cranium.inv3"))
    for name, (low, high) in WINDOWS.items():
        seen = Volume(np.clip(scan.array, low, high), scan.affine)
        row = row_of(Change(f"CT, {name}", NONE, lambda seen=seen: seen), segmenter, scan, None)
        left, right = (sum(ml for label, ml in row["ml"].items() if side in label) for side in ("left", "right"))
        yield [
            {
                "CT of a head": name,
                "result": row["state"],
                "flags": len(row["said"]),
                "mL left": round(left, 2),
                "mL right": round(right, 2),
            }
        ]


def read_inv3(path: Path) -> Volume:
    """Read the image of a project of InVesalius, whose rows go to the front and columns to the left."""
    with tarfile.open(path) as archive:
        files = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
        stated = plistlib.loads(archive.extractfile(files["main.plist"]).read())
        data = archive.extractfile(files[stated["matrix"]["filename"]]).read()
    array = np.frombuffer(data, stated["matrix"]["dtype"]).reshape(stated["matrix"]["shape"])
    x, y, z = stated["spacing"]
    return Volume(array.transpose(2, 1, 0)[None], np.diag([-x, y, z, 1.0]))


def _file(folder: Path, name: str) -> Path:
    return next(folder.rglob(name))


def _centre(mask: np.ndarray, grid: Volume) -> np.ndarray:
    return np.argwhere(mask).mean(0) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


if __name__ == "__main__":
    main()
