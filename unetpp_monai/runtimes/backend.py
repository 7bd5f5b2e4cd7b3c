"""Runtimes for the network: each takes and gives the same tensors as the network itself, called alike.

Which windows are computed, and how deep, is decided above (`inferers`); here is only how a graph of tensors is run.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import nn

from ..errors import InputError
from ..networks import Subgraph, UNetPlusPlus, evaluated_depth
from ..words import counted
from .converters import CONVERTERS, require, to_onnx, to_openvino, to_program, to_torchscript
from .openvino import compile_graph

Graph = Callable[..., Sequence[torch.Tensor]]  # a compiled module: tensors in, tensors out
Build = Callable[[nn.Module, tuple[torch.Tensor, ...], str], Graph]  # module, example arguments, precision

PRECISIONS = ("float32", "bfloat16", "float16")
NEEDS = {  # runtime -> packages
    "openvino": CONVERTERS["openvino"].needs,
    "onnxruntime": CONVERTERS["onnx"].needs,
    "tensorrt": ("torch_tensorrt",),
}
DEVICES = {"openvino": "cpu", "onnxruntime": "cpu", "tensorrt": "cuda"}  # runtime -> the only device it takes here
# multiplications of convolutions that eager PyTorch does while OpenVINO compiles: 9 windows of the hippocampus network
# (`python -m benchmarks.cold_start`)
COMPILING = 64e9
TENSORRT_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.5}  # of logits, from eager's in float32


class Backend:
    """A UNet++ in one runtime, with the network's own interface: `backend(windows, depth)` and `backend.step`.

    Graphs are built when first needed, one per depth and shape of the windows, and kept.

    Args:
        network: in eval mode; its weights are shared.
        runtime: one of `RUNTIMES`.
        precision: of convolutions, one of `PRECISIONS`; weights stay float32, and so do the logits.
    """

    def __init__(self, network: UNetPlusPlus, runtime: str, precision: str = "float32") -> None:
        self.network, self.runtime, self.precision = network, runtime, precision
        self.depth, self.first_head, self.out_channels = network.depth, network.first_head, network.out_channels
        self._graphs: dict[tuple[object, ...], Graph] = {}

    def __call__(self, images: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Return the logits `(B, out_channels, *spatial)`, float32, of images `(B, in_channels, *spatial)`."""
        last = self.network.check(images, depth)
        key = ("whole", last, *images.shape[1:])
        return self._run(key, lambda: _Whole(self.network.prune(last)), images)[0]

    def step(self, grid: dict[str, torch.Tensor], depth: int, *, last: bool = False) -> torch.Tensor:
        """As `UNetPlusPlus.step`; with `last`, nothing is added to `grid`."""
        start = evaluated_depth(grid)
        subgraph = Subgraph(self.network, start, depth, last=last)
        features = [grid[name] for name in subgraph.inputs]
        logits, *new = self._run((start, depth, last, *features[0].shape[1:]), lambda: subgraph, *features)
        grid.update(zip(subgraph.features, new, strict=True))
        return logits

    @torch.inference_mode()
    def _run(
        self, key: tuple[object, ...], module: Callable[[], nn.Module], *tensors: torch.Tensor
    ) -> list[torch.Tensor]:
        if key not in self._graphs:
            examples = tuple(tensor[:1].contiguous() for tensor in tensors)  # one window stands for any number
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of compilers about themselves
                self._graphs[key] = RUNTIMES[self.runtime](module().eval(), examples, self.precision)
                self._graphs[key](*examples)  # what compiles when first called does so here
        return [tensor.float() for tensor in self._graphs[key](*tensors)]


class _Whole(nn.Module):
    """The network as a module whose result is a tuple, as `Subgraph`'s is."""

    def __init__(self, network: UNetPlusPlus) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        """Return the logits alone."""
        return (self.network(images),)


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda:N" into a device that exists.

    Raises:
        InputError: unknown name, or no such GPU.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu or cuda:N, got {name!r}") from error
    if device.type == "mps":
        raise InputError("device must be auto, cpu or cuda:N, got 'mps', on which nothing was tried; use cpu")
    gpus = torch.cuda.device_count()
    if device.type != "cpu" and (device.type != "cuda" or (device.index or 0) >= gpus):
        raise InputError(f"device must exist, got {name!r} on a machine with {counted(gpus, 'GPU')}; use auto or cpu")
    return device


def choose_backend(
    network: UNetPlusPlus, runtime: str = "auto", *, device: torch.device, precision: str = "float32"
) -> "UNetPlusPlus | Backend":
    """Put a network into a runtime.

    Args:
        network: in eval mode, on `device`.
        runtime: one of `RUNTIMES`, or "auto": OpenVINO on a CPU where it is installed, else eager.
        device: where to run; OpenVINO and ONNX Runtime take the CPU only, TensorRT CUDA only.
        precision: of convolutions, one of `PRECISIONS`.

    Returns:
        The network itself for eager float32, else a `Backend`.

    Raises:
        InputError: unknown, not installed, or not for this device or precision.
    """
    if runtime == "auto":
        installed = importlib.util.find_spec("openvino") is not None
        runtime = "openvino" if device.type == "cpu" and installed and precision != "float16" else "eager"
    if runtime not in RUNTIMES or precision not in PRECISIONS:
        raise InputError(
            f"runtime must be auto, {', '.join(RUNTIMES)} and precision {', '.join(PRECISIONS)}, got {runtime!r} and "
            f"{precision!r}"
        )
    if DEVICES.get(runtime, device.type) != device.type:
        only = DEVICES[runtime]
        message = f"{runtime} runs on {only} only, got device {device}; use device {only} or runtime eager"
        raise InputError(message, option="runtime")
    require(*NEEDS.get(runtime, ()))
    if (runtime == "onnxruntime" and precision != "float32") or (device.type == "cpu" and precision == "float16"):
        raise InputError(f"{runtime} on {device.type} does not compute in {precision}; use float32")
    return network if (runtime, precision) == ("eager", "float32") else Backend(network, runtime, precision)


class ByWork:
    """A network in the runtimes from which "auto" chooses: compiled where there is much to do, else as it is.

    Args:
        network, runtime, device, precision: see `choose_backend`.
        volumes: how many are to come; None = many.

    Attributes:
        network: in the runtime for much work, or in the one that was named.
    """

    def __init__(
        self, network: UNetPlusPlus, runtime: str, *, device: torch.device, precision: str, volumes: int | None
    ) -> None:
        self.network = self._light = choose_backend(network, runtime, device=device, precision=precision)
        self._eager, self._volumes = network, volumes
        if runtime == "auto":
            self._light = choose_backend(network, "eager", device=device, precision=precision)

    def choose(self, windows: int, shape: Sequence[int]) -> "UNetPlusPlus | Backend":
        """Choose for volumes of so many windows, each of a shape in voxels."""
        if self._volumes is None or self._light is self.network:
            return self.network
        each = 0.0  # multiplications of a window
        for name, parameter in self._eager.named_parameters():
            level = int(name.partition(".x_")[2].partition("_")[0])  # of nodes.x_i_j.*; heads are outputs.x_0_j.*
            each += parameter.numel() * math.prod(shape) / 2 ** (level * len(shape))
        return self.network if self._volumes * windows * each >= COMPILING else self._light


def _eager(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    if precision == "float32":
        return module
    device, dtype = examples[0].device.type, getattr(torch, precision)

    def run(*tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        with torch.autocast(device, dtype):
            return module(*tensors)  # type: ignore[no-any-return]

    return run


def _compile(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    graphs = examples[0].device.type == "cuda"  # CUDA graphs, where kernels are shorter than their launch
    compiled = torch.compile(module, mode="reduce-overhead" if graphs else "default")
    return _eager(compiled, examples, precision)  # type: ignore[arg-type]


def _torchscript(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    return _eager(
        torch.jit.optimize_for_inference(torch.jit.freeze(to_torchscript(module, examples))), examples, precision
    )


def _openvino(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    return compile_graph(module, to_openvino, examples, precision)


def _onnxruntime(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    import onnxruntime

    session = onnxruntime.InferenceSession(to_onnx(module, examples).model_proto.SerializeToString())
    names = [entry.name for entry in session.get_inputs()]

    def run(*window: torch.Tensor) -> list[torch.Tensor]:
        arrays = [tensor.numpy() for tensor in window]
        return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]

    return _one_by_one(run)


def _tensorrt(module: nn.Module, examples: tuple[torch.Tensor, ...], precision: str) -> Graph:
    """Weights and features in `precision`; an engine that does not give eager's answer is refused."""
    import torch_tensorrt

    dtype = getattr(torch, precision)
    cast = tuple(tensor.to(dtype) for tensor in examples)
    program = to_program(deepcopy(module).to(dtype), cast)
    options = {"use_explicit_typing": True, "disable_tf32": True, "min_block_size": 1}
    engine = torch_tensorrt.dynamo.compile(program, cast, **options)
    graph = _one_by_one(lambda *window: engine(*(tensor.to(dtype) for tensor in window)))
    difference = float((graph(*examples)[0].float() - module(*examples)[0]).abs().max())
    allowed = TENSORRT_TOLERANCE[precision]
    if not difference <= allowed:
        raise InputError(
            f"TensorRT must give eager's logits within {allowed} in {precision}, got a difference of {difference:.2g}; "
            f"use runtime eager or compile",
            option="runtime",
        )
    return graph


def _one_by_one(run: Graph) -> Graph:
    """A graph for one window as one for any number."""

    def each(*tensors: torch.Tensor) -> list[torch.Tensor]:
        parts = [
            run(*(tensor[window : window + 1].contiguous() for tensor in tensors)) for window in range(len(tensors[0]))
        ]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    return each


RUNTIMES: dict[str, Build] = {
    "eager": _eager,
    "compile": _compile,
    "torchscript": _torchscript,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
}
