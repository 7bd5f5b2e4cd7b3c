"""Initialise a training with stored weights, also of a task with other labels or channels; mismatches are logged.

Weights are read without executing code, and refused if they are damaged, not finite, or of another network.
"""

import logging
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import AmbiguityError, InputError
from ..files import is_zip, sha256
from ..json_files import at, clipped
from ..prompts import MARKED
from ..task import ALL, RUNS, TRAINED
from ..trust import check_sums
from ..trust.stored_weights import UNREADABLE_WEIGHTS, check_stored
from ..words import counted

BUNDLED = f"models/{TRAINED}"  # weights of a packed bundle
MODEL = "model"  # key of the weights in a checkpoint
LEAST = 0.5  # fraction of the parameters that must fit for the weights to be useful
FIRST, HEADS = "nodes.x_0_0.", "outputs."  # names of the parameters that depend on channels and on labels
SAID = 300  # most characters of a message

logger = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fitted:
    """Stored weights fitted to a network."""

    state: dict[str, torch.Tensor]  # with the names and shapes of the network
    share: float  # fraction of the network's parameters that were loaded, 0 to 1
    notes: tuple[str, ...]  # about parameters that were changed or not loaded


class InitialWeights:
    """Load weights into a network when training starts.

    Args:
        path: as for `weights_file`; "": load nothing.
        network: to initialise; may be wrapped for distributed training.
    """

    def __init__(self, path: str | Path, network: torch.nn.Module) -> None:
        self.path, self.network = str(path), network

    def attach(self, engine: Any) -> None:
        """Call this when a trainer starts."""
        from ignite.engine import Events

        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any = None) -> None:
        """Load matching parameters, and log the others.

        Raises:
            InputError: no such file, no weights, or too few parameters fit.
            BundleError: the file or its bundle is damaged.
        """
        path = weights_file(self.path)
        inner = getattr(self.network, "module", self.network)
        network = inner if isinstance(inner, torch.nn.Module) else self.network
        prompts: int = getattr(network, "prompt_channels", 0)
        fitted = fit_weights(read_weights(path), network.state_dict(), prompts=prompts)
        said = "; ".join(fitted.notes) or "all fit"
        if fitted.share < LEAST:
            raise InputError(
                f"weights must fit at least {LEAST:.0%} of the network's parameters, got {fitted.share:.0%} from "
                f"{at(path)}: {clipped(said, SAID)}; choose a network with the same features, strides, kernels "
                "and block"
            )
        network.load_state_dict({**network.state_dict(), **fitted.state})
        logger.info("initialised %.1f %% of the parameters from %s: %s", 100 * fitted.share, path, said)


def weights_file(path: str | Path) -> Path:
    """Find a weights file.

    Args:
        path: weights file, folder of a packed bundle, or folder of a task: its own weights, else those of its
            training on all cases, else of its only training.

    Raises:
        InputError: no weights; `AmbiguityError`: several trainings.
        BundleError: the bundle was changed after packing.
    """
    root = Path(path)
    if is_zip(root):
        raise InputError(f"initial weights must be a file or a folder, got the zip {at(root)}; unzip it first")
    if root.is_file():
        return root
    if (root / BUNDLED).is_file():
        check_sums(root, known={})
        return root / BUNDLED
    for file in (root / TRAINED, root / RUNS / ALL / TRAINED):
        if file.is_file():
            return file
    found = sorted(root.glob(f"{RUNS}/*/{TRAINED}"))
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(root)) for file in found)
        raise AmbiguityError(f"initial weights must be of one training, got {names} in {at(root)}; name the file")
    if not found:
        raise InputError(
            f"initial weights must be a file, or a folder of a task or bundle with weights, got {at(root)}; check "
            "the path"
        )
    return found[0]


def weights_digest(path: str | Path) -> str | None:
    """Hash the initial weights of a training; None without."""
    return sha256(weights_file(path)) if str(path) else None


def read_weights(path: Path) -> State:
    """Read the tensors of a weights file or checkpoint.

    Raises:
        InputError: unreadable or not finite.
        BundleError: the file is damaged.
    """
    check_stored(path)
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
        stored = stored.get(MODEL, stored)
        sound = all(_is_sound(tensor) for tensor in stored.values())
    except UNREADABLE_WEIGHTS as error:
        said = clipped(" ".join(str(error).split()) or type(error).__name__, SAID)
        if isinstance(error, pickle.UnpicklingError):  # torch's advice is to let the file run code
            said = "no file of tensors"
        raise InputError(f"initial weights must be readable, got {said} for {at(path)}; choose others") from error
    if not stored or not sound:
        raise InputError(f"initial weights must be tensors of finite numbers, got others in {at(path)}; choose others")
    return dict(stored)


def fit_weights(stored: State, own: State, *, prompts: int = 0) -> Fitted:
    """Fit weights to a network by name and shape, and adapt the channels of the first convolution.

    One stored channel is repeated and divided for several channels, and several are summed for one: images with equal
    channels then give the same result as before. Other changes of several channels cannot be matched: they stay new.
    Kernels of prompts stay new, at the scale of those of an image: without prompts, results are the same as before.

    Args:
        stored: from a file.
        own: of the new network.
        prompts: number of prompt channels after the image channels.
    """
    taken = {name: stored[name] for name, tensor in own.items() if _same_shape(stored.get(name), tensor)}
    others = {name: tensor for name, tensor in own.items() if name not in taken}
    prompted = {
        name: torch.cat([stored[name], tensor[:, -prompts:].to(stored[name]) / MARKED], 1)
        for name, tensor in others.items()
        if prompts and _is_without_prompts(name, stored.get(name), tensor, prompts)
    }
    joined = {
        name: _other_channels(stored[name], tensor.shape[1])
        for name, tensor in others.items()
        if not prompts and _is_other_channels(name, stored.get(name), tensor)
    }
    notes = tuple(_notes(stored, own, {**taken, **joined, **prompted}, joined))
    if prompted:
        notes = (f"first convolution without {counted(prompts, 'prompt channel')}: new", *notes)
    joined |= prompted
    total = sum(tensor.numel() for tensor in own.values())
    fitting = sum(own[name].numel() for name in (*taken, *joined))
    return Fitted({**taken, **joined}, fitting / total, notes)


def _is_sound(tensor: Any) -> bool:
    if not torch.is_tensor(tensor) or tensor.layout != torch.strided or tensor.is_complex():
        return False
    return bool(tensor.isfinite().all())


def _same_shape(stored: torch.Tensor | None, own: torch.Tensor) -> bool:
    return stored is not None and stored.shape == own.shape


def _is_other_channels(name: str, stored: torch.Tensor | None, own: torch.Tensor) -> bool:
    """Tell whether a kernel differs only in image channels, and one of the two has one channel."""
    if stored is None or not name.startswith(FIRST) or stored.dim() != own.dim() or own.dim() < 3:
        return False
    alike = stored.shape[0] == own.shape[0] and stored.shape[2:] == own.shape[2:]
    return alike and 1 in (stored.shape[1], own.shape[1])


def _is_without_prompts(name: str, stored: torch.Tensor | None, own: torch.Tensor, prompts: int) -> bool:
    """Tell whether a kernel lacks only the prompt channels."""
    if stored is None or not name.startswith(FIRST) or stored.dim() != own.dim() or own.dim() < 3:
        return False
    return stored.shape[1] + prompts == own.shape[1] and stored[:, 0].shape == own[:, 0].shape


def _other_channels(stored: torch.Tensor, count: int) -> torch.Tensor:
    """Adapt kernels `(features, channels, *spatial)` to another number of channels."""
    if stored.shape[1] > 1:
        return stored.sum(1, keepdim=True)
    return stored.repeat_interleave(count, dim=1) / count


def _notes(stored: State, own: State, taken: State, joined: State) -> Iterator[str]:
    if joined:
        name = next(iter(joined))
        before, now = stored[name].shape[1], own[name].shape[1]
        how = "repeated and divided by their number" if before == 1 else "summed"
        yield f"first convolution of {counted(before, 'channel')} instead of {now}: {how}"
    left = [name for name in own if name not in taken]
    heads = [name for name in left if name.startswith(HEADS) and name in stored]
    if heads:
        before, now = stored[heads[0]].shape[0], own[heads[0]].shape[0]
        if before != now:
            yield f"heads of {before} labels instead of {now}, background included: new"
            left = [name for name in left if name not in heads]
    others: dict[str, str] = {}  # node -> what is wrong with the first of its parameters
    for name in left:
        shape = tuple(own[name].shape)
        why = f"{tuple(stored[name].shape)} instead of {shape}" if name in stored else "not stored"
        others.setdefault(".".join(name.split(".")[:2]), why)
    for node, why in others.items():
        yield f"{node} ({why}): new"
    if unused := sorted({".".join(name.split(".")[:2]) for name in stored if name not in own}):
        yield f"not used: {', '.join(unused)}"
