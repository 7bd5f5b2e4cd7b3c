"""Scores of images, stored beside their bundle, and the choice of the next image. Independent of the server.

The scores are one JSON file, written atomically. It is a cache: one of another version is replaced.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import complete_file
from ..io import channel_files

SCORES = "scores.json"
SCHEMA = 1  # of the file
HELD_SECONDS = 3600  # time for which an image is reserved for the client that got it


@dataclass(frozen=True)
class Score:
    """Uncertainty of a network for an image."""

    value: float | None  # 0 (certain) to 1; None: nothing found, or see error
    image: str  # state of the scored file (`image_state`); empty: not available
    weights_sha256: str  # of the weights, hexadecimal
    depth: str  # of the evaluation, such as "full"
    error: str = ""  # why the image could not be read or segmented
    measure: str = "disagreement"  # behind the value, one of `UNCERTAINTIES`

    def as_info(self) -> dict[str, Any]:
        """Return the entry for clients."""
        known = {"score": self.value, "weights": self.weights_sha256[:12], "depth": self.depth, "measure": self.measure}
        return {**known, "error": self.error} if self.error else known


def read_scores(root: Path) -> dict[str, Score]:
    """Read the scores of the bundle in `root` by image; empty if missing or of another version."""
    try:
        document = json.loads((root / SCORES).read_text())
        if document.get("schema") != SCHEMA:
            return {}
        return {image: Score(**values) for image, values in document["scores"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_scores(root: Path, scores: Mapping[str, Score]) -> None:
    """Replace the scores of the bundle in `root`.

    Raises:
        OutputError: the file cannot be written.
    """
    with complete_file(root / SCORES) as temporary:
        kept = {image: asdict(score) for image, score in scores.items()}
        temporary.write_text(json.dumps({"schema": SCHEMA, "scores": kept}, indent=1))


def image_state(path: Path, channels: Sequence[str] = ()) -> str:
    """Return a state that changes with an image: paths, sizes and times of its files.

    Args:
        path: of the image.
        channels: endings of names of files that are channels of one case, see `channel_files`.

    Raises:
        InputError: a channel's file is missing.
    """
    files = (
        sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else channel_files(path, channels)
    )
    stats = [file.stat() for file in files]
    return f"{path}:{len(files)}:{sum(stat.st_size for stat in stats)}:{max(s.st_mtime_ns for s in stats)}"


def outdated(
    scores: Mapping[str, Score], images: Mapping[str, str], *, weights_sha256: str, depth: str, measure: str
) -> list[str]:
    """List images with a missing score, or one of another file, weights, depth or measure.

    Args:
        scores: known scores by image.
        images: current state of each image (`image_state`).
        weights_sha256: of the weights to use.
        depth: to use.
        measure: to use.

    Returns:
        Images in the given order.
    """
    wanted = {image: (state, weights_sha256, depth, measure) for image, state in images.items()}
    known = {image: (s.image, s.weights_sha256, s.depth, s.measure) for image, s in scores.items()}
    return [image for image, key in wanted.items() if known.get(image) != key]


def choose(
    images: Iterable[str], infos: Mapping[str, Mapping[str, Any]], *, client: str | None, now: float
) -> str | None:
    """Choose the first image not given out recently, else this client's oldest, else another client's.

    Args:
        images: candidates, best first.
        infos: info of each in the datastore; `strategy` has, by strategy, `ts` (seconds) and `client_id`.
        client: the requesting one; None: unnamed.
        now: seconds since 1970.

    Returns:
        One of `images`; None if empty.
    """

    def held(image: str) -> tuple[int, float]:
        given = [entry for entry in infos[image].get("strategy", {}).values() if now - entry["ts"] < HELD_SECONDS]
        if not given:
            return 0, 0.0
        last = max(given, key=lambda entry: entry["ts"])
        return (1 if last.get("client_id") == client else 2), last["ts"]

    return min(images, key=held, default=None)


def annotation_order(score: Score | None) -> tuple[int, float]:
    """Sort key for annotation: nothing found, then falling score, not scored, not segmentable."""
    if score is None:
        return 2, 0.0
    if score.error:
        return 3, 0.0
    return (0, 0.0) if score.value is None else (1, -score.value)
