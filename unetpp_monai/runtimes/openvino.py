"""Compile a traced module for OpenVINO's CPU plugin; which graphs there are is decided in `backends`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import openvino

LAYOUTS = {4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}  # axes of a tensor -> channels first, channels last
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def compile_graph(traced: Any, examples: tuple[torch.Tensor, ...], precision: str) -> Callable[..., list[torch.Tensor]]:
    """Compile for the CPU, one stream per core, each window a request of its own.

    So a window's logits do not depend on the others in its batch. The precision is set because OpenVINO's default is
    bfloat16 where the CPU has it.

    Args:
        traced: TorchScript module, tensors `(B, C_i, *spatial_i)` to a tuple of the logits and any features.
        examples: arguments of one window, B = 1.
        precision: of convolutions, float32 or bfloat16.

    Returns:
        What maps tensors `(B, C_i, *spatial_i)` to a list of such; features lie channels last in memory.
    """
    import openvino

    model = openvino.convert_model(traced, example_input=examples)
    model.reshape({index: list(example.shape) for index, example in enumerate(examples)})
    model = channels_last(model)
    hints = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
    queue = openvino.AsyncInferQueue(compiled)

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
