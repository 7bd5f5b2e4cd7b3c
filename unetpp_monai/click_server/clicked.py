"""One client of nnInteractive's protocol: its image, its target buffer, and our session.

The protocol has one object and no patient: the object is one of our labels, and the image's orientation is set when the
server starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..depth import DepthLike
from ..errors import InputError
from ..interactive import BACKGROUND, InitialLabels, Point, Scribble, Session
from ..interactive.marking import MOST_POSITIONS
from ..label_rules import is_number
from ..prompts import bounds, core
from ..segmenter import Segmenter
from ..volume import Volume
from .arrays import DTYPES

AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}  # letter -> RAS axis, sign
LONGEST = 1e6  # mm, of a voxel
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """Settings of image and object for all clients.

    Example:
        >>> Setting("left hippocampus", "SPL").spacing
        ()
    """

    label: str  # of the bundle, used as object
    axes: str  # directions of the array's axes, such as "SPL"
    spacing: tuple[float, ...] = ()  # mm along the axes, if the client states none; empty: the client must
    depth: DepthLike = None  # of results


@dataclass(frozen=True)
class Change:
    """A change of a client's target buffer."""

    ran: bool  # whether anything was segmented or undone
    box: list[list[int]] | None = None  # first and last + 1 along each axis; None: nothing changed
    part: NDArray[np.uint8] | None = None  # new values in the box, 0 or 1


class Clicked:
    """The image of one client, with its prompts.

    Args:
        segmenter: segments the image.
        setting: settings of the server.
    """

    def __init__(self, segmenter: Segmenter, setting: Setting) -> None:
        self.segmenter, self.setting = segmenter, setting
        self._session: Session | None = None
        self._shown: Mask | None = None  # content of the client's buffer
        self._begun: list[Mask | None] = []  # per step: initial labels shown unchanged; None: segmented

    def set_image(self, array: NDArray[np.generic], properties: Mapping[str, Any]) -> list[int]:
        """Set a new image `(C, *axes)`; the previous state is dropped.

        Returns:
            Its shape.

        Raises:
            InputError: it cannot be segmented, or has no spacing.
        """
        self._session = self._shown = None
        self._begun = []
        affine = affine_of(self.setting.axes, self._spacing(properties.get("spacing")))
        self._session = self.segmenter.session(Volume(array, affine))
        return list(array.shape)

    def set_target_buffer(self, shape: Any, dtype: Any) -> None:
        """Register the client's buffer, which is empty.

        Raises:
            InputError: no image, or another shape.
        """
        expected = list(self._image().volume.shape)
        if shape != expected:
            raise InputError(f"a target buffer must have the shape of the image, {expected}, got {str(shape)[:60]}")
        if dtype not in DTYPES:
            raise InputError(f"a target buffer must be of {', '.join(DTYPES)}, got {str(dtype)[:60]!r}")
        self._shown = np.zeros(expected, bool)
        self._image().reset()
        self._begun = []

    def point(self, coordinates: Any, *, include: bool, run: bool) -> Change:
        """Add a click on a voxel, in the order of the array's axes."""
        session = self._ready()
        sound = isinstance(coordinates, list) and len(coordinates) == 3
        if not sound or not all(map(is_number, coordinates)):
            raise InputError(f"coordinates must be three numbers, got {str(coordinates)[:60]}")
        session.add(Point(session.position(coordinates), self._label(include)))
        return self._after(run)

    def scribble(self, mask: NDArray[Any], box: Any, *, include: bool, run: bool, filled: bool = False) -> Change:
        """Add a mask as scribble; a lasso is eroded first.

        Args:
            mask: of the whole image or a part.
            box: of the part, first and last + 1 along each axis; None: the whole image.
            include: whether it belongs to the object.
            run: segment now.
            filled: whether it is a lasso.
        """
        session = self._ready()
        corner = self._corner(mask.shape, box)
        marked = _flat_core(mask > 0) if filled else mask > 0
        if not 0 < (count := np.count_nonzero(marked)) <= MOST_POSITIONS:
            raise InputError(f"a scribble must mark 1 to {MOST_POSITIONS} voxels, got {count or 'none'}")
        voxels = np.argwhere(marked) + corner
        affine = session.volume.affine
        positions = voxels @ affine[:3, :3].T + affine[:3, 3]
        session.add(Scribble(positions, self._label(include), connected=False, spread=not filled))
        return self._after(run)

    def initial(self, mask: NDArray[Any], *, run: bool) -> Change:
        """Start from a given mask of the object; without `run`, it is shown unchanged."""
        session = self._ready()
        if mask.shape != session.volume.shape:
            raise InputError(f"an initial segmentation must be of the image's shape, got {list(mask.shape)}")
        if not (mask > 0).any():
            raise InputError("an initial segmentation must mark a voxel, got none")
        index = session.names.index(self.setting.label)
        session.reset()
        self._shown, self._begun = mask > 0, []  # the client shows it before it asks
        session.add(InitialLabels(Volume((mask > 0)[None].astype(np.uint8) * np.uint8(index), session.volume.affine)))
        self._begun = [None if run else mask > 0]
        return self._now() if run else Change(ran=False)

    def undo(self) -> Change:
        """Undo the last step and restore the buffer."""
        session = self._ready()
        if not session.steps:
            return Change(ran=False)
        session.undo()
        self._begun.pop()
        return self._now()

    def reset(self) -> None:
        """Remove all prompts; the client clears its buffer itself."""
        if self._session is not None:
            self._session.reset()
        self._begun = []
        if self._shown is not None:
            self._shown = np.zeros_like(self._shown)

    def predict(self) -> Change:
        """Segment with all prompts so far."""
        if not self._ready().steps:
            return Change(ran=False)
        self._begun[-1] = None
        return self._now()

    def _image(self) -> Session:
        if self._session is None:
            raise InputError("an image must come before anything else, got none; call set_image")
        return self._session

    def _ready(self) -> Session:
        session = self._image()
        if self._shown is None:
            raise InputError("a target buffer must come before prompts, got none; call set_target_buffer")
        return session

    def _label(self, include: bool) -> str:
        return self.setting.label if include else BACKGROUND

    def _spacing(self, stated: Any) -> Sequence[float]:
        spacing = self.setting.spacing if stated is None else stated
        if not isinstance(spacing, list | tuple) or len(spacing) != 3 or not all(map(_is_length, spacing)):
            raise InputError(
                f"image_properties must have spacing, mm along the array's three axes, got {str(stated)[:60]}; or "
                "start the server with the spacing of all images"
            )
        return spacing

    def _corner(self, shape: tuple[int, ...], box: Any) -> NDArray[np.int64]:
        """Return the first voxel of a part of the image."""
        whole = self._image().volume.shape
        try:
            ends = np.array([[0, size] for size in whole] if box is None else box)
            sound = ends.dtype.kind == "i" and ends.shape == (3, 2) and tuple(ends[:, 1] - ends[:, 0]) == shape
            sound = sound and bool((ends[:, 0] >= 0).all() and (ends[:, 1] <= whole).all())
        except ValueError:  # not a table
            sound = False
        if not sound:
            raise InputError(f"a mask must be of the image's shape, {list(whole)}, or of its box's, got {list(shape)}")
        return np.asarray(ends[:, 0])

    def _after(self, run: bool) -> Change:
        self._begun.append(None)
        return self._now() if run else Change(ran=False)

    def _now(self) -> Change:
        """Return the change to the result of the last step."""
        session = self._ready()
        if not session.steps:
            return self._show(np.zeros(session.volume.shape, bool))
        if (begun := self._begun[-1]) is not None:
            return self._show(begun)
        labels = session.labels(self.setting.depth).array[0]
        return self._show(labels == session.names.index(self.setting.label))

    def _show(self, mask: Mask) -> Change:
        changed = mask != self._shown
        self._shown = mask
        if not changed.any():
            return Change(ran=True)
        box = bounds(changed)
        return Change(ran=True, box=[[ends.start, ends.stop] for ends in box], part=mask[box].astype(np.uint8))


def affine_of(axes: str, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the affine (RAS) for axis directions such as "SPL", with origin 0."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (letter, length) in enumerate(zip(axes, spacing, strict=True)):
        row, sign = AXES[letter]
        affine[row, column] = sign * float(length)
    return affine


def check_axes(axes: str) -> str:
    """Check that axes are three patient directions, one of each pair.

    Raises:
        InputError: invalid axes.
    """
    if len(axes) != 3 or sorted(AXES[letter][0] for letter in axes if letter in AXES) != [0, 1, 2]:
        raise InputError(
            f"axes must be one of R L, one of A P and one of S I, such as SPL, got {axes!r}", option="axes"
        )
    return axes


def _is_length(value: object) -> bool:
    return is_number(value) and 0 < value < LONGEST  # type: ignore[operator]


def _flat_core(mask: Mask) -> Mask:
    """Erode a lasso, which is one slice thick."""
    box = bounds(mask) if mask.any() else ()
    flat = [axis for axis, ends in enumerate(box) if ends.stop - ends.start == 1]
    if len(flat) != 1:
        return core(mask)
    found = np.zeros_like(mask)
    place = tuple(ends.start if axis == flat[0] else slice(None) for axis, ends in enumerate(box))
    found[place] = core(mask[place])
    return found
