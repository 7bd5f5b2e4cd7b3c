"""Weights that people trained with other UNet++ implementations, as a ready `UNetPlusPlus`.

What a state dict cannot tell (activation, kind of an affine norm) is their default, or said by the caller.
"""

import re
from collections.abc import Callable, Mapping

import torch

from .blocks import LayerName
from .unetplusplus import UNetPlusPlus

StateDict = Mapping[str, torch.Tensor]


def from_basic_unetplusplus(
    state_dict: StateDict,
    *,
    act: LayerName = ("leakyrelu", {"negative_slope": 0.1, "inplace": True}),
    norm: LayerName | None = None,
) -> UNetPlusPlus:
    """Build the network that gives the logits of MONAI's `BasicUNetPlusPlus` with these weights, on any legal shape.

    Args:
        state_dict: of a `monai.networks.nets.BasicUNetPlusPlus` (2-D or 3-D; `upsample` "deconv" or "nontrainable").
        act: its activation; the default is MONAI's.
        norm: its normalisation; None = batch norm if there are running statistics, else affine instance norm.

    Returns:
        The network in eval mode, all heads built, float32.

    Raises:
        ValueError: an entry is missing, unknown, or of another shape than such a network has.
    """
    stem = _entry(state_dict, "conv_0_0.conv_0.conv.weight", "BasicUNetPlusPlus")
    encoders = [stem] + [
        _entry(state_dict, f"conv_{row}_0.convs.conv_0.conv.weight", "BasicUNetPlusPlus") for row in range(1, 5)
    ]
    features = [weight.shape[0] for weight in encoders]
    last = _entry(state_dict, "final_conv_0_4.weight", "BasicUNetPlusPlus")
    running = "conv_0_0.conv_0.adn.N.running_mean" in state_dict
    guess: LayerName = "batch" if running else ("instance", {"affine": True})
    network = UNetPlusPlus(
        stem.dim() - 2,
        stem.shape[1],
        last.shape[0],
        features,
        norm=guess if norm is None else norm,
        act=act,
        bias="conv_0_0.conv_0.conv.bias" in state_dict,
        upsample="deconv" if "upcat_0_1.upsample.deconv.weight" in state_dict else "interp",
        up_features=[features[1]] + [width // 2 for width in features[2:]],  # MONAI halves on all rows but the finest
        last_features=last.shape[1],
        ceil_mode=False,
    )

    def rename(key: str) -> str:
        key = re.sub(r"^conv_(\d)_0\.(convs\.)?", r"nodes.x_\1_0.block.", key)
        key = re.sub(r"^upcat_(\d)_(\d)\.convs\.", r"nodes.x_\1_\2.block.", key)
        key = re.sub(r"^upcat_(\d)_(\d)\.upsample\.", r"nodes.x_\1_\2.resample.", key)
        return re.sub(r"^final_conv_(0_\d)\.", r"outputs.x_\1.", key)

    return _load(network, state_dict, rename, "BasicUNetPlusPlus")


def from_nested_unet(state_dict: StateDict) -> UNetPlusPlus:
    """Build the network that gives the logits of the widely used PyTorch `NestedUNet` with these weights.

    That network has blocks of conv-BN-ReLU twice (`conv0_0.conv1`, `conv0_0.bn1`, ...), max-pooling by 2, bilinear
    up-sampling with aligned corners and no channel reduction after it. It takes only shapes that are multiples of 16;
    the result takes any.

    Args:
        state_dict: with `final.*` (one head) or `final1.*` ... `final4.*` (deep supervision).

    Returns:
        The network in eval mode, with the heads that the state dict has, float32.

    Raises:
        ValueError: an entry is missing, unknown, or of another shape than such a network has.
    """
    rows = sorted(int(match[1]) for key in state_dict if (match := re.match(r"conv(\d+)_0\.conv1\.weight$", key)))
    levels = max(rows, default=0) + 1
    if levels < 2:
        raise ValueError("not a NestedUNet state dict: it must have conv0_0.conv1.weight, conv1_0.conv1.weight, ...")
    encoders = [_entry(state_dict, f"conv{row}_0.conv1.weight", "NestedUNet") for row in range(levels)]
    single = "final.weight" in state_dict
    head = _entry(state_dict, "final.weight" if single else f"final{levels - 1}.weight", "NestedUNet")
    features = [weight.shape[0] for weight in encoders]
    network = UNetPlusPlus(
        encoders[0].dim() - 2,
        encoders[0].shape[1],
        head.shape[0],
        features,
        norm="batch",
        act=("relu", {"inplace": True}),
        upsample="interp",
        up_features=features[1:],
        deep_supervision=not single,
        final_head_only=single,
    )

    def rename(key: str) -> str:
        match = re.fullmatch(r"conv(\d+)_(\d+)\.(conv|bn)([12])\.(\w+)", key)
        if match:
            row, column, layer, unit, name = match.groups()
            layer = "conv" if layer == "conv" else "adn.N"
            return f"nodes.x_{row}_{column}.block.conv_{int(unit) - 1}.{layer}.{name}"
        return re.sub(r"^final(\d*)\.", lambda found: f"outputs.x_0_{found[1] or levels - 1}.", key)

    return _load(network, state_dict, rename, "NestedUNet")


def _entry(state_dict: StateDict, key: str, source: str) -> torch.Tensor:
    if key not in state_dict:
        raise ValueError(f"not a {source} state dict: it must have an entry {key!r}, got {len(state_dict)} others")
    return state_dict[key]


def _load(network: UNetPlusPlus, state_dict: StateDict, rename: Callable[[str], str], source: str) -> UNetPlusPlus:
    """Load `state_dict` under its new names; refuse what does not fit name by name and shape by shape."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {rename(key): (key, value) for key, value in state_dict.items()}
    wrong = [f"missing {key}" for key in sorted(wanted.keys() - given.keys())]
    wrong += [f"unknown {given[key][0]}" for key in sorted(given.keys() - wanted.keys())]
    wrong += [
        f"{given[key][0]} must be {wanted[key]}, got {tuple(given[key][1].shape)}"
        for key in sorted(wanted.keys() & given.keys())
        if wanted[key] != tuple(given[key][1].shape)
    ]
    if wrong or len(given) != len(state_dict):
        raise ValueError(f"not a {source} state dict: " + "; ".join(wrong[:5]) + f" ({len(wrong)} differences)")
    network.load_state_dict({key: value for key, (_, value) in given.items()})
    return network.eval()
