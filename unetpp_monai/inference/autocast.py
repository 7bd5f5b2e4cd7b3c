"""Mixed precision for inferers, also on CPUs."""

from collections.abc import Callable

import torch
from monai.inferers import Inferer


class AutocastInferer(Inferer):
    """Run the network of an inferer in bfloat16.

    Devices without it in hardware use float32.

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

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        """Return what the wrapped inferer returns for `inputs` `(B, C, *spatial)`."""
        device = inputs.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.enabled and has_fast_bfloat16(device)):
            return self.inferer(inputs, network, *args, **kwargs)  # type: ignore[no-any-return]


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
