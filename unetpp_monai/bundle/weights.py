"""Load a bundle's weights strictly into its network, or into both of its networks."""

import re
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from ..errors import BundleError, InputError
from ..inference import Locator
from ..json_files import at, clipped
from ..label_rules import has_locator, result_channels
from ..networks import UNetPlusPlus
from ..networks.node_names import depth_of
from ..trust.stored_weights import UNREADABLE_WEIGHTS, check_stored
from .components import build, build_network
from .configs import CONFIG
from .folder import Bundle

LOCATE, SEGMENT = "locate.", "segment."  # prefixes of names in weights with a locator
# name of a parameter of the segmenting network
PARAMETER = re.compile(r"(?:segment\.)?(nodes|outputs)\.(x_\d+_\d+)\.(?!.*(running_|num_batches))")


def load_network(
    bundle: Bundle, parser: ConfigParser, device: torch.device, *, depth: int | None = None
) -> UNetPlusPlus:
    """Build the network of `inference.json` with the bundle's weights.

    Args:
        bundle: whose weights to load; every entry must fit by name and shape.
        parser: of `bundle`, with `network_def`.
        device: to put the network on.
        depth: build up to this depth, 1 to the depth of `network_def`; None: all.

    Returns:
        The network in eval mode.

    Raises:
        BundleError: the weights or label names do not fit the network.
        InputError: no such depth.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> bundle = read_bundle("hippocampus")
        >>> load_network(bundle, bundle.parser(), torch.device("cpu"), depth=1).depth
        1
    """
    with torch.device("meta"):  # shapes only, without memory for unused parts
        network = build_network(parser, at(bundle.root / CONFIG))
    both = has_locator(parser.config)
    channels = result_channels(parser.config) if both else network.out_channels
    indices, names = sorted(label.index for label in bundle.labels), {label.name for label in bundle.labels}
    if indices != list(range(1, channels or 0)) or len(names) < len(indices):
        raise BundleError(
            f"{'result_labels' if both else 'channel_def'} must name the labels 1 to {(channels or 0) - 1} of "
            "network_def, each differently, got "
            f"{clipped([f'{label.index} {label.name}' for label in bundle.labels], 150)} in {at(bundle.root)}"
        )
    if depth is not None and not network.first_head <= depth <= network.depth:
        raise InputError(f"depth must be from {network.first_head} to {network.depth}, got {depth}")
    network = _loaded(bundle.weights, network, "network_def", part=SEGMENT if both else "", depth=depth)
    return network.float().eval().to(device)


def load_locator(bundle: Bundle, locator: Locator, device: torch.device) -> None:
    """Load the weights of the locating network.

    They are in the same file as the segmenting network's.

    Args:
        bundle: whose weights to load; every entry must fit by name and shape.
        locator: built from its `inference.json`.
        device: to put the network on.

    Raises:
        BundleError: the weights do not fit the locator.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> bundle = read_bundle("hippocampus_head")
        >>> locator = bundle.parser().get_parsed_content("locator")
        >>> load_locator(bundle, locator, torch.device("cpu"))
    """
    _loaded(bundle.weights, locator.network, "the locator", part=LOCATE).float().eval().to(device)


def check_weights(bundle: Bundle) -> None:
    """Check that the weights of a bundle fit its networks.

    Args:
        bundle: its weights are loaded once.

    Raises:
        BundleError: the weights or label names do not fit its networks.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> check_weights(read_bundle("hippocampus"))
    """
    parser, device = bundle.parser(), torch.device("cpu")
    load_network(bundle, parser, device)
    if has_locator(parser.config):
        load_locator(bundle, build(parser, "locator", at(bundle.root / CONFIG)), device)


def _loaded(path: Path, network: UNetPlusPlus, name: str, *, part: str, depth: int | None = None) -> UNetPlusPlus:
    """Load weights strictly; return the network.

    Args:
        path: of the file.
        network: to load into.
        name: of the network, for messages.
        part: prefix of its names, if the file has `LOCATE` and `SEGMENT`.
        depth: keep the network up to this depth; None: all.
    """
    try:
        check_stored(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=depth is not None)
        if part:
            if others := [key for key in weights if not str(key).startswith((LOCATE, SEGMENT))]:
                raise KeyError(f"{others[0]}, which starts with neither {LOCATE} nor {SEGMENT}")
            weights = {key.removeprefix(part): value for key, value in weights.items() if key.startswith(part)}
        network.load_state_dict(weights, assign=True)
        network = network if depth is None else network.prune(depth)
    except UNREADABLE_WEIGHTS as error:
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise BundleError(
            f"{at(path)} must hold the weights of {name} in {CONFIG}, got {clipped(' '.join(lines[:2]), 200)}"
        ) from error

    for key, parameter in network.named_parameters():
        odd = parameter.is_meta or parameter.layout != torch.strided or parameter.is_complex()
        if odd or not parameter.isfinite().all():
            raise BundleError(f"weights must be finite numbers, got others for {key} in {at(path)}; use other weights")
    return network


def parameters_by_depth(bundle: Bundle) -> dict[int, int]:
    """Count the parameters of each depth.

    Counts by names in the weights, without building a network.

    Args:
        bundle: its weights are counted.

    Returns:
        Depth with a head -> number of parameters; empty for weights of another network.

    Raises:
        BundleError: the weights cannot be read.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> list(parameters_by_depth(read_bundle("hippocampus")))
        [1, 2, 3]
    """
    try:
        check_stored(bundle.weights)
        weights = torch.load(bundle.weights, map_location="cpu", weights_only=True, mmap=True)
        found = [(PARAMETER.match(name), value.numel()) for name, value in weights.items()]
    except UNREADABLE_WEIGHTS as error:
        raise BundleError(f"{at(bundle.weights)} must hold weights, got {clipped(error, 200)}") from error
    sizes = [(parts[1], depth_of(parts[2]), size) for parts, size in found if parts]
    heads = sorted({depth for kind, depth, _ in sizes if kind == "outputs"})
    return {head: sum(size for _, depth, size in sizes if depth <= head) for head in heads}
