"""A module to the program of another runtime: one table for the backends that run it and for the files we export."""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError
from .openvino import import_openvino

if TYPE_CHECKING:
    import openvino

INPUT, OUTPUT = "image", "logits"  # names in an exported graph
Examples = tuple[torch.Tensor, ...]  # of one window each, (1, C_i, *spatial_i)
Run = Callable[[torch.Tensor], torch.Tensor]


def require(*packages: str) -> None:
    """Raise InputError unless the packages can be imported."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise InputError(f"{', '.join(missing)} must be installed to be used: pip install {' '.join(missing)}")


def to_torchscript(module: nn.Module, examples: Examples, *, free: bool = False) -> Any:
    """Trace into TorchScript; loops over nodes and depths are unrolled, sizes are free in any case."""
    with torch.no_grad():
        return torch.jit.trace(module, examples, check_trace=False)


def to_program(module: nn.Module, examples: Examples, *, free: bool = False) -> torch.export.ExportedProgram:
    """Export with `torch.export`."""
    many, shapes = _sizes(examples, free)
    return torch.export.export(module, many, dynamic_shapes=shapes)


def to_onnx(module: nn.Module, examples: Examples, *, free: bool = False) -> torch.onnx.ONNXProgram:
    """Export to ONNX; a graph of one input with free sizes, which is one to deliver, has `INPUT` and `OUTPUT`."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it says that it misses torchvision, which is not needed
    many, shapes = _sizes(examples, free)
    names: Any = {"input_names": [INPUT], "output_names": [OUTPUT]} if free else {}
    program = torch.onnx.export(module, many, dynamo=True, verbose=False, dynamic_shapes=shapes, **names)
    if program is None:
        raise InputError("ONNX export must give a program, got none; use another runtime")
    return program


def to_openvino(module: nn.Module, examples: Examples, *, free: bool = False) -> "openvino.Model":
    """Convert for OpenVINO; sizes are free in any case."""
    model = import_openvino().convert_model(to_torchscript(module, examples), example_input=examples)
    if free:
        model.inputs[0].get_tensor().set_names({INPUT})
        model.outputs[0].get_tensor().set_names({OUTPUT})
    return model


def _sizes(examples: Examples, free: bool) -> tuple[Examples, tuple[dict[int, Any], ...] | None]:
    """Examples, and which of their axes may change: all but the channels, and none that is 1 in an example."""
    if not free:
        return examples, None
    many = tuple(example.repeat(2, *[1] * (example.dim() - 1)) for example in examples)
    axes = [(0, *range(2, example.dim())) for example in examples]
    return many, tuple(dict.fromkeys(some, torch.export.Dim.DYNAMIC) for some in axes)


def _load_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])


def _save_openvino(model: "openvino.Model", file: Path) -> None:
    import_openvino().save_model(model, file, compress_to_fp16=False)


def _load_openvino(file: Path) -> Run:
    compiled = import_openvino().Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: torch.from_numpy(compiled({INPUT: image.numpy()})[OUTPUT].copy())


@dataclass(frozen=True)
class Converter:
    """How a module becomes a program, the program a file, and the file something to run."""

    convert: Callable[..., Any]  # of (module, examples, free=False)
    suffix: str  # of the file
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Run]
    needs: tuple[str, ...] = ()  # packages


CONVERTERS = {
    "onnx": Converter(
        to_onnx,
        ".onnx",
        lambda program, file: program.save(file, external_data=False),
        _load_onnx,
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Converter(to_openvino, ".xml", _save_openvino, _load_openvino, ("openvino",)),
    "torchscript": Converter(to_torchscript, ".ts", torch.jit.save, torch.jit.load),
    "torch-export": Converter(to_program, ".pt2", torch.export.save, lambda file: torch.export.load(file).module()),
}
