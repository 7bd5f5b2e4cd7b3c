"""OpenVINO without its telemetry, and models compiled for its CPU plugin; which ones is decided in `backend`."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from . import model_cache
from .threads import thread_limit

if TYPE_CHECKING:
    import openvino

LAYOUTS = {4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}  # axes of a tensor -> channels first, channels last
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def import_openvino() -> Any:
    """Import OpenVINO, which would report each import to its makers; it does not where that package is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def compile_graph(
    module: nn.Module,
    convert: Callable[..., "openvino.Model"],
    examples: tuple[torch.Tensor, ...],
    precision: str,
) -> Callable[..., list[torch.Tensor]]:
    """Compile for the CPU, one stream per core, each window a request of its own; kept on disk for the next start.

    So a window's logits do not depend on the others in its batch. The precision is set because OpenVINO's default is
    bfloat16 where the CPU has it.

    Args:
        module: tensors `(B, C_i, *spatial_i)` to a tuple of the logits and any features.
        convert: makes a model of (module, examples).
        examples: arguments of one window, B = 1.
        precision: of convolutions, float32 or bfloat16.

    Returns:
        What maps tensors `(B, C_i, *spatial_i)` to a list of such; features lie channels last in memory.
    """
    compiled = _compiled(module, convert, examples, precision)
    shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
    queue = import_openvino().AsyncInferQueue(compiled)

    def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
        arrays = [tensor.movedim(1, -1).contiguous().numpy() for tensor in tensors]
        results = [np.empty((len(arrays[0]), *shape), np.float32) for shape in shapes]

        def keep(request: Any, window: int) -> None:
            for index, result in enumerate(results):
                result[window] = request.get_output_tensor(index).data[0]

        queue.set_callback(keep)
        for window in range(len(arrays[0])):
            parts = {index: array[window : window + 1] for index, array in enumerate(arrays)}
            queue.start_async(parts, window, share_inputs=True)  # the arrays outlive the requests
        queue.wait_all()
        logits, *features = (torch.from_numpy(result) for result in results)
        return [logits, *(feature.movedim(-1, 1) for feature in features)]

    return run


def _compiled(
    module: nn.Module,
    convert: Callable[..., "openvino.Model"],
    examples: tuple[torch.Tensor, ...],
    precision: str,
) -> "openvino.CompiledModel":
    openvino = import_openvino()
    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "THROUGHPUT"}
    if (threads := thread_limit()) is not None:  # still one stream per thread, so that a window's logits are the same
        hints |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": str(threads)}
        hints["ENABLE_CPU_PINNING"] = "NO"  # or every process would take the same cores
    cpu = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    shapes = [tuple(example.shape) for example in examples]
    key = model_cache.fingerprint(module, shapes, hints, openvino.get_version(), cpu, os.cpu_count())
    if key is not None and (kept := model_cache.load(key)) is not None:
        return core.import_model(kept, "CPU", hints)
    model = convert(module, examples)
    model.reshape({index: list(example.shape) for index, example in enumerate(examples)})
    compiled = core.compile_model(channels_last(model), "CPU", hints)
    if key is not None:
        model_cache.store(key, compiled.export_model().getvalue())
    return compiled


def channels_last(model: "openvino.Model") -> "openvino.Model":
    """Let every input and every output but the first enter and leave channels last.

    That is how OpenVINO's convolutions hold features; in any other order, a graph that takes up where another stopped
    spends more on rearranging than the stop may save.
    """
    from openvino import Layout, opset8
    from openvino.preprocess import PrePostProcessor

    first, last = LAYOUTS[len(model.input(0).shape)]
    layouts = PrePostProcessor(model)
    for index in range(len(model.inputs)):
        layouts.input(index).tensor().set_layout(Layout(last))
        layouts.input(index).model().set_layout(Layout(first))
    for index in range(1, len(model.outputs)):
        layouts.output(index).tensor().set_layout(Layout(last))
        layouts.output(index).model().set_layout(Layout(first))
    model = layouts.build()
    order = [last.index(axis) for axis in first]
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Concat" and all(map(_only_here, node.input_values()[:-1])):
            values = [opset8.transpose(value, [first.index(axis) for axis in last]) for value in node.input_values()]
            joined = opset8.transpose(opset8.concat(values, -1), order)
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(joined.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _only_here(value: "openvino.Output") -> bool:
    """Whether an input of the model, given channels last, goes to one node alone (who asks for its shape aside)."""
    users = [target.get_node().get_type_name() for target in value.get_target_inputs()]
    return value.get_node().get_type_name() == "Transpose" and len(users) - users.count("ShapeOf") == 1
