"""Predictions on the way from the network to the source grid: logits and, if requested, uncertainty maps.

Maps are separate from logits, except in tensors for MONAI: see `pack`.
"""

from dataclasses import dataclass, field

import torch
from monai.data import MetaTensor

UNCERTAINTIES = ("entropy", "disagreement")  # kinds of uncertainty, in the order of the channels of maps


@dataclass(frozen=True)
class Windows:
    """Prediction for a batch of windows.

    Example:
        >>> len(Windows(torch.zeros(1, 2, 8, 8)).layers)
        1
    """

    logits: torch.Tensor  # (B, out_channels, *spatial), float32
    maps: torch.Tensor | None = None  # (B, len(UNCERTAINTIES), *spatial), float32, 0 ... 1; None: not asked for

    @property
    def layers(self) -> tuple[torch.Tensor, ...]:
        """Logits and, if any, maps: they are stitched and averaged alike."""
        return (self.logits,) if self.maps is None else (self.logits, self.maps)


@dataclass(frozen=True)
class Slab:
    """Finished rows of a volume.

    Example:
        >>> len(Slab(0, torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)).layers)
        2
    """

    start: int  # index of the first row along the first spatial axis, 0-based
    logits: torch.Tensor  # (out_channels, rows, *other axes), float32
    maps: torch.Tensor | None = None  # (len(UNCERTAINTIES), rows, *other axes), float32, 0 ... 1; None: not asked for
    within: tuple[slice, ...] | None = field(default=None, kw_only=True)  # of the other axes, the same in all slabs;
    # outside of it logits and maps are constant, and the background is the highest; None: anything may be anywhere

    @property
    def layers(self) -> tuple[torch.Tensor, ...]:
        """Logits and, if any, maps."""
        return (self.logits,) if self.maps is None else (self.logits, self.maps)


def pack(windows: Windows) -> torch.Tensor:
    """Concatenate logits and maps into one tensor, for MONAI.

    MONAI's evaluators, inferers and MONAI Label's stock app pass one tensor from an inferer to the postprocessing. So
    `DepthInferer.__call__` packs, `InvertLabelsd.__call__` unpacks, and nothing else does either.

    Returns:
        `(B, out_channels, *spatial)`, followed by the channels of `UNCERTAINTIES` where there are maps.
    """
    return windows.logits if windows.maps is None else torch.cat(windows.layers, 1)


def unpack(packed: torch.Tensor, *, maps: bool) -> Slab:
    """Undo `pack` for one whole image.

    Args:
        packed: `(out_channels [+ len(UNCERTAINTIES)], *spatial)`.
        maps: whether it has channels of maps.
    """
    return Slab(0, packed[: -len(UNCERTAINTIES)], packed[-len(UNCERTAINTIES) :]) if maps else Slab(0, packed)


def as_tensor(image: torch.Tensor) -> torch.Tensor:
    """Remove MONAI's metadata from a tensor.

    Otherwise every operation copies it.

    Args:
        image: a tensor or `MetaTensor`.

    Returns:
        The same values.

    Example:
        >>> type(as_tensor(MetaTensor(torch.zeros(1, 8, 8))))
        <class 'torch.Tensor'>
    """
    return image.as_tensor() if isinstance(image, MetaTensor) else image
