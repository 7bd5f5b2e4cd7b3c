"""A bundle's network as a file for other runtimes, checked against eager PyTorch before it is delivered."""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..bundle import Bundle, load_network
from ..errors import BundleError, InputError, OutputError
from ..files import complete_folder, sha256
from ..networks import UNetPlusPlus
from ..runtimes.backend import quiet_onnx, require, traced

MAX_DIFFERENCE = 1e-3  # of logits; more is no rounding
INPUT, OUTPUT = "image", "logits"  # names in the exported graph
GRID_KEYS = ("spatial_dims", "pixdim", "resize", "roi_size", "overlap")  # of inference.json: how to sweep the network

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path  # the graph; OpenVINO's weights lie beside it as .bin
    sidecar: Path  # JSON: names, axes, preprocessing, hashes, the check
    difference: float  # largest absolute one of logits from eager's, over the images of the check


def export(bundle: Bundle, output: Path, *, to: str, depth: int | None = None) -> Exported:
    """Write the network to a depth, and what must be known to use it.

    Args:
        bundle: whose network and weights.
        output: file to write, with the suffix of the format; `<output>.json` is written beside it.
        to: one of `FORMATS`.
        depth: 1 ... the network's depth; None = all of it. Deeper nodes are not written.

    Raises:
        InputError: unknown format, another suffix, a depth that does not exist, or a package that is missing.
        OutputError: the file exists or cannot be written.
        BundleError: the file's logits are not those of eager.
    """
    if to not in FORMATS:
        raise InputError(f"a format must be one of {', '.join(FORMATS)}, got {to!r}")
    suffix, write, load = FORMATS[to]
    if output.suffix != suffix:
        raise InputError(f"a file for {to} must end in {suffix}, got {output}")
    sidecar = output.with_name(output.name + ".json")
    for target in (output, sidecar, *([output.with_suffix(".bin")] if to == "openvino" else [])):
        if target.exists():
            raise OutputError(f"{target} exists; choose another name")
    parser = bundle.parser()
    network = load_network(bundle, parser, torch.device("cpu"), depth=depth)
    roi = tuple(parser.get_parsed_content("roi_size"))
    with complete_folder(output.parent) as folder, torch.inference_mode():
        file = folder / output.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters about themselves
            write(network, torch.rand(1, network.in_channels, *roi), file)
            check = _compare(network, load(file), roi)
        if check["max_abs_difference"] > MAX_DIFFERENCE:
            raise BundleError(
                f"{to} must give eager's logits within {MAX_DIFFERENCE}, got {check}; nothing was written"
            )
        about = _about(bundle, parser.config, network, to=to, check=check)
        about["sha256"] = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        (folder / sidecar.name).write_text(json.dumps(about, indent=2) + "\n")
    return Exported(output, sidecar, check["max_abs_difference"])


def _compare(network: UNetPlusPlus, run: Run, roi: tuple[int, ...]) -> dict[str, Any]:
    """Largest difference of logits and share of equal labels, over one window and over two of another shape."""
    generator = torch.Generator().manual_seed(0)
    other = (max(size // (2 * step), 1) * step for size, step in zip(roi, _multiple(network), strict=True))
    images = [torch.randn(1, network.in_channels, *roi, generator=generator)]
    images.append(torch.randn(2, network.in_channels, *other, generator=generator))
    pairs = [(network(image), run(image)) for image in images]
    return {
        "shapes": [list(image.shape) for image in images],
        "max_abs_difference": max(float((found - expected).abs().max()) for expected, found in pairs),
        "labels_equal": min(float((a.argmax(1) == b.argmax(1)).float().mean()) for a, b in pairs),
    }


def _about(
    bundle: Bundle, config: dict[str, Any], network: UNetPlusPlus, *, to: str, check: dict[str, Any]
) -> dict[str, Any]:
    axes = ["batch", "channel", *"xyz"[: network.spatial_dims]]
    free = [axis for axis in axes if axis != "channel"]
    return {
        "bundle": bundle.name,
        "version": bundle.version,
        "weights_sha256": bundle.weights_sha256,
        "format": to,
        "depth": network.depth,
        "input": {"name": INPUT, "axes": axes, "channels": network.in_channels, "dtype": "float32", "dynamic": free},
        "output": {"name": OUTPUT, "axes": axes, "channels": network.out_channels, "dtype": "float32", "dynamic": free},
        "spatial_multiple": _multiple(network),  # torch.export and ONNX take pooling windows as complete
        "labels": {label.index: label.name for label in bundle.labels},
        "window": {key: config[key] for key in GRID_KEYS if key in config},
        "preprocessing": [step for step in config["preprocessing"]["transforms"] if "Load" not in step["_target_"]],
        "check": check,
        "software": {"unetpp_monai": __version__, "torch": torch.__version__},
    }


def _multiple(network: UNetPlusPlus) -> list[int]:
    """Voxels per axis that a size must be a multiple of, so that no pooling window is incomplete."""
    return [math.prod(sizes) for sizes in zip(*network.strides[: network.depth], strict=True)]


def _write_torchscript(network: UNetPlusPlus, image: torch.Tensor, file: Path) -> None:
    torch.jit.save(traced(network, (image,)), file)


def _load_torchscript(file: Path) -> Run:
    return torch.jit.load(file)  # type: ignore[no-any-return]


def _dynamic(network: UNetPlusPlus) -> dict[str, dict[int, Any]]:
    return {"x": {axis: torch.export.Dim.DYNAMIC for axis in (0, *range(2, network.spatial_dims + 2))}}


def _write_program(network: UNetPlusPlus, image: torch.Tensor, file: Path) -> None:
    image = image.repeat(2, *[1] * (image.dim() - 1))  # an axis of 1 would be taken as fixed
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes=_dynamic(network)), file)


def _load_program(file: Path) -> Run:
    return torch.export.load(file).module()


def _write_onnx(network: UNetPlusPlus, image: torch.Tensor, file: Path) -> None:
    require("onnx", "onnxscript", "onnxruntime")
    quiet_onnx()
    image = image.repeat(2, *[1] * (image.dim() - 1))
    torch.onnx.export(
        network,
        (image,),
        file,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=_dynamic(network),
    )


def _load_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])


def _write_openvino(network: UNetPlusPlus, image: torch.Tensor, file: Path) -> None:
    require("openvino")
    import openvino

    model = openvino.convert_model(traced(network, (image,)), example_input=(image,))
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    openvino.save_model(model, file, compress_to_fp16=False)


def _load_openvino(file: Path) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: torch.from_numpy(compiled({INPUT: image.numpy()})[OUTPUT].copy())


# format -> suffix, how to write, how to load again
FORMATS: dict[str, tuple[str, Callable[[UNetPlusPlus, torch.Tensor, Path], None], Callable[[Path], Run]]] = {
    "onnx": (".onnx", _write_onnx, _load_onnx),
    "openvino": (".xml", _write_openvino, _load_openvino),
    "torchscript": (".ts", _write_torchscript, _load_torchscript),
    "torch-export": (".pt2", _write_program, _load_program),
}
