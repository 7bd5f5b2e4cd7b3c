"""Points and scribbles that clients of MONAI Label send with a request, and the sessions that answer them.

A client sends all of its points each time, as voxels of the image that it was given.
"""

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..depth import DepthLike
from ..errors import InputError
from ..inference import Progress
from ..interactive import Point, Scribble, Session
from ..segmentation import Prompted, Segmentation, voxel_counts
from ..segmenter import Segmenter
from ..volume import Volume

HELD, IDLE = 4, 600.0  # sessions at most, and seconds after which one that nobody asks is released
FOREGROUND, LABEL, SCRIBBLES = "foreground", "label", "scribbles"  # keys of a request, beside names of labels


@dataclass(frozen=True)
class Clicks:
    """What a client marked as one label."""

    label: str
    voxels: tuple[tuple[float, float, float], ...]  # of the image that the client was given
    scribbled: bool  # one by one, in place of clicks


def clicks_of(asked: Mapping[str, Any], names: Sequence[str]) -> list[Clicks]:
    """Read what a request asks for; the client's own names for points are its labels, or foreground and background.

    Args:
        asked: "label" that "foreground" points are of; points by label, "background" among them; "scribbles", voxels by
            label.
        names: of the labels by index, the background first.

    Raises:
        InputError: points of no label, or none that are voxels.
    """
    found = [Clicks(name, _voxels(asked[name], name), scribbled=False) for name in names if asked.get(name)]
    if points := asked.get(FOREGROUND):
        label = asked.get(LABEL) or (names[1] if len(names) == 2 else None)
        if label not in names:
            raise InputError(f"label must say of which of {', '.join(names[1:])} the points are, got {label!r}")
        found.append(Clicks(str(label), _voxels(points, FOREGROUND), scribbled=False))
    scribbles = asked.get(SCRIBBLES) or {}
    if not isinstance(scribbles, dict) or not set(scribbles) <= set(names):
        raise InputError(f"scribbles must be voxels by label, of {', '.join(names)}, got {str(scribbles)[:60]!r}")
    return [*found, *(Clicks(name, _voxels(voxels, name), scribbled=True) for name, voxels in scribbles.items())]


def _voxels(stated: Any, name: str) -> tuple[tuple[float, float, float], ...]:
    points = stated if isinstance(stated, list) else [stated]
    if not all(isinstance(point, list) and len(point) in (2, 3) and all(map(_is_number, point)) for point in points):
        raise InputError(f"points of {name!r} must be a list of voxels [i, j, k], got {str(stated)[:60]!r}")
    i_j_k = ((*point, 0.0)[:3] for point in points)  # a picture has one slice
    return tuple((float(i), float(j), float(k)) for i, j, k in i_j_k)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass
class _Held:
    """An image that is being corrected."""

    segmenter: Segmenter
    session: Session
    automatic: Segmentation  # of it, at the smallest depth: what a corrected one says apart from its labels
    used: float = field(default_factory=time.monotonic)


class Corrections:
    """Sessions of the images that are being corrected, few, each until nobody asks for a while.

    Args:
        most: how many are held; the one that was not asked for the longest time goes first.
        idle: seconds after which one is released.
    """

    def __init__(self, *, most: int = HELD, idle: float = IDLE) -> None:
        self.most, self.idle = most, idle
        self._held: OrderedDict[object, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None  # there is one while anything is held

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def of(self, segmenter: Segmenter, volume: Volume, key: object) -> _Held:
        """Give the session of an image, a new one if there is none.

        Args:
            segmenter: that segments it now.
            volume: the image.
            key: what tells it from others; None: it is not held.
        """
        with self._lock:
            held = self._held.pop(key, None) if key is not None else None
        if held is None or held.segmenter is not segmenter:
            automatic = segmenter(volume, depth=segmenter.depths[0])
            held = _Held(segmenter, segmenter.session(volume), automatic)
        held.used = time.monotonic()
        if key is not None:
            with self._lock:
                self._held[key] = held
                while len(self._held) > self.most:
                    self._held.popitem(last=False)
                self._later(self.idle)
        return held

    def release(self) -> None:
        """Release the sessions that were not used for a while."""
        with self._lock:
            now, self._timer = time.monotonic(), None
            for key in [key for key, held in self._held.items() if now - held.used >= self.idle]:
                del self._held[key]
            if self._held:
                self._later(min(held.used for held in self._held.values()) + self.idle - now)

    def _later(self, seconds: float) -> None:
        """Look again after some seconds, unless that is planned."""
        if self._timer is None:
            self._timer = threading.Timer(seconds + 0.1, self.release)
            self._timer.daemon = True
            self._timer.start()


class Corrected:
    """A segmenter whose results have been corrected; it has what `segment_case` asks of a `Segmenter`.

    Args:
        segmenter: that segments.
        corrections: that hold its sessions.
        clicks: of the client.
        image: file that the client was given, whose voxels it names.
        affine: of it; None: that of the volume which is segmented.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        corrections: Corrections,
        clicks: Sequence[Clicks],
        *,
        image: Path | None,
        affine: NDArray[np.float64] | None,
    ) -> None:
        self.segmenter, self.corrections, self.clicks = segmenter, corrections, tuple(clicks)
        self.image, self.affine = image, affine

    def __getattr__(self, name: str) -> Any:
        """Everything else is the segmenter's."""
        return getattr(self.segmenter, name)

    def __call__(
        self,
        volume: Volume,
        *,
        depth: DepthLike = None,
        mirror_axes: Sequence[int] | None = None,
        uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment with all clicks, as `Session.labels` does.

        Raises:
            InputError: clicks outside of the image, or uncertainty, which corrections have none of.
        """
        if uncertainty:
            raise InputError("a corrected result has no uncertainty, got a request for it; ask without points")
        start = time.perf_counter()
        held = self.corrections.of(self.segmenter, volume, self._key())
        session, affine = held.session, volume.affine if self.affine is None else self.affine
        session.reset()
        prompted = []
        for clicks in self.clicks:
            positions = np.array(clicks.voxels) @ affine[:3, :3].T + affine[:3, 3]
            prompted.append(_prompted(clicks, positions))
            for prompt in _prompts(clicks, positions):
                session.add(prompt)
        before = session.computed
        labels = session.labels(depth)
        found = self._stated(held.automatic, volume, labels, depth, session.computed - before, start)
        return replace(found, prompts=tuple(prompted))

    def _key(self) -> object:
        if self.image is None:
            return None
        state = self.image.stat()
        return str(self.image), state.st_mtime_ns, state.st_size

    def _stated(
        self,
        automatic: Segmentation,
        volume: Volume,
        labels: Volume,
        depth: DepthLike,
        windows: int,
        start: float,
    ) -> Segmentation:
        bundle, chosen = self.segmenter.bundle, self.segmenter.check_depth(depth)
        voxels = voxel_counts(torch.from_numpy(labels.array.astype(np.int64)), bundle.labels)
        said = None if bundle.plausible is None else bundle.plausible.implausible(volume, voxels, bundle.labels)
        return replace(
            automatic,
            labels=labels,
            voxels=voxels,
            ml={name: count * volume.voxel_ml for name, count in voxels.items()} if automatic.ml else {},
            depth=chosen.plain,
            windows={} if chosen.number is None else {chosen.number: windows},
            plausibility=said,
            review=True if said or not any(voxels.values()) else None,
            seconds={**dict.fromkeys(automatic.seconds, 0.0), "network": time.perf_counter() - start},
        )


def _prompts(clicks: Clicks, positions: NDArray[np.float64]) -> list[Point | Scribble]:
    """What a session takes for clicks at positions `(N, 3)`, mm, RAS."""
    if clicks.scribbled:
        return [Scribble(positions, clicks.label, connected=False)]
    return [Point(position, clicks.label) for position in positions.tolist()]


def _prompted(clicks: Clicks, positions: NDArray[np.float64]) -> Prompted:
    """State clicks at positions `(N, 3)`, mm, RAS."""
    digest = hashlib.sha256(np.ascontiguousarray(positions, "<f8").tobytes()).hexdigest()
    return Prompted(clicks.label, SCRIBBLES if clicks.scribbled else "clicks", len(positions), digest)
