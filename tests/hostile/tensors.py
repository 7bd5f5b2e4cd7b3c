"""Weights that are not those of the network, or no weights."""

import os
import pickle
from collections.abc import Callable
from io import BytesIO
from random import Random

import torch

from hostile.bytewise import Damage
from hostile.text_fields import RAN

Weights = dict[str, torch.Tensor]
VALUES = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 0.0, 1e-45)
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)


class _Maker:
    """What a pickle may hold: a call."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (RAN,)


def weights(data: bytes, rng: Random) -> Damage:
    """Change one entry of the weights, or what holds them, and save them again."""
    state = torch.load(BytesIO(data), weights_only=True)
    how, changed = rng.choice((_values, _values, _shapes, _dtypes, _names, _holders))(state, rng)
    file = BytesIO()
    torch.save(changed, file, _use_new_zipfile_serialization=rng.random() < 0.9)
    return file.getvalue(), how


def _values(state: Weights, rng: Random) -> tuple[str, object]:
    name, value = rng.choice(list(state)), rng.choice(VALUES)
    tensor = state[name].clone()
    everywhere = rng.random() < 0.3
    tensor.view(-1)[... if everywhere else rng.randrange(tensor.numel())] = value
    return f"{name}: {value}{' everywhere' if everywhere else ''}", {**state, name: tensor}


def _shapes(state: Weights, rng: Random) -> tuple[str, object]:
    name = rng.choice(list(state))
    tensor = state[name]
    other = rng.choice((tensor[None], tensor[:0], tensor.flatten(), tensor.transpose(0, -1), torch.cat([tensor] * 2)))
    other = other.contiguous() if rng.random() < 0.5 else other
    return f"{name}: {tuple(tensor.shape)} became {tuple(other.shape)}", {**state, name: other}


def _dtypes(state: Weights, rng: Random) -> tuple[str, object]:
    names, dtype = rng.choice(([rng.choice(list(state))], list(state))), rng.choice(DTYPES)
    return f"{len(names)} tensors as {dtype}", {**state, **{name: state[name].to(dtype) for name in names}}


def _names(state: Weights, rng: Random) -> tuple[str, object]:
    name = rng.choice(list(state))
    rest = {key: value for key, value in state.items() if key != name}
    how = rng.choice(("missing", "extra", "renamed", "number"))
    if how == "extra":
        rest = {**state, "more.weight": state[name]}
    elif how != "missing":
        rest[f"{name}x" if how == "renamed" else 7] = state[name]
    return f"{name}: {how}", rest


def _holders(state: Weights, rng: Random) -> tuple[str, object]:
    name = rng.choice(list(state))
    choices = {
        "a list": list(state.values()),
        "within a checkpoint": {"model": state},
        "nothing": {},
        "None": None,
        "a number": 3,
        "one tensor": state[name],
        "None as a tensor": {**state, name: None},
        "text as a tensor": {**state, name: "x"},
        "a list as a tensor": {**state, name: state[name].tolist()},
        "a sparse tensor": {**state, name: state[name].to_sparse()},
        "a tensor without data": {**state, name: state[name].to("meta")},
        "a tensor of gradients": {**state, name: torch.nn.Parameter(state[name])},
        "an endless tensor": {**state, name: torch.zeros(1).expand(1 << 40)},
        "a call": _Maker(),
    }
    how = rng.choice(list(choices))
    return how, choices[how]


def no_pickle(data: bytes, rng: Random) -> Damage:
    """Give a file that is a pickle of something else, or text."""
    content = rng.choice(
        (b"", b"rubbish", b"PK\3\4", pickle.dumps({"a": 1}), pickle.dumps(_Maker()), b"\x80\2}q\0.", b"{}")
    )
    return content, f"another file, {content[:12]!r}"
