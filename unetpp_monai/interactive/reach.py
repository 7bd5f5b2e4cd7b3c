"""Correct the logits around prompts, so that what is marked gets its label and its surroundings follow.

A network learns from clicks, but may still not do what they say. So the margin by which the label of a prompt loses
there without prompts is added to it, weighted by a squared exponential kernel of distance and intensity, as in the
Gaussian process of GPCIS (Zhou et al. 2023, arXiv 2302.14578); but each voxel follows one prompt, that with the highest
weight, and nothing is learned.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from ..inference import Slab
from ..prompts import bounds

MARGIN = 2.0  # logits by which the label of a prompt wins where it is marked
CONTRAST = 1.0  # standard deviation of the kernel in intensity, of the normalised image
FAR = 2.5  # standard deviations of the kernel in space where it ends
BESIDE = np.nextafter(np.float32(1), np.float32(0))  # highest weight where no prompt is
AT_ONCE = 1 << 22  # voxels whose nearest mark is sought at once, for memory


@dataclass(frozen=True, eq=False)
class Marked:
    """What a prompt marks, on the network's grid and on that of the image."""

    label: int  # index
    channel: int  # of the prompts
    voxels: NDArray[np.int64]  # (N, axes), each once
    places: NDArray[np.float64]  # (M, axes), between voxels: what was clicked
    image: NDArray[np.int64]  # (K, axes), voxels of the image, each once
    spread: bool = True  # what is around follows


class Reach:
    """The prompt that each voxel of an image follows.

    Args:
        image: `(C, *spatial)`, normalised.
        sigma: standard deviation of the kernel along each axis, voxels.

    Attributes:
        weight: `(*spatial)`, float32, from 0 to 1; 1 where a prompt is.
        number: `(*spatial)`, int32, of the prompt.
    """

    def __init__(self, image: torch.Tensor, sigma: Sequence[float]) -> None:
        self.image: NDArray[np.float32] = image.float().cpu().numpy()
        self.sigma = np.asarray(sigma, np.float64)
        shape: tuple[int, ...] = self.image.shape[1:]
        self.weight, self.number = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
        self._prompts: list[Marked] = []
        self._rows: list[tuple[int, int, int]] = []  # of each prompt: first and last that it reaches, last of its own

    def follow(self, prompts: Sequence[Marked]) -> None:
        """Follow these prompts and no others, later ones where weights are equal."""
        known = len(self._prompts)
        if known > len(prompts) or any(one is not other for one, other in zip(self._prompts, prompts, strict=False)):
            self._clear()
        try:
            for prompt in prompts[len(self._prompts) :]:
                self._add(prompt)
        except BaseException:  # half of a prompt would stay
            self._clear()
            raise

    def _clear(self) -> None:
        self.weight.fill(0)
        self.number.fill(0)
        self._prompts, self._rows = [], []

    def _add(self, prompt: Marked) -> None:
        shape, ends = self.weight.shape, np.floor(FAR * self.sigma * prompt.spread).astype(int)
        low = np.maximum(prompt.voxels.min(0) - ends, 0)
        high = np.minimum(prompt.voxels.max(0) + ends + 1, shape)
        self._rows.append((int(low[0]), int(high[0]) - 1, int(prompt.voxels[:, 0].max())))
        first, *others = map(slice, low.tolist(), high.tolist())
        rows = AT_ONCE // int((high - low)[1:].prod()) + 1 if len(prompt.places) > 1 else shape[0]
        for start in range(first.start, first.stop if prompt.spread else 0, rows):
            box = (slice(start, min(start + rows, first.stop)), *others)
            self._merge(box, self._from_place(prompt, box) if len(prompt.places) == 1 else self._from_all(prompt, box))
        for rounded in product((np.floor, np.ceil), repeat=len(shape)):  # all that interpolation would mix there
            corners = [step(at) for step, at in zip(rounded, np.round(prompt.places, 3).T, strict=True)]
            corner = tuple(np.clip(at.astype(int), 0, size - 1) for at, size in zip(corners, shape, strict=True))
            self.weight[corner], self.number[corner] = 1, len(self._prompts)
        self._prompts.append(prompt)

    def _merge(self, box: tuple[slice, ...], weight: NDArray[np.float32]) -> None:
        weight = np.minimum(weight, BESIDE)
        nearer = (weight >= self.weight[box]) & (weight > np.exp(-(FAR**2) / 2))
        self.weight[box][nearer] = weight[nearer]
        self.number[box][nearer] = len(self._prompts)

    def _from_place(self, prompt: Marked, box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Weights in a box, of a prompt at one place."""
        image = self.image[(slice(None), *box)]
        exponent = np.square(image - self.image[(slice(None), *prompt.voxels[0])].reshape(-1, *[1] * len(box))).sum(0)
        exponent /= CONTRAST**2
        for axis, (part, at) in enumerate(zip(box, prompt.places[0], strict=True)):
            steps = (np.arange(part.start, part.stop) - at) / self.sigma[axis]
            exponent += (steps**2).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(len(box))])
        return np.asarray(np.exp(exponent / -2))

    def _from_all(self, prompt: Marked, box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Weights in some rows, of the nearest voxel of a prompt."""
        from scipy import ndimage

        end = int(FAR * self.sigma[0])
        first = max(box[0].start - end, 0)
        low = np.array([first, *(part.start for part in box[1:])])
        free = np.ones([min(box[0].stop + end, len(self.weight)) - first, *(p.stop - p.start for p in box[1:])], bool)
        near = prompt.voxels - low
        free[tuple(near[(near[:, 0] >= 0) & (near[:, 0] < len(free))].T)] = False
        if free.all():
            return np.zeros([part.stop - part.start for part in box], np.float32)
        distance, nearest = ndimage.distance_transform_edt(free, 1 / self.sigma, return_indices=True)
        inside = slice(box[0].start - first, box[0].stop - first)
        marked = self.image[(slice(None), *(at[inside] + start for at, start in zip(nearest, low, strict=True)))]
        exponent = np.square(self.image[(slice(None), *box)] - marked).sum(0) / CONTRAST**2
        return np.asarray(np.exp((exponent + distance[inside].astype(np.float32) ** 2) / -2))

    def over(self, slabs: Iterable[Slab]) -> Iterator[Slab]:
        """Correct the logits of the image.

        Args:
            slabs: of the image, first to last, whose maps are the logits without prompts; each waits until every prompt
                that reaches it was seen.

        Yields:
            The same slabs; marked voxels have the label of their prompt.
        """
        losses = torch.zeros(2, len(self._prompts))  # sum over the voxels of each prompt, and their number
        waiting: deque[Slab] = deque()
        for slab in slabs:
            self._count(slab.start, slab.logits if slab.maps is None else slab.maps, losses)
            waiting.append(slab)
            while waiting and self._known(waiting[0], before=_rows(slab).stop):
                yield self._corrected(waiting.popleft(), losses)
        yield from (self._corrected(slab, losses) for slab in waiting)

    def _known(self, slab: Slab, *, before: int) -> bool:
        """Whether all prompts that reach a slab are in the rows before one."""
        rows = _rows(slab)
        return all(own < before for first, last, own in self._rows if first < rows.stop and last >= rows.start)

    def _count(self, start: int, logits: torch.Tensor, losses: torch.Tensor) -> None:
        """Add what the prompts' labels lose by in the rows of a slab, with its logits without prompts."""
        for number, prompt in enumerate(self._prompts):
            row = prompt.voxels[:, 0] - start
            inside = (row >= 0) & (row < logits.shape[1])
            voxels = prompt.voxels[inside]
            if len(voxels):
                there = logits[(slice(None), torch.from_numpy(row[inside]), *torch.from_numpy(voxels[:, 1:]).T)].cpu()
                lost = _lost(there, torch.full((1, len(voxels)), prompt.label))
                losses[:, number] += torch.stack([lost.sum(), torch.tensor(float(len(voxels)))])

    def _corrected(self, slab: Slab, losses: torch.Tensor) -> Slab:
        rows, device = _rows(slab), slab.logits.device
        reached = self.weight[rows]
        if not reached.any():
            return replace(slab, maps=None)
        box = bounds(reached > 0)
        weight = torch.from_numpy(reached[box]).to(device)
        number = torch.from_numpy(self.number[rows][box]).to(device).long()
        label = torch.tensor([prompt.label for prompt in self._prompts]).to(device)[number][None]
        mean = (losses[0] / losses[1].clamp(min=1)).to(device)
        logits = slab.logits.clone()  # windows that are kept must stay
        part = logits[(slice(None), *box)]
        part.scatter_add_(0, label, torch.where(weight == 1, _lost(part, label)[0], weight * mean[number])[None])
        return replace(slab, logits=logits, maps=None)


def _rows(slab: Slab) -> slice:
    return slice(slab.start, slab.start + slab.logits.shape[1])


def _lost(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """What labels `(1, *spatial)` need to win by `MARGIN`; at least 0."""
    best = logits.scatter(0, label, -torch.inf).amax(0, keepdim=True)
    return (best - logits.gather(0, label) + MARGIN).clamp(min=0)
