"""Correct one image interactively: prompts in, labels out; only windows with changed prompts are computed again.

Positions are mm in the patient, RAS unless said otherwise; the image may have any orientation.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..depth import DepthLike
from ..errors import InputError
from ..inference import Slab, as_tensor
from ..prompts import ball, mark, no_marks, prompt_maps
from ..segmentation import Prepared
from ..volume import Volume
from .held_windows import HeldWindows
from .kinds import Prompt, Prompting
from .marking import Marking, triples
from .reach import Marked, Reach
from .segments import Segments

MOST_PROMPTS, MOST_IN_ALL = 1000, 5_000_000  # prompts and positions


@dataclass(frozen=True, eq=False)
class _State:
    """Result of all prompts so far; each step makes a new one, for undo."""

    drawn: tuple[Marked, ...] = ()
    locked: tuple[int, ...] = ()  # labels that must not change
    kept: bytes | None = None  # labels (1, X, Y, Z) when they were locked, compressed


class Session:
    """One image with its prompts and cached results.

    Made by `Segmenter.session`. Only windows with changed prompts are computed again; windows without prompts equal
    those of the automatic network. The labels depend only on the prompts, not on when they were given. Not thread-safe.

    Args:
        segmenter: segments the image.
        prepared: the image.
        prompting: prompts that the bundle supports.
        weights: how much a window counts, by its number; see `relative_weights`.

    Raises:
        InputError: the bundle supports no prompts.

    Attributes:
        volume: the image, on whose grid labels are.
        names: of the labels by index, the background first.
        steps: number of steps that can be undone.

    Example:
        >>> from unetpp_monai import Segmenter, read_volume
        >>> from unetpp_monai.interactive import Point
        >>> segmenter = Segmenter.from_bundle("interactive_bundle", depth=1, runtime="eager")
        >>> session = segmenter.session(read_volume("hippocampus.nii.gz"))
        >>> session.add(Point(session.position((8, 10, 9)), "anterior hippocampus"))
        >>> labels = session.labels()  # with the click
        >>> session.undo()
        >>> session.steps
        0
    """

    def __init__(
        self, segmenter: Segments, prepared: Prepared, prompting: Prompting, weights: Callable[[int], torch.Tensor]
    ) -> None:
        if not prompting.labels:
            raise InputError("a bundle must take prompts to be corrected, this one takes none; train one that does")
        self.volume, self.names = prepared.volume, prompting.names
        self._segmenter, self._prepared, self._prompting = segmenter, prepared, prompting
        self._marking = Marking(prepared.volume, prepared.data["image"], prompting)
        self._offsets = ball(prompting.radius, prompting.pixdim)
        self._held = HeldWindows(len(prepared.data["image"]), weights)
        self._reach: Reach | None = None
        self._states = [_State()]
        self._last: DepthLike = None

    @property
    def steps(self) -> int:
        """Number of steps that can be undone."""
        return len(self._states) - 1

    @property
    def computed(self) -> int:
        """Number of windows computed so far."""
        return self._held.computed

    def add(self, prompt: Prompt) -> None:
        """Add a prompt; it overrides older ones where they overlap.

        Raises:
            InputError: no such label, a position outside of the image or not finite, labels on another grid, or too
                many prompts.
        """
        state = self._states[-1]
        self._push(replace(state, drawn=(*state.drawn, *self._marking.marked(prompt))))

    def lock(self, *labels: str | int) -> None:
        """Lock these labels and no others: their voxels stay as they are with all prompts so far.

        They stay as at the depth that `labels` was last asked for. Without labels, nothing is locked any more.

        Raises:
            InputError: no such label.
        """
        locked = tuple(sorted({self._prompting.index(label) for label in labels}))
        kept = zlib.compress(self.labels(self._last).array.tobytes(), 1) if locked else None  # each step keeps its own
        self._push(replace(self._states[-1], locked=locked, kept=kept))

    def undo(self) -> None:
        """Undo the last prompt or change of locks.

        Raises:
            InputError: nothing to undo.
        """
        if not self.steps:
            raise InputError("a session must have a prompt to be undone, got none")
        self._states.pop()

    def reset(self) -> None:
        """Remove all prompts and locks."""
        self._states = [_State()]

    @torch.inference_mode()
    def labels(self, depth: DepthLike = None) -> Volume:
        """Segment the image with all prompts.

        Args:
            depth: as in `Segmenter.__call__`.

        Returns:
            Label indices `(1, X, Y, Z)`, uint8, on the grid of the image.

        Raises:
            InputError: the network has no such depth.
        """
        state, marks = self._states[-1], no_marks(self._marking.shape)
        for each in state.drawn:
            mark(marks, each.voxels, each.channel, self._offsets)
        predictor = self._segmenter.predictor(depth)
        prompts = torch.from_numpy(prompt_maps(marks, len(self._prompting.labels)))
        places = self._marking.positions(state.drawn)
        correct = self._correction(state)
        windows = self._held.over(predictor, both=correct is not None)
        found = self._segmenter.replay(self._prepared, windows, prompts=prompts, marks=places, correct=correct)
        self._last = depth
        if state.kept is None:
            return found
        kept = np.frombuffer(zlib.decompress(state.kept), found.array.dtype).reshape(found.array.shape)
        stays = np.isin(found.array, state.locked) | np.isin(kept, state.locked)
        return Volume(np.where(stays, kept, found.array), found.affine)

    def position(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """Return the position of a voxel by its index (0-based, X, Y, Z), mm, RAS.

        Raises:
            InputError: not three numbers.
        """
        x, y, z = (self.volume.affine @ (*triples([voxel])[0], 1.0))[:3]
        return float(x), float(y), float(z)

    def _correction(self, state: _State) -> Callable[[Iterable[Slab]], Iterator[Slab]] | None:
        """Return what corrects the logits around prompts, if there are any."""
        if not state.drawn or not self._prompting.reach:
            return None
        if self._reach is None:
            sigma = [self._prompting.reach / length for length in self._prompting.pixdim]
            self._reach = Reach(as_tensor(self._prepared.data["image"]), sigma)
        self._reach.follow(state.drawn)
        return self._reach.over

    def _push(self, state: _State) -> None:
        if self.steps >= MOST_PROMPTS:
            raise InputError(f"a session takes at most {MOST_PROMPTS} prompts, got one more; undo some, or reset it")
        if (count := sum(max(len(each.places), len(each.image)) for each in state.drawn)) > MOST_IN_ALL:
            raise InputError(f"a session takes at most {MOST_IN_ALL} positions, got {count}; undo some, or reset it")
        self._states.append(state)
