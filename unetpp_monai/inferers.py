"""How the network is swept over a volume or a training batch, around MONAI's inferers."""

import math
from collections.abc import Callable, Sequence

import torch
from monai.inferers import Inferer


class AutocastInferer(Inferer):
    """Wrap an inferer so that the network runs in bfloat16 where the device has it in hardware.

    MONAI's own mixed precision is CUDA only (`monai/engines/trainer.py`); this one also serves CPUs with
    AVX512-BF16, needs no gradient scaler, and does nothing on other devices. Weights stay float32.

    Args:
        inferer: what calls the network.
        enabled: False = always float32.
    """

    def __init__(self, inferer: Inferer, *, enabled: bool = True) -> None:
        super().__init__()
        self.inferer, self.enabled = inferer, enabled

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        """Return what the wrapped inferer returns for `inputs` `(B, C, *spatial)`."""
        device = inputs.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.enabled and has_fast_bfloat16(device)):
            return self.inferer(inputs, network, *args, **kwargs)  # type: ignore[no-any-return]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware: CUDA from Ampere on, CPUs with AVX512-BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


class DepthInferer(Inferer):
    """Wrap an inferer so that the network is evaluated to a chosen depth.

    Args:
        inferer: what calls the network, such as MONAI's `SlidingWindowInferer`.
        depth: 1 ... the depth the network was built with; None = all of it.
    """

    def __init__(self, inferer: Inferer, *, depth: int | None = None) -> None:
        super().__init__()
        self.inferer, self.depth = inferer, depth

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: object, depth: int | None = None
    ) -> torch.Tensor:
        """Map images `(B, C, *spatial)` to logits `(B, out_channels, *spatial)`; a `depth` given here comes first."""
        chosen = self.depth if depth is None else depth
        options = {} if chosen is None else {"depth": chosen}
        logits: torch.Tensor = self.inferer(inputs, network, *args, **options)
        return logits


def window_count(shape: Sequence[int], roi_size: Sequence[int], overlap: float) -> int:
    """How many windows MONAI's `sliding_window_inference` evaluates.

    Args:
        shape: of the image, voxels per axis.
        roi_size: of a window, voxels per axis.
        overlap: fraction of a window shared with the next, 0 <= overlap < 1.
    """
    count = 1
    for size, roi in zip(shape, roi_size, strict=True):
        step = max(int(roi * (1 - overlap)), 1)
        count *= 1 + max(math.ceil((size - roi) / step), 0)
    return count
