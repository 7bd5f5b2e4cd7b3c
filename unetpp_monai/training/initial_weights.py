"""Weights to begin a training with, of a task with other labels or channels, too: what fits is taken, the rest is said.

Weights are data: read without running anything, and refused if they are damaged, not finite, or of another network.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import AmbiguityError, InputError
from ..files import sha256
from ..json_files import at, clipped
from ..task import ALL, RUNS, TRAINED
from ..trust import check_sums
from ..trust.stored_weights import UNREADABLE_WEIGHTS, check_stored

BUNDLED = f"models/{TRAINED}"  # weights of a packed bundle
MODEL = "model"  # key of the weights in a checkpoint
LEAST = 0.5  # share of a network's parameters that must fit; with less, nothing that was learned is kept
FIRST, HEADS = "nodes.x_0_0.", "outputs."  # names of the parameters that depend on channels and on labels
SAID = 300  # characters of a message

logger = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fitted:
    """What is taken of stored weights, and what was done about the rest."""

    state: dict[str, torch.Tensor]  # by the names of the network, in its shapes
    share: float  # of the network's parameters that are taken, 0 ... 1
    notes: tuple[str, ...]  # what is not taken as it is, in words


class InitialWeights:
    """Load weights into a network when its training begins.

    Args:
        path: as `weights_file` takes it; "": none are loaded.
        network: to load them into; one that is distributed is taken as the network it distributes.
    """

    def __init__(self, path: str | Path, network: torch.nn.Module) -> None:
        self.path, self.network = str(path), network

    def attach(self, engine: Any) -> None:
        """Let a trainer call this when it starts."""
        from ignite.engine import Events

        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any = None) -> None:
        """Load what fits, and say what does not.

        Raises:
            InputError: no such file, no weights, or too little of them fits.
            BundleError: the file or its bundle is damaged.
        """
        path = weights_file(self.path)
        inner = getattr(self.network, "module", self.network)
        network = inner if isinstance(inner, torch.nn.Module) else self.network
        prompts: int = getattr(network, "prompt_channels", 0)
        fitted = fit_weights(read_weights(path), network.state_dict(), prompts=prompts)
        said = "; ".join(fitted.notes) or "all of them fit"
        if fitted.share < LEAST:
            raise InputError(
                f"weights must fit at least {LEAST:.0%} of the network's parameters, got {fitted.share:.0%} from "
                f"{at(path)}: {clipped(said, SAID)}; take those of a network with the same features, strides, kernels "
                "and block"
            )
        network.load_state_dict({**network.state_dict(), **fitted.state})
        logger.info("began with %.1f %% of the parameters from %s: %s", 100 * fitted.share, path, said)


def weights_file(path: str | Path) -> Path:
    """Find a file of weights.

    Args:
        path: such a file, the folder of a packed bundle, or that of a task: its own weights, or else those of its
            training on all cases, or of its only one.

    Raises:
        InputError: there is none; `AmbiguityError`: several trainings.
        BundleError: the bundle is not as it was packed.
    """
    root = Path(path)
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
            f"initial weights must be a file, or a folder of a task or bundle that has some, got {at(root)}; check "
            "the path"
        )
    return found[0]


def weights_digest(path: str | Path) -> str | None:
    """Hash what a training began with, for its identity; None: with nothing."""
    return sha256(weights_file(path)) if str(path) else None


def read_weights(path: Path) -> State:
    """Read the tensors of a file of weights, or of a checkpoint's network.

    Raises:
        InputError: they cannot be read, or are no finite numbers.
        BundleError: the file is damaged.
    """
    check_stored(path)
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
        stored = stored.get(MODEL, stored)
        sound = all(_is_sound(tensor) for tensor in stored.values())
    except UNREADABLE_WEIGHTS as error:
        said = clipped(" ".join(str(error).split()) or type(error).__name__, SAID)
        raise InputError(f"initial weights must be readable, got {said} for {at(path)}; take others") from error
    if not stored or not sound:
        raise InputError(f"initial weights must be tensors of finite numbers, got others in {at(path)}; take others")
    return dict(stored)


def fit_weights(stored: State, own: State, *, prompts: int = 0) -> Fitted:
    """Take what fits a network by name and shape, and what its first convolution can take of other channels.

    One stored channel is repeated for several and divided by their number, several are added up for one: images whose
    channels are alike then give what they gave before. Which of several are which of others nobody knows: new.
    Channels of prompts begin at zero: without prompts, and with them too, images give what they gave before.

    Args:
        stored: of a file.
        own: of the network, as it was built.
        prompts: how many channels of the network follow those of its images.
    """
    taken = {name: stored[name] for name, tensor in own.items() if _same_shape(stored.get(name), tensor)}
    others = {name: tensor for name, tensor in own.items() if name not in taken}
    prompted = {
        name: torch.cat([stored[name], stored[name].new_zeros(tensor[:, -prompts:].shape)], 1)
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
        notes = (f"first convolution without {prompts} channel(s) of prompts: zero", *notes)
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
    """Whether a kernel differs in the image's channels alone, one of the two having one."""
    if stored is None or not name.startswith(FIRST) or stored.dim() != own.dim() or own.dim() < 3:
        return False
    alike = stored.shape[0] == own.shape[0] and stored.shape[2:] == own.shape[2:]
    return alike and 1 in (stored.shape[1], own.shape[1])


def _is_without_prompts(name: str, stored: torch.Tensor | None, own: torch.Tensor, prompts: int) -> bool:
    """Whether a kernel lacks the channels of prompts alone."""
    if stored is None or not name.startswith(FIRST) or stored.dim() != own.dim() or own.dim() < 3:
        return False
    return stored.shape[1] + prompts == own.shape[1] and stored[:, 0].shape == own[:, 0].shape


def _other_channels(stored: torch.Tensor, count: int) -> torch.Tensor:
    """Kernels `(features, channels, *spatial)` of another number of channels."""
    if stored.shape[1] > 1:
        return stored.sum(1, keepdim=True)
    return stored.repeat_interleave(count, dim=1) / count


def _notes(stored: State, own: State, taken: State, joined: State) -> Iterator[str]:
    if joined:
        name = next(iter(joined))
        before, now = stored[name].shape[1], own[name].shape[1]
        how = "repeated and divided by their number" if before == 1 else "added up"
        yield f"first convolution of {before} channel(s) instead of {now}: {how}"
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
