"""Combine the predictions of boxes into slabs of the whole image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from monai.transforms import NormalizeIntensity

from ..located import Found
from .early_exit import BACKGROUND_LOGIT
from .slab import Slab, as_tensor

ROWS = 16  # of a slab; limits memory for large images


@dataclass(frozen=True)
class Part:
    """Prediction in one box."""

    found: Found
    logits: torch.Tensor  # (1 + labels of the structure, *shape of the box), float32
    maps: torch.Tensor | None = None  # (len(UNCERTAINTIES), *shape of the box), float32; None: not asked for

    @classmethod
    def of(cls, found: Found, slabs: Iterator[Slab]) -> "Part":
        """Join the slabs of a box."""
        return cls(found, *(torch.cat(rows, 1) for rows in zip(*(slab.layers for slab in slabs), strict=True)))

    @property
    def odds(self) -> torch.Tensor:
        """Logits of the labels relative to the background, `(labels, *shape of the box)`."""
        return self.logits[1:] - self.logits[:1]


def cut_out(image: torch.Tensor, found: Found) -> torch.Tensor:
    """Cut a box `(1, 1, *shape)` out of an image `(1, 1, X, Y, Z)`, with mean 0 and deviation 1, as in training."""
    crop = as_tensor(image)[0][(slice(None), *found.box)].clone(memory_format=torch.contiguous_format)
    return as_tensor(NormalizeIntensity(channel_wise=True)(crop))[None]  # in place


def pasted(shape: Sequence[int], parts: Sequence[Part]) -> Iterator[Slab]:
    """Yield the logits of the whole image in slabs from the first row to the last.

    The background's logit is 0 everywhere, so in overlapping boxes the label with the highest odds wins. Outside its
    box a label is impossible, as in constant windows.

    Args:
        shape: of the image, voxels.
        parts: of every box.
    """
    channels = 1 + sum(len(part.found.labels) for part in parts)
    odds = [part.odds for part in parts]
    boxes = [part.found.box[1:] for part in parts]
    within = tuple(
        slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in zip(*boxes, strict=True)
    )
    for start in range(0, shape[0], ROWS):
        rows = min(ROWS, shape[0] - start)
        logits = odds[0].new_full((channels, rows, *shape[1:]), -BACKGROUND_LOGIT)
        logits[0] = 0
        maps = None if (first := parts[0].maps) is None else first.new_zeros(len(first), rows, *shape[1:])
        for part, over in zip(parts, odds, strict=True):
            across, y, z = part.found.box
            low, high = max(start, across.start), min(start + rows, across.stop)
            if low >= high:
                continue
            target, source = slice(low - start, high - start), slice(low - across.start, high - across.start)
            for label, layer in zip(part.found.labels, over, strict=True):
                logits[label, target, y, z] = layer[source]
            if maps is not None and part.maps is not None:
                maps[:, target, y, z] = torch.maximum(maps[:, target, y, z], part.maps[:, source])
        yield Slab(start, logits, maps, within=within)
