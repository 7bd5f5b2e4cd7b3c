"""Thresholds of a bundle, from cases it was not trained on: when a window may stop, and which cases to look at."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import InputError
from .inferers import AIR, EarlyExit
from .segmenter import Segmenter
from .volume import Volume

THRESHOLDS = (0.0, *np.geomspace(1e-4, 0.2, 24).round(5).tolist())  # of a window's doubt, that are tried


@dataclass(frozen=True)
class Exit:
    """How far early exit may go."""

    threshold: float  # for `exit_threshold` in inference.json
    dice_full: float  # mean over cases and labels, every window at full depth
    dice_auto: float  # the same with the threshold
    held_out_loss: float  # of Dice, when the threshold comes from one half of the cases and the other half is judged
    windows: dict[int, int]  # depth -> windows that stopped there
    cases: int


@dataclass(frozen=True)
class Review:
    """Which cases a person should look at: those whose score is not below the threshold."""

    threshold: float  # of `Segmentation.score`
    share: float  # of the cases that is flagged
    recall: (
        float  # share of the quarter of cases with the lowest Dice that is flagged; flagging at random gives `share`
    )
    auroc: float  # of the score for that quarter; 0.5 = no better than chance
    cases: int


def calibrate(
    segmenter: Segmenter,
    cases: Iterable[tuple[Volume, Volume]],
    *,
    max_loss: float = 0.001,
    share: float = 0.25,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Exit, Review]:
    """Choose both thresholds.

    Args:
        segmenter: of the bundle.
        cases: image and reference label map on one grid; of a validation fold, never of the training.
        max_loss: of mean Dice that early exit may cost.
        share: of such cases that a person has time to look at, 0 < share <= 1.
        progress: called after each case.

    Raises:
        InputError: fewer than 4 cases, or another grid.
    """
    dice, scores, stops = [], [], []
    for done, (image, reference) in enumerate(cases, 1):
        if not image.same_grid(reference):
            raise InputError(f"a reference must lie on the grid of its image, got {reference.shape} for {image.shape}")
        values, windows = zip(*_try(segmenter, image, reference), strict=True)
        dice.append(values)
        stops.append(windows)
        score = segmenter(image, depth="full", uncertainty=True).score
        scores.append(1.0 if score is None else score)
        progress(done)
    if len(dice) < 4:
        raise InputError(f"calibration needs at least 4 cases, got {len(dice)}")
    table = np.array(dice)  # (cases, thresholds)
    best = _largest(table, max_loss)
    halves = [(table[::2], table[1::2]), (table[1::2], table[::2])]
    losses = [judged[:, 0] - judged[:, _largest(chosen, max_loss)] for chosen, judged in halves]
    total: Counter[int] = sum((windows[best] for windows in stops), Counter())
    exit_ = Exit(
        threshold=THRESHOLDS[best],
        dice_full=float(table[:, 0].mean()),
        dice_auto=float(table[:, best].mean()),
        held_out_loss=float(np.concatenate(losses).mean()),
        windows=dict(sorted(total.items())),
        cases=len(table),
    )
    return exit_, _review(table[:, 0], np.array(scores), share)


def _largest(table: NDArray[np.float64], max_loss: float) -> int:
    """Index of the largest threshold up to which no loss of mean Dice is larger than allowed."""
    too_much = np.flatnonzero(table[:, :1].mean() - table.mean(0) > max_loss)
    return int(too_much[0]) - 1 if len(too_much) else table.shape[1] - 1


def _review(dice: NDArray[np.float64], scores: NDArray[np.float64], share: float) -> Review:
    worst = dice <= np.quantile(dice, 0.25)
    threshold = float(np.quantile(scores, 1 - share, method="higher"))
    flagged = scores >= threshold
    return Review(
        threshold=threshold,
        share=float(flagged.mean()),
        recall=float(flagged[worst].mean()),
        auroc=auroc(scores, worst),
        cases=len(dice),
    )


def auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive has a higher score than a negative, ties half (Mann-Whitney U)."""
    difference = scores[positive][:, None] - scores[~positive][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def mean_dice(labels: NDArray[np.generic], reference: NDArray[np.generic], indices: Sequence[int]) -> float:
    """Dice, mean over label indices; 1 for a label that neither map has."""
    values = []
    for index in indices:
        found, wanted = labels == index, reference == index
        total = int(found.sum()) + int(wanted.sum())
        values.append(2 * int((found & wanted).sum()) / total if total else 1.0)
    return float(np.mean(values))


@torch.inference_mode()
def _try(segmenter: Segmenter, image: Volume, reference: Volume) -> Iterator[tuple[float, Counter[int]]]:
    """Dice and windows per depth of each threshold; the network runs once."""
    data = segmenter.prepare(image)
    batch = torch.as_tensor(data["image"])[None].to(segmenter.device)
    recording = _Recording(segmenter)
    for _ in segmenter.inferer.slabs(batch, recording):
        pass
    indices = [label.index for label in segmenter.bundle.labels]
    for threshold in THRESHOLDS:
        recording.rewind(threshold)
        found = segmenter.invert.from_slabs(data, segmenter.inferer.slabs(batch, recording.replay))
        labels = np.asarray(segmenter.postprocessing(found)["pred"]).reshape(reference.shape)
        yield mean_dice(labels, reference.array[0], indices), recording.counts


class _Recording:
    """The heads of every batch of windows, to be replayed with any threshold."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.network = segmenter.backend
        self.early_exit = EarlyExit(self.network, 0.0)
        self.batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.rewind(0.0)

    def rewind(self, threshold: float) -> None:
        """Go back to the first batch."""
        self.threshold, self.index, self.counts = threshold, count(), Counter[int]()

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Compute every head and keep logits `(L, B, C, *spatial)`, doubts `(L, B)` and which windows are constant."""
        grid = {"image": windows}
        heads = torch.stack([self.network.step(grid, depth).float() for depth in range(1, self.network.depth + 1)])
        flat = windows.flatten(2)
        constant = (flat.amax(2) == flat.amin(2)).all(1)
        self.batches.append((heads, torch.stack([self.early_exit.doubt(logits) for logits in heads]), constant))
        return heads[-1]

    def replay(self, windows: torch.Tensor) -> torch.Tensor:
        """The logits `(B, C, *spatial)` that `EarlyExit` gives for the next batch."""
        heads, doubts, constant = self.batches[next(self.index)]
        decided = doubts < self.threshold
        decided[-1] = True
        depths = decided.int().argmax(0)  # the first that is decided
        logits = heads[depths, torch.arange(len(windows), device=heads.device)]
        logits[constant] = 0
        logits[constant, 0] = AIR
        self.counts.update((torch.where(constant, 0, depths + 1)).tolist())
        return logits
