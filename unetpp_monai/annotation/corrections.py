"""Points and scribbles in requests of MONAI Label's clients, and their sessions.

A client sends all its points each time, as voxels of the image it has.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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

FAR = 1e9  # voxels; nothing is clicked further away
HELD, IDLE = 4, 600.0  # most sessions, and idle seconds until one is released
FOREGROUND, LABEL, SCRIBBLES = "foreground", "label", "scribbles"  # keys of a request, besides label names


@dataclass(frozen=True)
class Clicks:
    """Voxels that a client marked as one label."""

    label: str
    voxels: tuple[tuple[float, float, float], ...]  # of the client's image
    scribbled: bool  # voxels of a scribble instead of clicks


def clicks_of(asked: Mapping[str, Any], names: Sequence[str], *, spatial_dims: int = 3) -> list[Clicks]:
    """Read the points of a request, by label name, or as foreground and background.

    Args:
        asked: "label" of the "foreground" points; points by label, including "background"; "scribbles", voxels by
            label.
        names: of the labels by index, the background first.
        spatial_dims: of the image; voxels of pictures may have two numbers.

    Raises:
        InputError: an unknown label, or invalid voxels.
    """
    voxels = partial(_voxels, least=spatial_dims)
    keys = {LABEL: str, SCRIBBLES: dict}  # a label may have such a name, too: its points are lists
    listed = [name for name in names if asked.get(name) and not isinstance(asked[name], keys.get(name, ()))]
    found = [Clicks(name, voxels(asked[name], name), scribbled=False) for name in listed]
    if FOREGROUND not in names and (points := asked.get(FOREGROUND)):
        label = asked.get(LABEL) or (names[1] if len(names) == 2 else None)
        if label not in names:
            raise InputError(f"label of the points must be one of {', '.join(names[1:])}, got {label!r}")
        found.append(Clicks(str(label), voxels(points, FOREGROUND), scribbled=False))
    scribbles = (SCRIBBLES not in listed and asked.get(SCRIBBLES)) or {}
    if not isinstance(scribbles, dict) or not set(scribbles) <= set(names):
        raise InputError(f"scribbles must be voxels by label, of {', '.join(names)}, got {str(scribbles)[:60]!r}")
    return [*found, *(Clicks(name, voxels(each, name), scribbled=True) for name, each in scribbles.items() if each)]


def _voxels(stated: Any, name: str, *, least: int) -> tuple[tuple[float, float, float], ...]:
    points = stated if isinstance(stated, list) else [stated]
    lists = all(isinstance(point, list) and least <= len(point) <= 3 for point in points)
    if not lists or not all(all(map(_is_number, point)) for point in points):
        raise InputError(f"points of {name!r} must be a list of voxels [i, j, k], got {str(stated)[:60]!r}")
    i_j_k = ((*point, 0.0)[:3] for point in points)  # a picture has one slice
    return tuple((float(i), float(j), float(k)) for i, j, k in i_j_k)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -FAR < value < FAR


@dataclass
class _Held:
    """An image under correction."""

    segmenter: Segmenter
    session: Session
    automatic: Segmentation  # at the smallest depth: metadata for the corrected result
    used: float = field(default_factory=time.monotonic)


class Corrections:
    """A small cache of sessions of images under correction.

    Args:
        most: sessions; the least recently used is released first.
        idle: seconds until an unused session is released.
    """

    def __init__(self, *, most: int = HELD, idle: float = IDLE) -> None:
        self.most, self.idle = most, idle
        self._held: OrderedDict[object, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None  # set while there are sessions

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._held)

    def of(self, segmenter: Segmenter, volume: Volume, key: object) -> _Held:
        """Return the session of an image, a new one if needed.

        Args:
            segmenter: current segmenter.
            volume: the image.
            key: identifies the image; None: do not cache.
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
        """Release idle sessions."""
        with self._lock:
            now, self._timer = time.monotonic(), None
            for key in [key for key, held in self._held.items() if now - held.used >= self.idle]:
                del self._held[key]
            if self._held:
                self._later(min(held.used for held in self._held.values()) + self.idle - now)

    def _later(self, seconds: float) -> None:
        """Schedule the next check, unless it is scheduled."""
        if self._timer is None:
            self._timer = threading.Timer(seconds + 0.1, self.release)
            self._timer.daemon = True
            self._timer.start()


class Corrected:
    """A segmenter with corrected results, for `segment_case`.

    Args:
        segmenter: of the automatic result.
        corrections: cache of sessions.
        clicks: of the client.
        image: the client's file, to which voxels refer.
        affine: of that file; None: that of the segmented volume.
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
        """Delegate everything else to the segmenter."""
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
        """Segment with all clicks, as `Session.labels`.

        Raises:
            InputError: clicks outside the image, or a request for uncertainty, which corrections do not have.
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
            depth=chosen.value,
            windows={} if chosen.number is None else {chosen.number: windows},
            plausibility=said,
            review=True if said or not any(voxels.values()) else None,
            seconds={**dict.fromkeys(automatic.seconds, 0.0), "network": time.perf_counter() - start},
        )


def _prompts(clicks: Clicks, positions: NDArray[np.float64]) -> list[Point | Scribble]:
    """Convert clicks at positions `(N, 3)`, mm, RAS, to prompts."""
    if clicks.scribbled:
        return [Scribble(positions, clicks.label, connected=False)]
    return [Point(position, clicks.label) for position in positions.tolist()]


def _prompted(clicks: Clicks, positions: NDArray[np.float64]) -> Prompted:
    """Record clicks at positions `(N, 3)`, mm, RAS, for the report."""
    digest = hashlib.sha256(np.ascontiguousarray(positions, "<f8").tobytes()).hexdigest()
    return Prompted(clicks.label, SCRIBBLES if clicks.scribbled else "clicks", len(positions), digest)
