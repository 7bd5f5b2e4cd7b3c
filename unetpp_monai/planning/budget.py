"""How much memory a training may take, and how much one takes: counted without computing it."""

import os
import re
from dataclasses import dataclass
from functools import cache

from ..errors import InputError
from ..memory import GIB
from .topology import Topology

SIZES = (2, 4, 8, 12, 16, 24, 40, 80)  # GiB that memory is rounded down to, so that alike machines plan alike
ON_CPU = 2  # GiB at most that "auto" takes without a GPU: a step of more takes longer than a minute on few cores
SHARE = 0.8  # of the budget that is planned for: what libraries take for themselves is not counted
OWN = 0.6 * GIB  # bytes of the process before the first step: libraries, CUDA's context
BACKWARD = 1.6  # bytes at the peak for each that is kept: gradients on their way, copies that convolutions make
PER_PARAMETER = 16  # bytes: value, gradient and Adam's two moments
PER_LOGIT = 12  # bytes of each head's output: itself, its softmax and its gradient
WIDE = 10.0  # GiB at which the first level has WIDTHS[True] channels
WIDTHS = {False: 16, True: 32}
MOST = {2: 512, 3: 320}  # channels of a level
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Memory that a training may take."""

    gib: float
    source: str  # in words
    gpu: bool  # convolutions then run in half precision

    @property
    def bytes(self) -> float:
        """Of the plan."""
        return self.gib * GIB


@dataclass(frozen=True)
class Shape:
    """What a network's memory depends on, beside its topology."""

    dims: int
    in_channels: int
    out_channels: int
    width: int  # channels of the first level
    half: bool  # precision of convolutions

    def features(self, topology: Topology) -> list[int]:
        """Channels per level."""
        return [min(self.width << level, MOST[self.dims]) for level in range(len(topology.kernels))]


def memory_budget(stated: str) -> Budget:
    """Read an amount of memory.

    Args:
        stated: such as "8GiB"; "auto": what the GPU has, or the machine without one.

    Raises:
        InputError: no such amount.
    """
    import torch

    gpu = torch.cuda.is_available()
    if stated.lower() != "auto":
        match = MEMORY.fullmatch(stated.strip())
        if match is None or not float(match[1]):
            raise InputError(f"memory must be auto or an amount such as 8GiB, got {stated!r}", option="memory")
        gib = float(match[1]) / (1024 if match[2].lower() == "mib" else 1)
        return Budget(gib, "as stated", gpu)
    if gpu:
        total = torch.cuda.get_device_properties(0).total_memory / GIB
        return Budget(_rounded_down(total), "of the GPU, rounded down", gpu)
    if not hasattr(os, "sysconf"):  # Windows
        raise InputError("memory must be stated on this system, got auto; name an amount such as 8GiB", option="memory")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return Budget(
        min(_rounded_down(total), ON_CPU), f"of the machine, rounded down; at most {ON_CPU} GiB on a CPU", gpu
    )


def _rounded_down(gib: float) -> float:
    return max((size for size in SIZES if size <= gib * 1.05), default=gib)  # a card of 24 GB has a little less


def width_for(budget: Budget) -> int:
    """Channels of the first level."""
    return WIDTHS[budget.gib >= WIDE]


def peak_bytes(shape: Shape, topology: Topology, voxels: int) -> float:
    """Memory of a training step.

    Args:
        shape: of the network.
        topology: of the network.
        voxels: of all patches of a batch.
    """
    per_voxel, parameters = network_costs(shape, topology)
    logits = PER_LOGIT * len(topology.strides) * shape.out_channels
    return OWN + BACKWARD * (per_voxel + logits) * voxels + PER_PARAMETER * parameters


@cache
def network_costs(shape: Shape, topology: Topology) -> tuple[float, int]:
    """Count what a forward pass keeps for the backward pass, on tensors without content.

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
        kept[tensor.untyped_storage()._cdata] = tensor  # a tensor that is kept twice is there once
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        heads = network.train()(image)
    total = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    del heads
    return total / image[0, 0].numel(), sum(parameter.numel() for parameter in network.parameters())
