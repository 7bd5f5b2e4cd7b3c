"""Scores of images beside the bundle that made them, and which image is annotated next. Knows no server.

The scores are one JSON file, complete at any moment. It is a cache: written by another version, it is made anew.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import complete_file
from ..io import channel_files

SCORES = "scores.json"
SCHEMA = 1  # of that file
HELD_SECONDS = 3600  # how long an image counts as being worked on by the client that got it


@dataclass(frozen=True)
class Score:
    """How sure a network was of an image."""

    value: float | None  # 0 (sure) ... 1; None: nothing was found, or see error
    image: str  # state of the image file that was scored (`image_state`); empty: it could not be had
    weights_sha256: str  # of the weights that scored it, hexadecimal
    depth: str  # to which the network was evaluated, such as "full"
    error: str = ""  # why the image could not be had or segmented
    measure: str = "disagreement"  # whose mean the value is, one of `UNCERTAINTIES`

    def as_info(self) -> dict[str, Any]:
        """What the datastore shows to clients."""
        known = {"score": self.value, "weights": self.weights_sha256[:12], "depth": self.depth, "measure": self.measure}
        return {**known, "error": self.error} if self.error else known


def read_scores(root: Path) -> dict[str, Score]:
    """Scores by image of the bundle in `root`; empty if there are none, or none that this version wrote."""
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
    """What changes when an image changes: its place, size and time; of a folder, those of the files below.

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
    """List the images whose score is missing, or was made otherwise: another file, weights, depth or measure.

    Args:
        scores: that are known, by image.
        images: state of each image now (`image_state`).
        weights_sha256: of the weights that would score them.
        depth: to which they would be evaluated.
        measure: of which the score would be the mean.

    Returns:
        Images in the given order.
    """
    wanted = {image: (state, weights_sha256, depth, measure) for image, state in images.items()}
    known = {image: (s.image, s.weights_sha256, s.depth, s.measure) for image, s in scores.items()}
    return [image for image, key in wanted.items() if known.get(image) != key]


def choose(
    images: Iterable[str], infos: Mapping[str, Mapping[str, Any]], *, client: str | None, now: float
) -> str | None:
    """Take the first image that nobody got lately, else the one this client got longest ago, else another client's.

    Args:
        images: candidates, best first.
        infos: what the datastore says of each; `strategy` holds, by strategy, `ts` (seconds) and `client_id`.
        client: who asks; None: a client without a name.
        now: seconds since 1970.

    Returns:
        One of `images`; None if there are none.
    """

    def held(image: str) -> tuple[int, float]:
        given = [entry for entry in infos[image].get("strategy", {}).values() if now - entry["ts"] < HELD_SECONDS]
        if not given:
            return 0, 0.0
        last = max(given, key=lambda entry: entry["ts"])
        return (1 if last.get("client_id") == client else 2), last["ts"]

    return min(images, key=held, default=None)


def urgency(score: Score | None) -> tuple[int, float]:
    """Sort key of an image, most urgent first: nothing found, found (falling score), not scored, not segmentable."""
    if score is None:
        return 2, 0.0
    if score.error:
        return 3, 0.0
    return (0, 0.0) if score.value is None else (1, -score.value)
