"""Correct one image interactively: prompts in, labels out; only windows with changed prompts are computed again.

Positions are mm in the patient, RAS unless said otherwise; the image may have any orientation.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from ..depth import DepthLike
from ..errors import InputError
from ..inference import Slab, as_tensor
from ..prompts import ball, core, mark, no_marks, prompt_maps, steps_of, walk
from ..segmentation import Prepared
from ..volume import Volume
from .held_windows import HeldWindows
from .kinds import InitialLabels, Point, Prompt, Prompting, Scribble, shown
from .reach import Marked, Reach
from .segments import Segments

MOST_PROMPTS, MOST_POSITIONS, MOST_IN_ALL = 1000, 1_000_000, 5_000_000  # of a session, of a scribble, of a session
SPACES = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1)}  # signs to convert to RAS


@dataclass(frozen=True, eq=False)
class _State:
    """Result of all prompts so far; each step makes a new one, for undo."""

    drawn: tuple[Marked, ...] = ()
    locked: tuple[int, ...] = ()  # labels that must not change
    kept: NDArray[np.generic] | None = None  # labels (1, X, Y, Z) when they were locked


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
        image = prepared.data["image"]
        self._shape = tuple(image.shape[1:])
        self._to_voxels = np.linalg.inv(to_affine_nd(len(self._shape), np.asarray(image.affine.cpu())))
        self._channels = len(image)
        self._offsets = ball(prompting.radius, prompting.pixdim)
        self._held = HeldWindows(self._channels, weights)
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
        if isinstance(prompt, InitialLabels):
            drawn = self._deep_in(prompt.labels)
        elif isinstance(prompt, Point):
            drawn = [self._drawn(prompt.label, [prompt.position], prompt.space)]
        elif isinstance(prompt, Scribble):
            places = self._drawn(prompt.label, prompt.positions, prompt.space, connected=prompt.connected)
            drawn = [replace(places, spread=prompt.spread)]
        else:
            raise InputError(f"a prompt must be a Point, Scribble or InitialLabels, got {type(prompt).__name__}")
        state = self._states[-1]
        self._push(replace(state, drawn=(*state.drawn, *drawn)))

    def lock(self, *labels: str | int) -> None:
        """Lock labels: their voxels stay as `labels` last returned them.

        Raises:
            InputError: no such label.
        """
        locked = tuple(sorted({self._prompting.index(label) for label in labels}))
        kept = self.labels(self._last).array if locked else None
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
        state, marks = self._states[-1], no_marks(self._shape)
        for each in state.drawn:
            mark(marks, each.voxels, each.channel, self._offsets)
        predictor = self._segmenter.predictor(depth)
        prompts = torch.from_numpy(prompt_maps(marks, len(self._prompting.labels)))
        places = self._places(state)
        correct = self._correction(state)
        windows = self._held.over(predictor, both=correct is not None)
        found = self._segmenter.replay(self._prepared, windows, prompts=prompts, marks=places, correct=correct)
        self._last = depth
        if state.kept is None:
            return found
        stays = np.isin(found.array, state.locked) | np.isin(state.kept, state.locked)
        return Volume(np.where(stays, state.kept, found.array), found.affine)

    def position(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """Return the position of a voxel by its index (0-based, X, Y, Z), mm, RAS.

        Raises:
            InputError: not three numbers.
        """
        x, y, z = (self.volume.affine @ (*_triples([voxel])[0], 1.0))[:3]
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

    def _places(self, state: _State) -> dict[int, torch.Tensor]:
        """Return positions `(N, axes)` of the prompts, without the balls around them, RAS mm, by label index."""
        dims, marks = len(self._shape), no_marks(self._shape)
        for each in state.drawn:
            mark(marks, each.voxels, each.channel, np.zeros((1, dims), np.int64))
        to_mm = np.linalg.inv(self._to_voxels)
        found: dict[int, list[NDArray[np.float64]]] = {}
        for each in state.drawn:
            counts = each.places[marks[tuple(self._nearest(each.places).T)] == each.channel]
            found.setdefault(each.label, []).append(counts @ to_mm[:dims, :dims].T + to_mm[:dims, dims])
        return {index: torch.from_numpy(np.concatenate(places)) for index, places in found.items()}

    def _push(self, state: _State) -> None:
        if self.steps >= MOST_PROMPTS:
            raise InputError(f"a session takes at most {MOST_PROMPTS} prompts, got one more; undo some, or reset it")
        if (count := sum(len(each.places) for each in state.drawn)) > MOST_IN_ALL:
            raise InputError(f"a session takes at most {MOST_IN_ALL} positions, got {count}; undo some, or reset it")
        self._states.append(state)

    def _drawn(self, label: str | int, positions: Any, space: str, *, connected: bool = False) -> Marked:
        """Convert positions `(N, 3)` to voxels of the network's grid."""
        channel = self._prompting.channel(label)
        if not isinstance(space, str) or space not in SPACES:
            raise InputError(f"the space of positions must be {' or '.join(SPACES)}, got {shown(space)}")
        found = _triples(positions) * SPACES[space]
        self._check_inside(found)
        dims = len(self._shape)
        places = found[:, :dims] @ self._to_voxels[:dims, :dims].T + self._to_voxels[:dims, dims]
        if connected:
            if (count := int(steps_of(places).sum())) > 2 * MOST_POSITIONS:  # two steps a voxel
                raise InputError(f"a scribble must be at most {MOST_POSITIONS} voxels long, got {count // 2}")
            places = walk(places)
        return self._marked(channel, places)

    def _marked(self, channel: int, places: NDArray[np.float64]) -> Marked:
        """Keep places on the network's grid, which may end one voxel before the image."""
        seen = places[((np.rint(places) >= -1) & (np.rint(places) <= self._shape)).all(1)]
        if not len(seen):
            raise InputError("positions must be inside the foreground crop, got some where the image is all 0")
        numbers = np.unique(np.ravel_multi_index(tuple(self._nearest(seen).T), self._shape))
        voxels = np.stack(np.unravel_index(numbers, self._shape), -1)
        return Marked(self._prompting.labels[channel], channel, voxels, seen)

    def _nearest(self, places: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.clip(np.rint(places).astype(np.int64), 0, np.array(self._shape) - 1)

    def _check_inside(self, positions: NDArray[np.float64]) -> None:
        if not np.isfinite(positions).all():
            raise InputError("positions must be finite, got NaN or infinite ones")
        to_voxels = np.linalg.inv(self.volume.affine)
        with np.errstate(over="ignore", invalid="ignore"):
            voxels = positions @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        outside = ~((voxels >= -0.5) & (voxels < np.array(self.volume.shape) - 0.5)).all(1)
        if outside.any():
            place = ", ".join(f"{value:.4g}" for value in positions[outside][0])
            voxel = ", ".join(f"{value:.4g}" for value in voxels[outside][0])
            raise InputError(
                f"positions must be within the image of {self.volume.shape} voxels, got ({place}) mm RAS, which is "
                f"voxel ({voxel}); are they of this image, and RAS or LPS?"
            )

    def _deep_in(self, labels: Volume) -> list[Marked]:
        """Return the eroded region of each foreground label with prompts, from labels on the image's grid."""
        if not isinstance(labels, Volume):
            raise InputError(f"initial labels must be a Volume, got {type(labels).__name__}")
        if len(labels.array) != 1 or not labels.same_grid(self.volume):
            raise InputError(
                f"initial labels must be (1, X, Y, Z) on the grid of the image, {self.volume.shape}, got "
                f"{labels.array.shape} on {'it' if labels.same_grid(self.volume) else 'another'}"
            )
        if unknown := sorted(set(np.unique(labels.array).tolist()) - set(range(len(self.names)))):
            raise InputError(f"initial labels must be 0 to {len(self.names) - 1}, got {unknown[:3]}")
        on_grid = self._on_network_grid(labels)
        prompted = ((channel, label) for channel, label in enumerate(self._prompting.labels) if label)
        cores = ((channel, np.argwhere(core(on_grid == label))) for channel, label in prompted)
        marked = (self._marked(channel, voxels.astype(float)) for channel, voxels in cores if len(voxels))
        found = [replace(each, spread=False) for each in marked]
        if not found:
            raise InputError("initial labels must have a label that takes prompts, got none")
        return found

    def _on_network_grid(self, labels: Volume) -> NDArray[np.generic]:
        """Resample labels to the network's grid, nearest voxel."""
        dims = len(self._shape)
        to_source = np.linalg.inv(to_affine_nd(dims, labels.affine)) @ np.linalg.inv(self._to_voxels)
        rest = np.stack(np.meshgrid(*map(np.arange, self._shape[1:]), indexing="ij"), -1).reshape(-1, dims - 1)
        array = labels.array[0] if dims == 3 else labels.array[0, :, :, 0]
        found = np.empty(self._shape, array.dtype)
        for row in range(self._shape[0]):  # all at once takes much memory
            grid = np.insert(rest, 0, row, axis=1)
            voxels = np.rint(grid @ to_source[:dims, :dims].T + to_source[:dims, dims]).astype(np.int64)
            voxels = np.clip(voxels, 0, np.array(self.volume.shape[:dims]) - 1)
            found[row] = array[tuple(voxels.T)].reshape(self._shape[1:])
        return found


def _triples(positions: Any) -> NDArray[np.float64]:
    """Check positions `(N, 3)`."""
    try:
        found = np.asarray(positions)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.dtype.kind not in "iuf" or found.ndim != 2 or found.shape[1] != 3 or not 0 < len(found) <= MOST_POSITIONS:
        raise InputError(f"positions must be 1 to {MOST_POSITIONS} triples of numbers x, y and z, got others")
    return found.astype(np.float64)
