"""Memory that a training may use, and an estimate of what it needs."""

import re
from dataclasses import dataclass
from functools import cache

from ..errors import InputError
from ..memory import GIB
from ..posix_only import installed_memory
from .topology import Topology

SIZES = (2, 4, 8, 12, 16, 24, 40, 80)  # GiB; memory is rounded down so that similar machines get the same plan
ON_CPU = 2  # most GiB of "auto" without a GPU: larger steps take over a minute on few cores
SHARE = 0.8  # fraction of the budget to use: memory of libraries is not counted
OWN = 0.6 * GIB  # bytes before the first step: libraries, CUDA context
BACKWARD = 1.6  # peak bytes per stored byte: gradients, copies made by convolutions
PER_PARAMETER = 16  # bytes: value, gradient and Adam's two moments
PER_LOGIT = 12  # bytes per output of a head: value, softmax and gradient
WIDE = 10.0  # GiB at which the first level has WIDTHS[True] channels
WIDTHS = {False: 16, True: 32}
MOST = {2: 512, 3: 320}  # most channels of a level
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Memory that a training may use."""

    gib: float
    source: str  # for people
    gpu: bool  # then convolutions use half precision

    @property
    def bytes(self) -> float:
        """Return the bytes to plan for."""
        return self.gib * GIB


@dataclass(frozen=True)
class Shape:
    """Size of a network, besides its topology."""

    dims: int
    in_channels: int
    out_channels: int
    width: int  # channels of the first level
    half: bool  # precision of convolutions

    def features(self, topology: Topology) -> list[int]:
        """Return the channels per level."""
        return [min(self.width << level, MOST[self.dims]) for level in range(len(topology.kernels))]


def memory_budget(stated: str) -> Budget:
    """Parse an amount of memory.

    Args:
        stated: such as "8GiB"; "auto": memory of the GPU, or of the machine without one.

    Raises:
        InputError: invalid amount.
    """
    import torch

    gpu = torch.cuda.is_available()
    if stated.lower() != "auto":
        return Budget(stated_gib(stated), "as stated", gpu)
    if gpu:
        total = torch.cuda.get_device_properties(0).total_memory / GIB
        return Budget(_rounded_down(total), "of the GPU, rounded down", gpu)
    installed = installed_memory()
    if installed is None:
        raise InputError("memory must be stated on this system, got auto; give an amount such as 8GiB", option="memory")
    return Budget(
        min(_rounded_down(installed / GIB), ON_CPU), f"of the machine, rounded down; at most {ON_CPU} GiB on a CPU", gpu
    )


def stated_gib(text: str) -> float:
    """Parse an amount of memory, in GiB.

    Args:
        text: such as "8GiB" or "800 MiB".

    Raises:
        InputError: invalid amount.
    """
    match = MEMORY.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"memory must be auto or an amount such as 8GiB, got {text!r}", option="memory")
    return float(match[1]) / (1024 if match[2].lower() == "mib" else 1)


def _rounded_down(gib: float) -> float:
    return max((size for size in SIZES if size <= gib * 1.05), default=gib)  # a 24 GB card has slightly less


def width_for(budget: Budget) -> int:
    """Return the channels of the first level."""
    return WIDTHS[budget.gib >= WIDE]


def peak_bytes(shape: Shape, topology: Topology, voxels: int) -> float:
    """Estimate the peak memory of a training step, in bytes.

    Args:
        shape: of the network.
        topology: of the network.
        voxels: in all patches of a batch.
    """
    per_voxel, parameters = network_costs(shape, topology)
    logits = PER_LOGIT * len(topology.strides) * shape.out_channels
    return OWN + BACKWARD * (per_voxel + logits) * voxels + PER_PARAMETER * parameters


@cache
def network_costs(shape: Shape, topology: Topology) -> tuple[float, int]:
    """Measure what a forward pass stores for the backward pass, using tensors without data.

    Args:
        shape: of the network.
        topology: of the network.

    Returns:
        Bytes per voxel of the input, and the number of parameters.
    """
    import torch

    from ..networks import UNetPlusPlus

    with torch.device("meta"):
        network = UNetPlusPlus(
            shape.dims,
            shape.in_channels,
            shape.out_channels,
            shape.features(topology),
            strides=topology.strides,
            kernel_size=topology.kernels,
        ).to(torch.float16 if shape.half else torch.float32)
        image = torch.empty(1, shape.in_channels, *(4 * step for step in topology.divisors)).to(
            torch.float16 if shape.half else torch.float32
        )
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # count a shared tensor once
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        heads = network.train()(image)
    total = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    del heads
    return total / image[0, 0].numel(), sum(parameter.numel() for parameter in network.parameters())
