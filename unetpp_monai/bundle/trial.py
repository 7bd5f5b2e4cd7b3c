"""Build the steps of a bundle and try them on a few voxels, to find faulty configs before any image is read."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import Compose
from monai.utils import ensure_tuple, fall_back_tuple

from ..errors import BundleError, InputError
from ..inference import DepthInferer, Windows
from ..inference.transforms import InvertLabelsd
from ..json_files import clipped
from ..label_rules import has_locator
from ..located import Found, Located
from ..segmentation import Prepared
from ..task_rules import MAX_VOXELS
from ..volume import Volume
from .components import CHAINS, INFERER, attempt, build

SHAPE = (7, 6, 5)  # voxels of the trial image,
OTHER = 1.2  # and its spacing relative to the network's grid, so that it is resampled


@dataclass(frozen=True)
class Steps:
    """Steps of a bundle besides the network."""

    preprocessing: Compose
    inferer: DepthInferer
    invert: InvertLabelsd  # the first step of the postprocessing
    postprocessing: Compose  # the others


class Tried(Protocol):
    """Interface that runs the steps."""

    in_channels: int
    spatial_dims: int

    def prepare(self, volume: Volume) -> Prepared:
        """Check and preprocess a volume."""

    def replay(
        self, prepared: Prepared, predictor: Callable[[torch.Tensor], Windows], located: Located | None = None
    ) -> Volume:
        """Segment with another predictor."""


def build_steps(parser: ConfigParser, name: str) -> Steps:
    """Build the steps of `inference.json`.

    Args:
        parser: of `inference.json`, without steps for files.
        name: of the file, for messages.

    Raises:
        BundleError: a step cannot be built, or is not supported.
    """
    preprocessing = build(parser, CHAINS[0], name)
    inferer = build(parser, INFERER, name)
    postprocessing = build(parser, CHAINS[1], name)
    for key, chain in zip(CHAINS, (preprocessing, postprocessing), strict=True):
        if type(chain) is not Compose:  # subclasses run only some steps, or in another order
            raise BundleError(f"{name}: {key} must be a Compose, got {clipped(type(chain).__name__, 60)}")
    first = postprocessing.transforms[0] if postprocessing.transforms else None
    if not isinstance(inferer, DepthInferer) or not isinstance(first, InvertLabelsd):
        raise BundleError(
            f"{name} must have a DepthInferer as {INFERER}, and an InvertLabelsd first in its postprocessing, got "
            f"{clipped(type(inferer).__name__, 60)} and {clipped(type(first).__name__, 60)}; pack the bundle again"
        )
    if (inferer.locator is not None) != has_locator(parser.config):
        raise BundleError(f"{name}: {INFERER} must use the locator of locator_features, got another or none")
    return Steps(preprocessing, inferer, first, Compose(postprocessing.transforms[1:]))


def try_steps(runner: Tried, steps: Steps, name: str, *, heads: range, out_channels: int) -> None:
    """Run the steps on a few voxels, with a network that predicts nothing.

    Args:
        runner: with `steps`.
        steps: to try.
        name: of the file, for messages.
        heads: depths of the network that have a head.
        out_channels: of the network.

    Raises:
        BundleError: a step fails.
    """
    dims, inferer = runner.spatial_dims, steps.inferer
    if faults := attempt(lambda: list(_faults(inferer, dims)), f"{name}: {INFERER} must be valid"):
        raise BundleError(f"{name}: {INFERER}#{clipped(faults[0], 200)}")
    try:
        inferer.depth.resolve(heads[0], heads[-1])
    except InputError as error:
        raise BundleError(f"{name}: {INFERER}#{error}") from error
    shape = (*SHAPE[:dims], *[1] * (3 - dims))
    array = np.random.default_rng(0).random((runner.in_channels, *shape), dtype=np.float32)
    lengths = [OTHER * length for length in _spacing(steps.preprocessing, dims)]
    volume = Volume(array, np.diag([*lengths, *[1.0] * (4 - dims)]) * [[-1], [-1], [1], [1]])

    def nothing(windows: torch.Tensor) -> Windows:
        return Windows(windows.new_zeros(len(windows), out_channels, *windows.shape[2:]))

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of images this small
        prepared = attempt(lambda: runner.prepare(volume), f"{name}: {CHAINS[0]} must run on an image")
        everywhere = _everywhere(inferer, prepared)
        running = f"{name}: {INFERER} and {CHAINS[1]} must run on an image"
        attempt(lambda: runner.replay(prepared, nothing, everywhere), running)


def _everywhere(inferer: DepthInferer, prepared: Prepared) -> Located | None:
    """Return the locator's result as if every structure filled the image."""
    if inferer.locator is None:
        return None
    x, y, z = prepared.data["image"].shape[1:]
    nowhere = (0.0, 0.0, 0.0)
    found = (
        Found("structure", labels, (0, 0, 0), (x, y, z), nowhere, nowhere, ml=0.0, uncertainty=0.0, cut=False)
        for labels in inferer.locator.labels
    )
    return Located(tuple(found), 0.0)


def _faults(inferer: DepthInferer, dims: int) -> Iterator[str]:
    if not all(isinstance(axis, int) and 0 <= axis < dims for axis in inferer.mirror_axes):
        yield f"mirror_axes must be 0 to {dims - 1}, got {inferer.mirror_axes}"
    if not all(isinstance(part, int | float) and 0 <= part <= 1 for part in inferer.exit_thresholds):
        yield f"exit_thresholds must be from 0 to 1, got {inferer.exit_thresholds}"
    window = inferer.inferer
    if isinstance(window, SimpleInferer):
        return
    if not isinstance(window, SlidingWindowInferer):
        yield f"inferer must be a SlidingWindowInferer or SimpleInferer, got {type(window).__name__}"
        return
    roi = fall_back_tuple(window.roi_size, (1,) * dims)
    if not all(isinstance(size, int) and size >= 1 for size in roi) or math.prod(roi) > MAX_VOXELS:
        yield f"inferer#roi_size must be sizes >= 1 with at most {MAX_VOXELS} voxels in total, got {window.roi_size}"
    if not all(isinstance(part, int | float) and 0 <= part < 1 for part in ensure_tuple(window.overlap)):
        yield f"inferer#overlap must be >= 0 and < 1, got {window.overlap}"
    if not isinstance(window.sw_batch_size, int) or window.sw_batch_size < 1:
        yield f"inferer#sw_batch_size must be >= 1, got {window.sw_batch_size}"


def _spacing(preprocessing: Compose, dims: int) -> list[float]:
    """Return the spacing of the preprocessing in mm, to keep the trial small; 1 without resampling."""
    for step in preprocessing.transforms:
        found = getattr(getattr(step, "spacing_transform", None), "pixdim", ())
        if len(found) == dims and all(0 < length < math.inf for length in found):
            return [float(length) for length in found]
    return [1.0] * dims
