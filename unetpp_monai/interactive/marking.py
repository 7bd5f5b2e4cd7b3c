"""Convert prompts from patient space to voxels: of the image, which get their label, and of the network's grid."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from ..errors import InputError
from ..inference.source_grid import kept_box
from ..prompts import core, steps_of, walk
from ..volume import Volume
from .kinds import InitialLabels, Point, Prompt, Prompting, Scribble, shown
from .reach import Marked

MOST_POSITIONS = 1_000_000  # of a scribble
SPACES = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1)}  # signs to convert to RAS


class Marking:
    """The grids of an image and of its network.

    A position counts as the centre of the image voxel that it is in.

    Args:
        volume: the image.
        image: the same, preprocessed, `(C, *network grid)`.
        prompting: prompts that the bundle supports.

    Attributes:
        shape: of the network's grid.
    """

    def __init__(self, volume: Volume, image: MetaTensor, prompting: Prompting) -> None:
        self.volume, self.prompting = volume, prompting
        self.shape: tuple[int, ...] = tuple(image.shape[1:])
        self._dims = dims = len(self.shape)
        self._to_mm = to_affine_nd(dims, volume.affine)
        self._to_network = np.linalg.inv(to_affine_nd(dims, np.asarray(image.affine.cpu()))) @ self._to_mm
        self._kept = kept_box(image)

    def marked(self, prompt: Prompt) -> list[Marked]:
        """Return what a prompt marks, for each of its labels.

        Raises:
            InputError: no such label, a position outside of the image or not finite, labels on another grid, or too
                long a scribble.
        """
        if isinstance(prompt, InitialLabels):
            return self._deep_in(prompt.labels)
        if isinstance(prompt, Point):
            return [self._drawn(prompt.label, [prompt.position], prompt.space, connected=False)]
        if isinstance(prompt, Scribble):
            found = self._drawn(prompt.label, prompt.positions, prompt.space, connected=prompt.connected)
            return [replace(found, spread=prompt.spread)]
        raise InputError(f"a prompt must be a Point, Scribble or InitialLabels, got {type(prompt).__name__}")

    def positions(self, drawn: Sequence[Marked]) -> dict[int, torch.Tensor]:
        """Return positions `(N, axes)` of marked voxels, RAS mm, by label; the last prompt at a voxel counts."""
        found: dict[int, torch.Tensor] = {}
        if not drawn:
            return found
        shape = self.volume.shape[: self._dims]
        numbers = np.concatenate([np.ravel_multi_index(tuple(each.image.T), shape) for each in drawn])
        labels = np.concatenate([np.full(len(each.image), each.label) for each in drawn])
        voxels, last = np.unique(numbers[::-1], return_index=True)
        labels = labels[::-1][last]
        for label in np.unique(labels).tolist():
            places = np.stack(np.unravel_index(voxels[labels == label], shape), -1)
            found[label] = torch.from_numpy(_moved(places, self._to_mm))
        return found

    def _drawn(self, label: str | int, positions: Any, space: str, *, connected: bool) -> Marked:
        channel = self.prompting.channel(label)
        if not isinstance(space, str) or space not in SPACES:
            raise InputError(f"the space of positions must be {' or '.join(SPACES)}, got {shown(space)}")
        stated = self._inside(triples(positions) * SPACES[space])[:, : self._dims]
        if connected:
            corners = _moved(stated, self._to_network)
            if (count := int(max(steps_of(corners).sum(), steps_of(stated).sum()))) > 2 * MOST_POSITIONS:
                raise InputError(f"a scribble must be at most {MOST_POSITIONS} voxels long, got {count // 2}")
            return self._found(channel, walk(stated), walk(corners))
        return self._found(channel, stated)

    def _found(self, channel: int, stated: NDArray[np.floating[Any]], places: NDArray[Any] | None = None) -> Marked:
        """Keep places in the image, and those on the network's grid, without what preprocessing cut off."""
        voxels = _voxels(stated, self.volume.shape[: self._dims])
        if self._kept is not None:
            starts, stops = np.array([(part.start, part.stop) for part in self._kept]).T
            voxels = voxels[((voxels >= starts) & (voxels < stops)).all(1)]
            if not len(voxels):
                raise InputError("positions must be inside the foreground crop, got some where the image is all 0")
            if places is not None:
                places = places[((np.rint(places) >= 0) & (np.rint(places) < self.shape)).all(1)]
        if places is None or not len(places):
            places = _moved(voxels, self._to_network)
        places = np.clip(places, 0, np.array(self.shape) - 1)
        return Marked(self.prompting.labels[channel], channel, _voxels(places, self.shape), places, voxels)

    def _inside(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return voxels `(N, 3)`, between them, of positions that must be within the image."""
        if not np.isfinite(positions).all():
            raise InputError("positions must be finite, got NaN or infinite ones")
        with np.errstate(over="ignore", invalid="ignore"):
            voxels = _moved(positions, np.linalg.inv(self.volume.affine))
        outside = ~((voxels >= -0.5) & (voxels < np.array(self.volume.shape) - 0.5)).all(1)
        if outside.any():
            place = ", ".join(f"{value:.4g}" for value in positions[outside][0])
            voxel = ", ".join(f"{value:.4g}" for value in voxels[outside][0])
            raise InputError(
                f"positions must be within the image of {self.volume.shape} voxels, got ({place}) mm RAS, which is "
                f"voxel ({voxel}); are they of this image, and RAS or LPS?"
            )
        return voxels

    def _deep_in(self, labels: Volume) -> list[Marked]:
        """Return the eroded region of each foreground label with prompts, from labels on the image's grid."""
        if not isinstance(labels, Volume):
            raise InputError(f"initial labels must be a Volume, got {type(labels).__name__}")
        if len(labels.array) != 1 or not labels.same_grid(self.volume):
            raise InputError(
                f"initial labels must be (1, X, Y, Z) on the grid of the image, {self.volume.shape}, got "
                f"{labels.array.shape} on {'it' if labels.same_grid(self.volume) else 'another'}"
            )
        if labels.array.dtype.kind not in "biuf":
            raise InputError(f"initial labels must be numbers, got {labels.array.dtype}")
        names = self.prompting.names
        if unknown := sorted(set(np.unique(labels.array).tolist()) - set(range(len(names)))):
            raise InputError(f"initial labels must be 0 to {len(names) - 1}, got {unknown[:3]}")
        array = labels.array[0] if self._dims == 3 else labels.array[0, :, :, 0]
        on_grid, found = self._on_network_grid(array), []
        for channel, label in enumerate(self.prompting.labels):
            if not label:
                continue  # what is deep inside the background is no scribble, and takes long to find
            voxels = np.argwhere(core(array == label)).astype(float)
            if len(voxels):
                deep = np.argwhere(core(on_grid == label)).astype(float)
                found.append(replace(self._found(channel, voxels, deep if len(deep) else None), spread=False))
        if not found:
            raise InputError("initial labels must have a label that takes prompts, got none")
        return found

    def _on_network_grid(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Resample labels `(*image grid)` to the network's grid, nearest voxel."""
        to_image = np.linalg.inv(self._to_network)
        rest = np.stack(np.meshgrid(*map(np.arange, self.shape[1:]), indexing="ij"), -1).reshape(-1, self._dims - 1)
        found = np.empty(self.shape, array.dtype)
        for row in range(self.shape[0]):  # all at once takes much memory
            voxels = np.rint(_moved(np.insert(rest, 0, row, axis=1), to_image)).astype(np.int64)
            voxels = np.clip(voxels, 0, np.array(array.shape) - 1)
            found[row] = array[tuple(voxels.T)].reshape(self.shape[1:])
        return found


def triples(positions: Any) -> NDArray[np.float64]:
    """Return positions `(N, 3)`.

    Raises:
        InputError: others.
    """
    try:
        found = np.asarray(positions)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.dtype.kind not in "iuf" or found.ndim != 2 or found.shape[1] != 3 or not 0 < len(found) <= MOST_POSITIONS:
        raise InputError(f"positions must be 1 to {MOST_POSITIONS} triples of numbers x, y and z, got others")
    return found.astype(np.float64)


def _voxels(places: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the voxels `(N, axes)` of a grid in which places are, each once; those outside at the border."""
    nearest = np.clip(np.rint(places).astype(np.int64), 0, np.array(shape) - 1)
    numbers = np.unique(np.ravel_multi_index(tuple(nearest.T), shape))  # faster than by rows
    return np.stack(np.unravel_index(numbers, shape), -1)


def _moved(places: NDArray[Any], affine: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(places @ affine[:-1, :-1].T + affine[:-1, -1])
