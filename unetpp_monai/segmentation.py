"""The result of a segmentation: label volume, measurements, and all settings that determine its voxels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .errors import BundleError
from .labels import Label
from .located import Located
from .volume import Volume


@dataclass(frozen=True)
class Prepared:
    """An image prepared for the network."""

    data: dict[str, Any]  # MONAI's dictionary: "image" is (C, *network grid), float32, with its affine
    volume: Volume  # the original image


@dataclass(frozen=True)
class Segmentation:
    """Hold a label volume and the settings that determine it.

    Example:
        >>> [field for field in Segmentation.__dataclass_fields__][:3]
        ['labels', 'voxels', 'ml']
    """

    labels: Volume  # (1, X, Y, Z) uint8, label indices, on the grid of the image
    voxels: dict[str, int]  # label name -> number of voxels
    ml: dict[str, float]  # label name -> millilitres; empty for 2-D
    depth: int | str  # anti-diagonals of the network that were evaluated, or "auto"
    exit_thresholds: tuple[float, ...]  # of depth "auto", depth 1 first; empty: not used
    mirror_axes: tuple[int, ...]  # spatial axes of the network's grid over which mirrored passes were averaged
    windows: dict[int, int]  # depth -> windows that stopped there; 0 = constant, not computed
    uncertainty: Volume | None  # (1, X, Y, Z) float32, 0 (sure) ... 1, on the grid of the image, if asked for
    scores: dict[str, float]  # label name -> mean uncertainty of what the network gave it, 0 (sure) ... 1, if asked for
    score: float | None  # the same over all labels; None: not asked for, nothing found, or depth 1 or "auto"
    measure: str  # behind the scores, by the bundle: one of `UNCERTAINTIES`
    measures: dict[str, float]  # the score by each of `UNCERTAINTIES`
    located: Located | None  # what was found before, and segmented in boxes; None: the bundle has no locator
    plausibility: (
        tuple[str, ...] | None
    )  # what is outside of the bundle's ranges and gates, in words; None: it states none
    review: bool | None  # whether a person should look: implausible, nothing found, or scored so; None: not known
    device: str  # such as "cpu" or "cuda:0"
    runtime: str  # such as "eager" or "openvino"
    precision: str  # such as "float32"
    seconds: dict[str, float]  # step -> wall time
    bundle: str  # name of the bundle
    version: str  # of the bundle
    weights_sha256: str  # hexadecimal
    config_sha256: str  # of `inference.json` as resolved, hexadecimal; what a call overrides is stated above
    prompts: tuple["Prompted", ...] = ()  # by a person, in their order; empty: made by the network alone


@dataclass(frozen=True)
class Prompted:
    """Prompts of one label, hashed to compare the prompts of two results."""

    label: str  # name, or "background"
    kind: str  # "clicks" or "scribbles"
    positions: int  # number of positions
    sha256: str  # hexadecimal, of the positions (N, 3), mm, RAS, float64 little-endian


@dataclass(frozen=True)
class Scores:
    """Mean uncertainty of the structures found."""

    by_label: dict[str, float]  # label name -> mean of the bundle's measure
    by_measure: dict[str, float]  # by `UNCERTAINTIES`, mean over all labels; empty: nothing found, or not comparable


def scores_of(
    means: Mapping[str, Mapping[int, float]], voxels: Mapping[str, int], labels: Sequence[Label], *, measure: str
) -> Scores:
    """Average uncertainty over the voxels of each label, and of all labels.

    Args:
        means: map of `UNCERTAINTIES` -> label index -> mean over its voxels; empty: there is none to be compared.
        voxels: label name -> number of voxels.
        labels: structures of the bundle.
        measure: for the scores of labels.
    """
    found = [label for label in labels if voxels.get(label.name)]
    if not means or not found:
        return Scores({}, {})
    counts = [voxels[label.name] for label in found]
    values = {name: [by_index[label.index] for label in found] for name, by_index in means.items()}
    by_label = dict(zip((label.name for label in found), values[measure], strict=True))
    return Scores(by_label, {name: float(np.average(each, weights=counts)) for name, each in values.items()})


def on_grid_of(pred: torch.Tensor, volume: Volume) -> Volume:
    """Make a volume of a result `(1, *spatial)` of the postprocessing.

    Args:
        pred: the result.
        volume: the image, which has the same grid.

    Raises:
        BundleError: another shape.
    """
    array = pred.cpu().numpy().reshape(1, *pred.shape[1:], *[1] * (4 - pred.dim()))
    found = Volume(array, volume.affine)
    if found.shape != volume.shape:
        raise BundleError(f"postprocessing must give the grid of the image, {volume.shape}, got {found.shape}")
    return found


def voxel_counts(pred: torch.Tensor, labels: Sequence[Label]) -> dict[str, int]:
    """Count the voxels of each label in a label map, by name."""
    counts = torch.bincount(pred.flatten().cpu(), minlength=256).tolist()
    return {label.name: counts[label.index] for label in labels}
