"""A robot that clicks where a result is wrong, and what its clicks make of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpp_monai import Volume
from unetpp_monai.interactive import Point, Prompt, Scribble
from unetpp_monai.training.prompting import largest_piece, point
from unetpp_monai.workflows.metrics import compare_masks

Labels = NDArray[np.integer]  # (X, Y, Z)
Result = tuple[float, float | None, float]  # mean Dice of the labels, mean HD95 (mm), seconds of the answer


@dataclass(frozen=True)
class Case:
    """One case that no network was trained on."""

    name: str
    image: Volume
    reference: Volume  # (1, X, Y, Z), indices of labels
    scribbles: Volume | None = None  # (1, X, Y, Z), indices of labels that a person scribbled; -1: not marked


class Corrector:
    """What answers prompts; each contender is one."""

    def begin(self, case: Case) -> Labels:
        """Give the labels without any prompt."""
        raise NotImplementedError

    def add(self, prompt: Prompt) -> Labels:
        """Give the labels with one prompt more."""
        raise NotImplementedError


def next_click(case: Case, labels: Labels, rng: np.random.Generator, *, jitter: int) -> Point | None:
    """Click into the largest connected error, rather deep in it, with jitter; None: there is no error."""
    reference = case.reference.array[0]
    pieces = [(*largest_piece((reference == index) & (labels != index)), int(index)) for index in np.unique(reference)]
    piece, size, index = max(pieces, key=lambda found: found[1])
    if not size:
        return None
    voxel = point(piece, reference == index, rng, jitter=jitter)[0]
    x, y, z = (case.image.affine @ [*voxel, 1])[:3]
    return Point((float(x), float(y), float(z)), index)


def first_scribbles(case: Case) -> Iterator[Scribble]:
    """What a person scribbled, label by label."""
    if case.scribbles is None:
        return
    marked = case.scribbles.array[0]
    for index in sorted(set(np.unique(marked).tolist()) - {-1}):
        voxels = np.argwhere(marked == index)
        positions = voxels @ case.image.affine[:3, :3].T + case.image.affine[:3, 3]
        yield Scribble(positions, int(index), connected=False)


def correct(
    case: Case,
    corrector: Corrector,
    indices: Sequence[int],
    *,
    clicks: int,
    jitter: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Result]:
    """Correct a case, and score it before the first click and after each; the first prompts may be scribbles.

    Args:
        case: with its reference, which only the robot sees.
        corrector: what answers.
        indices: of the labels that are scored.
        clicks: of the robot.
        jitter: voxels at most that it clicks beside its aim.
        clock: seconds.
    """
    rng = np.random.default_rng(seed_of(case.name))
    start = clock()
    labels = corrector.begin(case)
    for scribble in first_scribbles(case):
        labels = corrector.add(scribble)
    seconds = clock() - start  # without what the score takes
    found = [(*score(case, labels, indices), seconds)]
    for _ in range(clicks):
        prompt = next_click(case, labels, rng, jitter=jitter)
        start = clock()
        labels = labels if prompt is None else corrector.add(prompt)
        seconds = clock() - start
        found.append((*score(case, labels, indices), seconds))
    return found


def score(case: Case, labels: Labels, indices: Sequence[int]) -> tuple[float, float | None]:
    """Mean Dice of the labels, and mean HD95 in mm where both have them."""
    reference, spacing = case.reference.array[0], case.image.spacing
    options = {"spacing": spacing, "tolerance": 1.0, "voxel_size": case.image.voxel_ml}
    rows = [compare_masks(labels == index, reference == index, **options) for index in indices]
    distances = [row.hd95 for row in rows if row.hd95 is not None]
    return float(np.mean([row.dice for row in rows])), float(np.mean(distances)) if distances else None


def seed_of(name: str) -> int:
    """Seed of the robot for a case."""
    return int.from_bytes(name.encode()[-8:], "little") % (1 << 32)
