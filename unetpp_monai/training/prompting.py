"""Simulate prompts for a training: none in some steps, else corrections as a user would give them.

Source: Diaz-Pinto et al. 2022, "DeepEdit", arXiv 2305.10655; here, one prompt per round and case.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..pieces import components
from ..prompts import Marks, ball, core, line, mark, no_marks, prompt_maps
from .initial_weights import fit_weights, read_weights, weights_file

Inferer = Callable[[torch.Tensor, torch.nn.Module], Any]
SEEN = 0.25  # fraction of first rounds that scribble in every label, right or wrong, as some users begin
STRAIGHT = 0.5  # fraction of scribbles that are lines; the others are eroded regions


@dataclass(frozen=True)
class PromptSampling:
    """Statistics of the simulated prompts."""

    share: float  # fraction of steps with prompts, 0 to 1
    rounds: int  # at most, each based on the current result
    scribbles: float  # fraction of prompts that are scribbles, 0 to 1
    jitter: int  # largest shift of a point along each axis, voxels


class PromptedBatch:
    """Prepare a batch for MONAI's trainer, with prompt maps after the image channels.

    Without labels to prompt, images are unchanged. Random numbers come from torch's generator. In steps without
    prompts, the labels may be those of the automatic network, so that its result stays.

    Args:
        network: being trained; predicts before each round.
        inferer: for these predictions.
        labels: indices of labels with prompts, one channel each, in this order.
        radius: of the ball around a point, mm.
        pixdim: spacing of the network's grid, mm.
        share, rounds, scribbles, jitter: see `PromptSampling`.
        automatic: weights of the automatic network, as for `InitialWeights`; "": the batch's labels in every step.
    """

    def __init__(  # noqa: PLR0913 - all prompt settings of a task
        self,
        network: torch.nn.Module,
        inferer: Inferer,
        *,
        labels: Sequence[int] = (),
        radius: float = 0.0,
        pixdim: Sequence[float] = (),
        share: float = 0.5,
        rounds: int = 1,
        scribbles: float = 0.0,
        jitter: int = 0,
        automatic: str | Path = "",
    ) -> None:
        self.network, self.inferer, self.labels = network, inferer, tuple(labels)
        self.offsets = ball(radius, pixdim) if self.labels else np.zeros((0, 0), np.int64)
        self.sampling = PromptSampling(share, rounds, scribbles, jitter)
        self.path = automatic

    def __call__(
        self, batch: Mapping[str, torch.Tensor], device: Any = None, non_blocking: bool = False, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images `(B, C + prompts, *spatial)` and labels `(B, 1, *spatial)` on the device."""
        image, label = (
            batch[key].to(device=device, non_blocking=non_blocking, **options) for key in ("image", "label")
        )
        if not self.labels:
            return image, label
        rng = np.random.default_rng(int(torch.randint(1 << 62, ())))
        maps = image.new_zeros(len(image), len(self.labels), *image.shape[2:])
        if rng.random() >= self.sampling.share:
            if self.path:
                label = torch.from_numpy(self._seen(image, self.automatic)[:, None]).to(label)
            return torch.cat([image, maps], 1), label
        truth = label[:, 0].cpu().numpy().astype(np.int64)
        marks = [no_marks(image.shape[2:]) for _ in image]
        everywhere = rng.random() < SEEN
        for number in range(int(rng.integers(1, self.sampling.rounds + 1))):
            if everywhere and number == 0:
                for each, case in zip(marks, truth, strict=True):
                    self._scribble_in_all(each, case, rng)
            else:
                seen = self._seen(torch.cat([image, maps], 1), self.network)
                for each, case, found in zip(marks, truth, seen, strict=True):
                    self._correct(each, case, found, rng)
            drawn = np.stack([prompt_maps(each, len(self.labels)) for each in marks])
            maps = torch.from_numpy(drawn).to(image)
        return torch.cat([image, maps], 1), label

    @cached_property
    def automatic(self) -> torch.nn.Module:
        """The automatic network, as it was before the training.

        Raises:
            InputError: the weights are of another network.
        """
        network = copy.deepcopy(getattr(self.network, "module", self.network)).eval()
        fitted = fit_weights(read_weights(weights_file(self.path)), network.state_dict(), prompts=len(self.labels))
        if fitted.share < 1:
            raise InputError(f"keep_automatic needs weights that fit, got {'; '.join(fitted.notes)}")
        network.load_state_dict(fitted.state)
        return network

    def _seen(self, images: torch.Tensor, network: torch.nn.Module) -> NDArray[np.int64]:
        """Return a network's labels `(B, *spatial)`."""
        was_training = network.training
        network.eval()
        with torch.no_grad():
            logits: torch.Tensor = self.inferer(images, network)
        network.train(was_training)
        return logits.argmax(1).cpu().numpy()

    def _scribble_in_all(self, marks: Marks, truth: NDArray[np.int64], rng: np.random.Generator) -> None:
        for channel, label in enumerate(self.labels):
            piece, size = largest_piece(truth == label)
            if size:
                mark(marks, scribble(piece, truth == label, rng), channel, self.offsets)

    def _correct(
        self, marks: Marks, truth: NDArray[np.int64], seen: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Prompt the largest error of one label, drawn by error size."""
        pieces = [largest_piece((truth == label) & (seen != label)) for label in self.labels]
        sizes = np.array([size for _, size in pieces], float)
        if not sizes.any():
            return
        channel = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        piece, allowed = pieces[channel][0], truth == self.labels[channel]
        if rng.random() < self.sampling.scribbles:
            voxels = scribble(piece, allowed, rng)
        else:
            voxels = point(piece, allowed, rng, jitter=self.sampling.jitter)
        mark(marks, voxels, channel, self.offsets)


def largest_piece(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Return the largest component of a mask `(*spatial)`, diagonals connected, and its number of voxels."""
    pieces, sizes = components(mask, 1)
    return (pieces[0], sizes[0]) if pieces else (mask, 0)


def point(
    piece: NDArray[np.bool_], allowed: NDArray[np.bool_], rng: np.random.Generator, *, jitter: int
) -> NDArray[np.int64]:
    """Draw a voxel `(1, axes)` of a component, preferably deep inside, and shift it if allowed."""
    from scipy import ndimage

    places = np.argwhere(piece)
    weights = ndimage.distance_transform_edt(np.pad(piece, 1))[(slice(1, -1),) * piece.ndim][piece] ** 2
    aim = places[rng.choice(len(places), p=weights / weights.sum())]
    beside = np.clip(aim + rng.integers(-jitter, jitter + 1, len(aim)), 0, np.array(piece.shape) - 1)
    return np.asarray((beside if allowed[tuple(beside)] else aim)[None])


def scribble(piece: NDArray[np.bool_], allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw voxels `(N, axes)`: a line between two voxels of a component, if allowed, or its eroded region."""
    if rng.random() >= STRAIGHT:
        return np.argwhere(core(piece))
    places = np.argwhere(piece)
    voxels = line(places[rng.integers(len(places), size=2)].astype(float))
    return np.asarray(voxels[allowed[tuple(voxels.T)]])
