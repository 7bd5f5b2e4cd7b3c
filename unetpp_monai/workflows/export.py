"""A bundle's network as a file for other runtimes, checked against eager PyTorch before it is delivered."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..bundle import Bundle, load_network
from ..errors import BundleError, InputError, OutputError
from ..files import complete_folder, sha256
from ..label_rules import has_locator
from ..networks import UNetPlusPlus
from ..runtimes.converters import CONVERTERS, INPUT, OUTPUT, Run, require

MAX_DIFFERENCE = 1e-3  # of logits; more is no rounding
GRID_KEYS = ("spatial_dims", "pixdim", "resize", "roi_size", "overlap")  # of inference.json: how to sweep the network


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path  # the graph; OpenVINO's weights are beside it as .bin
    sidecar: Path  # JSON: names, axes, preprocessing, hashes, the check
    difference: float  # largest absolute one of logits from eager's, over the images of the check


def export(bundle: Bundle, output: Path, *, to: str, depth: int | None = None) -> Exported:
    """Write the network to a depth, and what must be known to use it.

    Args:
        bundle: whose network and weights.
        output: file to write, with the suffix of the format; `<output>.json` is written beside it.
        to: one of `CONVERTERS`.
        depth: 1 ... the network's depth; None = all of it. Deeper nodes are not written.

    Raises:
        InputError: unknown format, another suffix, a depth that does not exist, or a package that is missing.
        OutputError: the file exists or cannot be written.
        BundleError: the file's logits are not those of eager.
    """
    if to not in CONVERTERS:
        raise InputError(f"a format must be one of {', '.join(CONVERTERS)}, got {to!r}")
    converter = CONVERTERS[to]
    if output.suffix != converter.suffix:
        raise InputError(f"a file for {to} must end in {converter.suffix}, got {output}")
    require(*converter.needs)
    sidecar = output.with_name(output.name + ".json")
    for target in (output, sidecar, *([output.with_suffix(".bin")] if to == "openvino" else [])):
        if target.exists():
            raise OutputError(f"{target} exists; choose another name")
    parser = bundle.parser()
    if has_locator(parser.config):
        raise InputError(
            f"a file of {to} holds one network, got {bundle.name}, which locates with a second one; export the bundle "
            "whose images are the boxes that are segmented"
        )
    network = load_network(bundle, parser, torch.device("cpu"), depth=depth)
    roi = tuple(parser.get_parsed_content("roi_size"))
    with complete_folder(output.parent) as folder, torch.inference_mode():
        file = folder / output.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters about themselves
            image = torch.rand(1, network.in_channels, *roi)
            converter.save(converter.convert(network, (image,), free=True), file)
            check = _compare(network, converter.load(file), roi)
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
