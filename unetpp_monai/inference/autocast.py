"""Mixed precision for inferers, also on CPUs."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

logger = logging.getLogger(__name__)


class AutocastInferer(Inferer):
    """Run the network of an inferer in bfloat16.

    Devices without it in hardware use float32. So does a training step on a CPU whose gradients would be wrong, see
    `has_wrong_gradients`; the first one warns.

    MONAI's own mixed precision is CUDA only (`monai/engines/trainer.py`); this one also serves CPUs with
    AVX512-BF16, needs no gradient scaler, and does nothing on other devices. Weights stay float32.

    Args:
        inferer: calls the network.
        enabled: False: always float32.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> AutocastInferer(SimpleInferer())(torch.zeros(1, 1, 4, 4), torch.nn.Identity()).dtype
        torch.float32
    """

    def __init__(self, inferer: Inferer, *, enabled: bool = True) -> None:
        super().__init__()
        self.inferer, self.enabled = inferer, enabled
        self._warned = False

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        """Return what the wrapped inferer returns for `inputs` `(B, C, *spatial)`."""
        device = inputs.device
        enabled = self.enabled and has_fast_bfloat16(device)
        if enabled and has_wrong_gradients(inputs, network):
            enabled = False
            self._warn()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            return self.inferer(inputs, network, *args, **kwargs)  # type: ignore[no-any-return]

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "warning: this training uses float32, as patch_size is so short along its first axis that bfloat16 has "
                "wrong gradients on a CPU; a longer patch is faster, amp false avoids this warning"
            )


def has_wrong_gradients(inputs: torch.Tensor, network: Any) -> bool:
    """Tell whether bfloat16 gives wrong gradients of a `UNetPlusPlus` on a CPU.

    oneDNN reads beyond the data for the weights of a 3-D convolution whose input has fewer voxels than the kernel, but
    more than one, along the first axis: random numbers, NaN, or a crash (PyTorch 2.13).

    Args:
        inputs: patches `(B, C, *spatial)`.
        network: with `kernels` and `strides` per level, or one wrapped for several processes; others have none.

    Example:
        >>> has_wrong_gradients(torch.zeros(1, 1, 8, 8, 8), torch.nn.Identity())
        False
    """
    if inputs.device.type != "cpu" or inputs.dim() != 5 or not torch.is_grad_enabled():
        return False
    inner = getattr(network, "module", network)
    kernels, strides = (list(getattr(inner, name, ())) for name in ("kernels", "strides"))
    size = inputs.shape[2]
    for kernel, stride in zip(kernels, [*strides, (1,)], strict=False):
        if 1 < size < kernel[0]:
            return True
        size = -(-size // stride[0])
    return False


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware.

    Args:
        device: CUDA has it from Ampere on, CPUs with AVX512-BF16.

    Returns:
        True if it does.

    Example:
        >>> has_fast_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
