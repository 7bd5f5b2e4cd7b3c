"""Scoring task: uncertainty of a bundle for every unlabelled image, once per image and weights."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from ..bundle import read_bundle
from ..depth import Depth
from ..errors import InputError
from ..io import read_case
from ..runtimes.backend import choose_device
from ..segmenter import Segmenter
from .datastores import image_path
from .model_registry import option_value
from .scores import Score, image_state, outdated, read_scores, write_scores

DEFAULT_DEPTH = Depth()

logger = logging.getLogger(__name__)


def scoring_methods(bundles: Mapping[str, Path], device: str, *, trust: bool = False) -> dict[str, ScoringMethod]:
    """Return scoring methods by name: one per model, with its name.

    Args:
        bundles: folder of each served bundle by model name.
        device: as `Segmenter` takes it, where a request names none.
        trust: their configs may run anything, see `read_bundle`.
    """
    return {model: UncertaintyScoring(root, device=device, trust=trust) for model, root in bundles.items()}


class UncertaintyScoring(ScoringMethod):
    """Scores each unlabelled image by the bundle's uncertainty measure, in one pass.

    Scores are saved beside the bundle (`scores.json`) after every image, so a cancelled task can resume. The server's
    strategies read them there and copy them to the datastore (see `strategies.note_scores`).

    Args:
        root: folder of the bundle.
        device: as `Segmenter` takes it, where a request names none.
        trust: its configs may run anything, see `read_bundle`.
    """

    def __init__(self, root: Path, *, device: str = "auto", trust: bool = False) -> None:
        super().__init__("Uncertainty of every unlabelled image, from all heads of the network in one pass")
        self.root, self.device, self.trust = root, device, trust

    def pending(self, datastore: Datastore, *, depth: Depth = DEFAULT_DEPTH) -> list[str]:
        """List unlabelled images without a score of the current weights.

        Args:
            datastore: of the studies; images of a DICOMweb server are downloaded.
            depth: of the scores.
        """
        bundle = read_bundle(self.root)
        images = {image: _state(datastore, image, bundle.channel_suffixes) for image in _unlabelled(datastore)}
        return outdated(
            read_scores(self.root),
            images,
            weights_sha256=bundle.weights_sha256,
            depth=str(depth),
            measure=bundle.measure,
        )

    def is_due(self, datastore: Datastore) -> bool:
        """Tell whether an unlabelled image lacks a score of the current weights, without reading images.

        Args:
            datastore: of the studies.
        """
        bundle, scores = read_bundle(self.root), read_scores(self.root)
        present = (bundle.weights_sha256, bundle.measure)
        known = {image for image, score in scores.items() if (score.weights_sha256, score.measure) == present}
        return bool(set(_unlabelled(datastore)) - known)

    def checked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a request; others are dropped.

        Raises:
            InputError: an invalid one, or no such device.
        """
        _options(request)
        choose_device(option_value(request.get("device")) or self.device)
        return {key: request[key] for key in ("depth", "device", "max_samples") if key in request}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score new and changed images; clients see the last lines of the log.

        Args:
            request: may have `depth` (default "full"), `device` and `max_samples` (most images to score).
            datastore: of the studies; only read.

        Returns:
            Numbers of images: `total`, `executed`, `skipped` (already scored), `failed`.

        Raises:
            InputError: a depth with only one head.
            UnetppError: the bundle cannot be loaded, no such device, the archive cannot be reached, or scores cannot
                be written.
        """
        depth, most = _options(request)
        total = len(_unlabelled(datastore))
        pending = self.pending(datastore, depth=depth)
        skipped = total - len(pending)
        pending = pending[: most or None]
        logger.info("scoring %d of %d unlabelled images, %d are known", len(pending), total, skipped)
        scores = read_scores(self.root)
        if pending:
            device = option_value(request.get("device")) or self.device
            segmenter = Segmenter.from_bundle(self.root, device=device, trust=self.trust)
            for done, image in enumerate(pending, start=1):
                scores[image] = _score(segmenter, datastore, image, depth)
                write_scores(self.root, scores)
                logger.info("scored %d of %d: %s", done, len(pending), scores[image].value)
        failed = sum(bool(scores[image].error) for image in pending)
        return {"total": total, "executed": len(pending), "skipped": skipped, "failed": failed}


def _options(request: Mapping[str, Any]) -> tuple[Depth, int]:
    """Return the depth and the most images to score; 0: all."""
    depth, most = Depth.parse(option_value(request.get("depth")) or DEFAULT_DEPTH), request.get("max_samples") or 0
    if not depth.has_score:
        raise InputError(f"scoring needs several heads for every window, got depth {depth}; use full")
    if not isinstance(most, int) or most < 0:
        raise InputError(f"max_samples must be a whole number >= 0, got {most!r}")
    return depth, most


def _unlabelled(datastore: Datastore) -> list[str]:
    return sorted(datastore.get_unlabeled_images())


def _state(datastore: Datastore, image: str, channels: Sequence[str]) -> str:
    """Return the state of an image; empty if not available."""
    try:
        return image_state(image_path(datastore, image), channels)
    except InputError:
        return ""


def _score(segmenter: Segmenter, datastore: Datastore, image: str, depth: Depth) -> Score:
    """Score one image; failures are stored as the reason."""
    state, value, reason, channels = "", None, "", segmenter.bundle.channel_suffixes
    try:
        path = image_path(datastore, image)
        state = image_state(path, channels)
        found = read_case(path, channels=channels, in_channels=segmenter.in_channels)
        value = segmenter(found.volume, depth=depth, uncertainty=True).score
    except InputError as error:
        logger.warning("an image cannot be segmented: %s", type(error).__name__)
        reason = str(error)
    return Score(value, state, segmenter.bundle.weights_sha256, str(depth), reason, segmenter.bundle.measure)
