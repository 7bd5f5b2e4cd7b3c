"""Images spoilt on purpose among sound ones: does the report's order put them first?

`python -m benchmarks.cohort.spoilt IMAGES -o OUT [--cases 208] [--other FOLDER]`. Left and right swapped cannot be seen
in an image of one hippocampus, and is left out.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpp_monai.bundle import read_bundle
from unetpp_monai.cohort.cases import Selection, list_cohort
from unetpp_monai.cohort.dispatch import Alone
from unetpp_monai.cohort.launch import Launch
from unetpp_monai.cohort.loop import Loop
from unetpp_monai.cohort.run import Cohort, cohort_records, prepare, run_cases
from unetpp_monai.cohort.statistics import Standing, standings
from unetpp_monai.cohort.table import Record
from unetpp_monai.cohort.work import Loaded, Model, Work
from unetpp_monai.io import find_cases, read_volume, write_nifti
from unetpp_monai.labels import Label
from unetpp_monai.segmenter import Segmenter
from unetpp_monai.volume import Volume
from unetpp_monai.words import counted
from unetpp_monai.workflows.calibrate import auroc
from unetpp_monai.workflows.request import Request

from ..tables import write_rows

Array = NDArray[np.float32]
Spoil = Callable[[Array, np.random.Generator], Array]
BUNDLE = Path("hippocampus")  # an included task
FALSE_ALARMS = 0.1  # share of the sound cases that may be flagged
RECALL = f"recall at {100 * FALSE_ALARMS:.0f} % false alarms"


def noisy(image: Array, rng: np.random.Generator) -> Array:
    """Add noise of twice the image's deviation."""
    return image + rng.normal(0, 2 * image.std(), image.shape).astype(np.float32)


def flipped(image: Array, rng: np.random.Generator) -> Array:
    """Turn Y and Z around, as a wrong header does."""
    return image[:, :, ::-1, ::-1]


def cut(image: Array, rng: np.random.Generator) -> Array:
    """Leave the last third along Y empty."""
    found = image.copy()
    found[:, :, found.shape[2] * 2 // 3 :] = 0
    return found


def inverted(image: Array, rng: np.random.Generator) -> Array:
    """Turn dark and bright around."""
    return image.max() + image.min() - image


WAYS: Mapping[str, Spoil] = {
    "noise": noisy,
    "Y and Z flipped": flipped,
    "cut by a third": cut,
    "contrast inverted": inverted,
}


def main() -> None:
    """Spoil, segment, rank, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=208)
    parser.add_argument("--other", type=Path, help="folder of images of another organ")
    options = parser.parse_args()
    images = find_cases(options.images)[: options.cases]
    volumes = {path.name: read_volume(path) for path in images}
    sources: dict[str, Callable[[int, Volume], Volume]] = {"sound": lambda index, volume: volume}
    for way, spoil in WAYS.items():
        sources[way] = lambda index, volume, spoil=spoil: spoilt(volume, spoil, index)
    if options.other is not None:
        others = [read_volume(path) for path in find_cases([options.other])]
        sources["other organ"] = lambda index, volume: crop_of(others[index % len(others)], volume, index)
    for way, make in sources.items():
        folder = options.output / "in" / way.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        for index, (name, volume) in enumerate(volumes.items()):
            if not (folder / name).exists():
                write_nifti(make(index, volume), folder / name)
    segmenter = Model(BUNDLE).load()
    records = {way: segment(segmenter, options.output, way.replace(" ", "_")) for way in sources}
    rows = [row(way, records["sound"], records[way]) for way in sources if way != "sound"]
    write_rows(rows, options.output / "table.json")


def spoilt(volume: Volume, spoil: Spoil, seed: int) -> Volume:
    """Spoil an image; the same for the same seed."""
    array = spoil(volume.array.astype(np.float32), np.random.default_rng(seed))
    return Volume(np.ascontiguousarray(array), volume.affine)


def crop_of(other: Volume, volume: Volume, seed: int) -> Volume:
    """A part of another image, of the size and on the grid of this one."""
    rng = np.random.default_rng(seed)
    array = other.array[:1].astype(np.float32)
    starts = [
        int(rng.integers(0, max(have - want, 0) + 1)) for have, want in zip(other.shape, volume.shape, strict=True)
    ]
    part = array[(slice(None), *(slice(start, start + want) for start, want in zip(starts, volume.shape, strict=True)))]
    padding = [(0, want - have) for have, want in zip(part.shape[1:], volume.shape, strict=True)]
    return Volume(np.pad(part, [(0, 0), *padding], mode="wrap"), volume.affine)


def segment(segmenter: Segmenter, output: Path, way: str) -> list[Record]:
    """Records of all cases of a way."""
    listed = list_cohort([output / "in" / way], output / "out" / way, Selection())
    cohort = Cohort(listed, output / "out" / way, read_bundle(BUNDLE))
    prepare(cohort)
    work = Work(Request(uncertainty=True))
    crew = Alone(Loop(Loaded(segmenter, work), work, cohort.ledger))
    run_cases(cohort, listed.cases, crew, launcher=Launch().stated())
    print(f"{way}: {counted(len(listed.cases), 'case')}", file=sys.stderr)
    return cohort_records(cohort)


def row(way: str, sound: Sequence[Record], bad: Sequence[Record]) -> dict[str, Any]:
    """Rank each spoilt case alone among the sound ones, as a cohort with one bad case does."""
    labels = read_bundle(BUNDLE).labels
    usual = standings(sound, labels)
    scores = [suspicion_among(record, sound, labels) for record in bad]
    limit = float(np.quantile([one.suspicion for one in usual], 1 - FALSE_ALARMS))
    values = np.array([*(one.suspicion for one in usual), *scores])
    positive = np.arange(len(values)) >= len(usual)
    recall = float(np.mean(np.array(scores) > limit))
    found = {"AUROC": round(auroc(values, positive), 3), RECALL: round(recall, 3)}
    return {"spoilt by": way, "cases": len(bad), **found}


def suspicion_among(record: Record, sound: Sequence[Record], labels: Sequence[Label]) -> float:
    """How suspicious a case is beside sound ones."""
    found: Standing = standings([*sound, record], labels)[-1]
    return found.suspicion


if __name__ == "__main__":
    main()
