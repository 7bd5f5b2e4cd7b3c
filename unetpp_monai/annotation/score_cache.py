"""Scores of images beside the bundle that made them: one JSON file, complete at any moment. Knows no server."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import complete_file

SCORES = "scores.json"


@dataclass(frozen=True)
class Score:
    """How sure a network was of an image."""

    value: float | None  # 0 (sure) ... 1; None: nothing was found, or see error
    image: str  # state of the image file that was scored (`image_state`); empty: it could not be had
    weights_sha256: str  # of the weights that scored it, hexadecimal
    depth: str  # to which the network was evaluated, such as "full"
    error: str = ""  # why the image could not be had or segmented
    measure: str = "disagreement"  # whose mean the value is, one of `MAPS`

    def as_info(self) -> dict[str, Any]:
        """What the datastore shows to clients."""
        known = {"score": self.value, "weights": self.weights_sha256[:12], "depth": self.depth, "measure": self.measure}
        return {**known, "error": self.error} if self.error else known


def read_scores(root: Path) -> dict[str, Score]:
    """Scores by image of the bundle in `root`; empty if there are none, or none that can be read."""
    try:
        return {image: Score(**values) for image, values in json.loads((root / SCORES).read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):  # a cache: what is lost is computed again
        return {}


def write_scores(root: Path, scores: Mapping[str, Score]) -> None:
    """Replace the scores of the bundle in `root`.

    Raises:
        OutputError: the file cannot be written.
    """
    with complete_file(root / SCORES) as temporary:
        temporary.write_text(json.dumps({image: asdict(score) for image, score in scores.items()}, indent=1))


def image_state(path: Path) -> str:
    """What changes when an image changes: its place, size and time; of a folder, those of the files below."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
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
