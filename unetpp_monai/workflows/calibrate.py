"""Thresholds of a bundle, from cases it was not trained on: when a window may stop, and which cases to look at."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..inference import BACKGROUND_LOGIT, UNCERTAINTIES, Windows, expected_error
from ..segmenter import Segmenter
from ..volume import Volume
from .metrics import mean_dice

THRESHOLDS = (0.0, *np.geomspace(5e-4, 0.1, 24).round(5).tolist(), 1.0)  # of a window's doubt, tried at each depth
FEWEST = 4  # cases, two for each half
WORTH = 0.25  # share of the windows; a stop for fewer costs more time than it saves (docs/speed.md)


@dataclass(frozen=True)
class Exit:
    """How far early exit may go."""

    thresholds: tuple[float, ...]  # for `exit_thresholds` in inference.json, depth 1 first
    dice_full: float  # mean over cases and labels, every window at full depth
    dice_auto: float  # the same with the thresholds
    held_out_loss: float  # of Dice, when thresholds come from one half of the cases and the other half is judged
    windows: dict[int, int]  # depth -> windows that stopped there; 0 = constant, not computed
    cases: int


@dataclass(frozen=True)
class Review:
    """Which cases a person should look at: those whose score is not below the threshold."""

    measure: str  # of which `Segmentation.score` is the mean, one of `UNCERTAINTIES`
    threshold: float  # of that score
    share: float  # of the cases that is flagged
    recall: float  # share of the quarter of cases with the lowest Dice that is flagged; at random it is `share`
    auroc: float  # of the score for that quarter; 0.5 = no better than chance
    cases: int


@dataclass(frozen=True)
class Quota:
    """A threshold that flags a fixed share of a site's cases, good or bad."""

    measure: str  # of which the score is the mean
    threshold: float  # of that score
    share: float  # of the cases that it was set by, which it flags
    cases: int  # that it was set by


def site_quota(
    segmenter: Segmenter,
    images: Iterable[Volume],
    *,
    share: float = 0.1,
    progress: Callable[[int], None] = lambda done: None,
) -> Quota:
    """Choose the threshold of the score by images of a site alone: it flags the least certain of any, good or bad.

    Args:
        segmenter: of the bundle.
        images: of the site, as they come.
        share: of such cases that a person has time to look at, 0 < share <= 1.
        progress: called after each case.

    Raises:
        InputError: fewer than 4 cases, a share out of its range, or a depth that gives no score.
    """
    if not 0 < share <= 1:
        raise InputError(f"share must be 0 < share <= 1, got {share}")
    if not segmenter.default_depth.has_score:
        raise InputError(f"scores need several heads, got depth {segmenter.default_depth.value}; choose a deeper one")
    scores = []
    for done, image in enumerate(images, 1):
        score = segmenter(image, uncertainty=True).score
        scores.append(1.0 if score is None else score)  # 1: nothing was found
        progress(done)
    if len(scores) < FEWEST:
        raise InputError(f"calibration needs at least {FEWEST} cases, got {len(scores)}")
    threshold = float(np.quantile(scores, 1 - share, method="higher"))
    return Quota(segmenter.bundle.measure, threshold, float(np.mean(np.array(scores) >= threshold)), len(scores))


def calibrate(
    segmenter: Segmenter,
    cases: Iterable[tuple[Volume, Volume]],
    *,
    max_loss: float = 0.001,
    share: float = 0.25,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Exit, list[Review]]:
    """Choose both thresholds, and which measure finds the worst cases better.

    Args:
        segmenter: of the bundle.
        cases: image and reference label map on one grid; of a validation fold, never of the training.
        max_loss: of mean Dice that early exit may cost.
        share: of such cases that a person has time to look at, 0 < share <= 1.
        progress: called after each case.

    Returns:
        Early exit, and the review flag by each measure, the one with the higher AUROC first.

    Raises:
        InputError: fewer than 4 cases, another grid, or an argument out of its range.
    """
    each = ((segmenter, image, reference) for image, reference in cases)
    return calibrate_each(each, max_loss=max_loss, share=share, progress=progress)


def calibrate_each(
    cases: Iterable[tuple[Segmenter, Volume, Volume]],
    *,
    max_loss: float = 0.001,
    share: float = 0.25,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Exit, list[Review]]:
    """As `calibrate`, with one segmenter per case, such as that of the fold that has not seen it."""
    if max_loss < 0 or not 0 < share <= 1:
        raise InputError(f"max_loss must be >= 0 and share 0 < share <= 1, got {max_loss} and {share}")
    with tempfile.TemporaryDirectory() as folder:
        recordings: list[_Recording] = []
        scores: dict[str, list[float]] = {name: [] for name in reversed(UNCERTAINTIES)}
        for done, (segmenter, image, reference) in enumerate(cases, 1):
            if not image.same_grid(reference):
                raise InputError(
                    f"a reference must lie on the grid of its image, got {reference.shape} for {image.shape}"
                )
            recordings.append(_Recording(segmenter, image, reference, Path(folder) / f"{done}.pt"))
            measures = segmenter(image, depth="full", uncertainty=True).measures
            for name, values in scores.items():
                values.append(measures.get(name, 1.0))  # 1: nothing was found
            progress(done)
        if len(recordings) < FEWEST:
            raise InputError(f"calibration needs at least {FEWEST} cases, got {len(recordings)}")
        found = _search(recordings, max_loss)
        full, auto = (_judge(recordings, thresholds) for thresholds in ((), found))
        halves = [(recordings[::2], recordings[1::2]), (recordings[1::2], recordings[::2])]
        losses = [_judge(judged, ()) - _judge(judged, _search(chosen, max_loss)) for chosen, judged in halves]
        counts: Counter[int] = sum((recording.replay(found)[1] for recording in recordings), Counter())
    exit_ = Exit(
        thresholds=found,
        dice_full=float(full.mean()),
        dice_auto=float(auto.mean()),
        held_out_loss=float(np.concatenate(losses).mean()),
        windows=dict(sorted(counts.items())),
        cases=len(recordings),
    )
    reviews = [_review(name, full, np.array(values), share) for name, values in scores.items()]
    return exit_, sorted(reviews, key=lambda review: -review.auroc)


def _judge(recordings: Sequence["_Recording"], thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Dice of each case."""
    return np.array([recording.replay(thresholds)[0] for recording in recordings])


def _search(recordings: Sequence["_Recording"], max_loss: float) -> tuple[float, ...]:
    """Depth by depth, the largest threshold whose loss, with those before, stays within that depth's part of the whole.

    The shallowest comes first, since a window that stops there saves most. No threshold (0) where too few stop.
    """
    full, depths = _judge(recordings, ()).mean(), recordings[0].depth - 1
    found: tuple[float, ...] = ()
    for depth in range(1, depths + 1):
        losses = (full - _judge(recordings, (*found, threshold)).mean() for threshold in THRESHOLDS[1:])
        threshold = THRESHOLDS[_last_within(losses, max_loss * depth / depths)]
        stopped = sum((recording.replay((*found, threshold))[1] for recording in recordings), Counter[int]())
        computed = stopped.total() - stopped[0]
        found = (*found, threshold if stopped[depth] > WORTH * computed else 0.0)
    return found


def _last_within(losses: Iterable[float], limit: float) -> int:
    """How many losses come before the first that is above the limit; none after it is computed."""
    return sum(1 for _ in takewhile(lambda loss: loss <= limit, losses))


def _review(measure: str, dice: NDArray[np.float64], scores: NDArray[np.float64], share: float) -> Review:
    worst = dice <= np.quantile(dice, 0.25)
    threshold = float(np.quantile(scores, 1 - share, method="higher"))
    flagged = scores >= threshold
    return Review(
        measure=measure,
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


class _Recording:
    """The heads of every window of a case, computed once, to be replayed with any thresholds."""

    def __init__(self, segmenter: Segmenter, image: Volume, reference: Volume, path: Path) -> None:
        self.segmenter, self.reference, self.path = segmenter, reference, path
        self.depth = segmenter.depths[-1]
        self._known: dict[tuple[int, ...], float] = {}
        self.prepared = segmenter.prepare(image)
        batches: list[torch.Tensor] = []  # logits (L, B, C, *spatial)
        doubts: list[torch.Tensor] = []  # (L, B), of constant windows -1

        def record(windows: torch.Tensor) -> Windows:
            heads = segmenter.heads(windows)
            flat = windows.flatten(2)
            constant = (flat.amax(2) == flat.amin(2)).all(1)
            batches.append(heads)
            doubts.append(torch.stack([expected_error(logits) for logits in heads]).masked_fill(constant, -1.0).cpu())
            return Windows(heads[-1])

        segmenter.replay(self.prepared, record)
        torch.save(batches, path)
        self.doubts = torch.cat(doubts, 1)

    def replay(self, thresholds: Sequence[float]) -> tuple[float, Counter[int]]:
        """Mean Dice over the labels, and windows per depth, with these thresholds; equal depths are judged once."""
        limits = torch.tensor([*thresholds, *[0.0] * (self.depth - len(thresholds))])[:, None]
        decided = self.doubts < limits
        decided[-1] = True
        first = decided.int().argmax(0) + 1
        depths = tuple(torch.where(self.doubts[0] < 0, 0, first).tolist())
        if depths not in self._known:
            self._known[depths] = self._judge(depths)
        return self._known[depths], Counter(depths)

    def _judge(self, depths: tuple[int, ...]) -> float:
        """Mean Dice over the labels if each window stops at its depth."""
        batches, left = iter(torch.load(self.path, weights_only=True)), iter(depths)

        def answer(windows: torch.Tensor) -> Windows:
            heads, stops = next(batches), torch.tensor([next(left) for _ in windows])
            logits: torch.Tensor = heads[(stops - 1).clamp_min(0), torch.arange(len(windows))]
            logits[stops == 0] = 0
            logits[stops == 0, 0] = BACKGROUND_LOGIT
            return Windows(logits)

        labels = self.segmenter.replay(self.prepared, answer)
        return mean_dice(labels.array, self.reference.array, [label.index for label in self.segmenter.bundle.labels])
