"""Volume in, label volume out: the steps of a bundle's `inference.json` without its files.

Preprocessing, inferer and postprocessing are built from the config; nothing of them is restated here.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose

from .bundle import Bundle, load_network, read_bundle
from .errors import BundleError, InputError
from .inference import DepthInferer, Predictor, Slab, window_count
from .inference.transforms import InvertLabelsd
from .io.monai_reader import float_array, metadata
from .networks import UNetPlusPlus
from .runtimes.backend import choose_backend, choose_device
from .volume import Volume

Progress = Callable[[int, int], None]  # windows done, windows in all


@dataclass(frozen=True)
class Segmentation:
    """A label volume and how it came about."""

    labels: Volume  # (1, X, Y, Z) uint8, label indices, on the grid of the image
    voxels: dict[str, int]  # label name -> how many
    ml: dict[str, float]  # label name -> millilitres; empty for 2-D
    depth: int | str  # anti-diagonals of the network that were evaluated, or "auto"
    windows: dict[int, int]  # depth -> windows that stopped there; 0 = constant, not computed
    uncertainty: Volume | None  # (1, X, Y, Z) float32, 0 (sure) ... 1, on the grid of the image, if asked for
    scores: dict[str, float]  # label name -> mean uncertainty of what the network gave it, 0 (sure) ... 1, if asked for
    score: float | None  # the same over all labels; None: not asked for, nothing found, or depth 1 or "auto"
    measure: str  # what the scores are means of, by the bundle: one of `MAPS`
    measures: dict[str, float]  # the score by each of `MAPS`
    review: bool | None  # whether a person should look: nothing found, or score from threshold on; None: not known
    device: str  # such as "cpu" or "cuda:0"
    runtime: str  # such as "eager" or "openvino"
    precision: str  # such as "float32"
    seconds: dict[str, float]  # step -> wall time
    bundle: str  # name of the bundle
    version: str  # of the bundle
    weights_sha256: str  # hexadecimal


class Segmenter:
    """A bundle, loaded once, that segments volumes.

    Args:
        bundle: what to run.
        device: "auto" (first GPU if there is one), "cpu" or "cuda:N".
        depth: build the network no deeper than this and use this depth; None = all of it, and as `inference.json` says.
        runtime: one of `backends.RUNTIMES`, or "auto": OpenVINO on a CPU where it is installed, else PyTorch.
        precision: of convolutions, one of `backends.PRECISIONS`.

    Raises:
        BundleError: the bundle's parts do not fit each other.
        InputError: the device, runtime or depth does not exist.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        depth: int | None = None,
        runtime: str = "auto",
        precision: str = "float32",
    ) -> None:
        self.bundle, self.device = bundle, choose_device(device)
        parser = bundle.parser()
        parser["device"] = self.device
        for chain in ("preprocessing", "postprocessing"):
            _drop_file_transforms(parser, chain)
        self.network: UNetPlusPlus = load_network(bundle, parser, self.device, depth=depth)
        self.full_depth: int = parser.get_parsed_content("network_def").depth  # before pruning
        self.backend = choose_backend(self.network, runtime, device=self.device, precision=precision)
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer: DepthInferer = parser.get_parsed_content("inferer")
        self.invert, *others = parser.get_parsed_content("postprocessing").transforms
        self.postprocessing = Compose(others)
        if not isinstance(self.inferer, DepthInferer) or not isinstance(self.invert, InvertLabelsd):
            raise BundleError(
                "inference.json must have a DepthInferer, and an InvertLabelsd first in its postprocessing, got "
                f"{type(self.inferer).__name__} and {type(self.invert).__name__}; pack the bundle again"
            )

    @classmethod
    def from_bundle(
        cls, root: str | Path | None = None, *, weights: str | Path | None = None, **options: Any
    ) -> "Segmenter":
        """Load a bundle folder, None = the bundle that came with this package.

        Args:
            root: bundle folder.
            weights: instead of the bundle's own.
            options: `device`, `depth`, `runtime`, `precision` of `Segmenter`.
        """
        return cls(read_bundle(root, weights=weights), **options)

    def __call__(
        self,
        volume: Volume,
        *,
        depth: int | str | None = None,
        uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment a volume.

        Args:
            volume: `(C, X, Y, Z)`, any orientation and spacing.
            depth: how deep to evaluate the network: 1 ... its depth, "full", "auto" (each window as deep as it
                needs), or None: what `inference.json` says.
            uncertainty: also give a voxel map, a score per label, and whether a person should look. There is no score
                at depth 1 and "auto", since one head agrees with itself, and the bundle's threshold is for full depth.
            progress: called after each batch of windows.

        Returns:
            Labels on the volume's grid, with volumes in mL.

        Raises:
            InputError: wrong number of channels, a constant or not finite image, or a depth that does not exist.
        """
        depth = self.check_depth(self.inferer.depth if depth is None else depth)
        if uncertainty and self.network.first_head > 1:
            raise InputError(f"uncertainty needs a head at every depth, got a first one at {self.network.first_head}")
        marks = [time.perf_counter()]
        with torch.inference_mode():
            data = self.prepare(volume)
            marks.append(time.perf_counter())
            predictor = self.inferer.predictor(self.backend, depth, uncertainty=uncertainty)
            sweep = _Sweep(self, data["image"], predictor, progress)
            data = self.invert.from_slabs(data, sweep, uncertainty=uncertainty)
            judged = self._voxels(data) if uncertainty else {}  # what the measures are means over
            data = self.postprocessing(data)
        labels = self._volume(data["pred"], volume)
        marks.append(time.perf_counter())
        preprocessing, rest = np.diff(marks).tolist()
        names = self._voxels(data)
        comparable = depth not in (1, "auto")  # every window passed the same heads, several
        scores, measures = self._scores(data.get("pred_measures", {}) if comparable else {}, judged)
        return Segmentation(
            labels=labels,
            voxels=names,
            ml={name: count * volume.voxel_ml for name, count in names.items() if self.network.spatial_dims == 3},
            depth=depth,
            windows=sweep.windows(depth),
            uncertainty=self._volume(data["pred_uncertainty"], volume) if uncertainty else None,
            scores=scores,
            score=measures.get(self.bundle.measure),
            measure=self.bundle.measure,
            measures=measures,
            review=self._review(measures, depth, found=any(names.values())) if uncertainty else None,
            device=str(self.device),
            runtime=getattr(self.backend, "runtime", "eager"),
            precision=getattr(self.backend, "precision", "float32"),
            seconds={"preprocessing": preprocessing, "network": sweep.seconds, "postprocessing": rest - sweep.seconds},
            bundle=self.bundle.name,
            version=self.bundle.version,
            weights_sha256=self.bundle.weights_sha256,
        )

    def _volume(self, pred: torch.Tensor, volume: Volume) -> Volume:
        """A result `(1, *spatial)` of the postprocessing as a volume on the image's grid."""
        array = pred.cpu().numpy().reshape(1, *pred.shape[1:], *[1] * (3 - self.network.spatial_dims))
        found = Volume(array, volume.affine)
        if found.shape != volume.shape:
            raise BundleError(f"postprocessing must give the grid of the image, {volume.shape}, got {found.shape}")
        return found

    def _voxels(self, data: dict[str, Any]) -> dict[str, int]:
        """Label name -> how many."""
        counts = torch.bincount(plain(data["pred"]).flatten().cpu(), minlength=256).tolist()
        return {label.name: counts[label.index] for label in self.bundle.labels}

    def _scores(
        self, measures: dict[str, dict[int, float]], voxels: dict[str, int]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The bundle's measure, mean over the voxels the network gave each label, and every measure over all."""
        found = [label for label in self.bundle.labels if voxels.get(label.name)]
        if not measures or not found:
            return {}, {}
        counts = [voxels[label.name] for label in found]
        means = {name: [by_index[label.index] for label in found] for name, by_index in measures.items()}
        labels = dict(zip((label.name for label in found), means[self.bundle.measure], strict=True))
        return labels, {name: float(np.average(values, weights=counts)) for name, values in means.items()}

    def _review(self, measures: dict[str, float], depth: int | str, *, found: bool) -> bool | None:
        """Whether a person should look; the threshold was measured with all heads."""
        score, threshold = measures.get(self.bundle.measure), self.bundle.review.threshold
        if not found:
            return True
        return None if score is None or threshold is None or depth != self.full_depth else score >= threshold

    def prepare(self, volume: Volume) -> dict[str, Any]:
        """Check and preprocess a volume: the entry "image" is `(C, *network grid)`.

        Raises:
            InputError: wrong number of channels, a constant or not finite image.
        """
        channels, dims = self.network.in_channels, self.network.spatial_dims
        if volume.array.shape[0] != channels:
            raise InputError(
                f"{self.bundle.name} takes {channels} channel(s), got {volume.array.shape[0]}; "
                + ("give one 3-D volume, not a time series" if dims == 3 else "convert the picture to grey or RGB")
            )
        low, high = volume.array.min(), volume.array.max()  # a NaN anywhere makes both NaN
        if not np.isfinite([low, high]).all():
            raise InputError("voxels must be finite, got NaN or infinite ones; replace them first")
        if low == high:
            raise InputError(f"an image must not be constant, got {low} in every voxel")
        array = torch.from_numpy(float_array(volume, dims))
        return self.preprocessing({"image": MetaTensor(array, meta=metadata(volume, dims))})  # type: ignore[no-any-return]

    def check_depth(self, depth: int | str | None) -> int | str:
        """Depth as a number or "auto"; "full" and None are the deepest.

        Raises:
            InputError: the network does not have it.
        """
        first, last = self.network.first_head, self.network.depth
        if depth in ("full", None):
            return last
        if depth == "auto" and first == 1:
            return "auto"
        if not str(depth).isdecimal() or not first <= int(depth) <= last:
            raise InputError(f"depth must be from {first} to {last}{', auto' * (first == 1)} or full, got {depth}")
        return int(depth)


class _Sweep(Iterable[Slab]):
    """Slabs of one image's logits, timed and counted."""

    def __init__(
        self, segmenter: Segmenter, image: torch.Tensor, predictor: Predictor, progress: Progress | None
    ) -> None:
        self.segmenter, self.predictor, self.progress = segmenter, predictor, progress
        self.image = plain(image)[None].to(segmenter.device)
        self.seconds, self.done = 0.0, 0

    def __iter__(self) -> Iterator[Slab]:
        yield from self.segmenter.inferer.slabs(self.image, self._timed)

    def _timed(self, windows: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        logits = self.predictor(windows)
        if windows.is_cuda:
            torch.cuda.synchronize(windows.device)
        self.seconds += time.perf_counter() - start
        self.done += len(windows)
        if self.progress is not None:
            self.progress(self.done, self._total())
        return logits

    def _total(self) -> int:
        inner = self.segmenter.inferer.inferer
        if not isinstance(inner, SlidingWindowInferer):
            return self.done
        return window_count(self.image.shape[2:], inner.roi_size, float(inner.overlap))

    def windows(self, depth: int | str) -> dict[int, int]:
        """Depth -> windows that stopped there, each mirror image counted."""
        early_exit = self.predictor.early_exit
        if early_exit is not None:
            return {stop: count for stop, count in sorted(early_exit.counts.items()) if count}
        return {int(depth): self.done * 2 ** len(self.segmenter.inferer.mirror_axes)}


def plain(image: torch.Tensor) -> torch.Tensor:
    """The tensor without MONAI's metadata, which every operation would carry along."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _drop_file_transforms(parser: ConfigParser, chain: str) -> None:
    transforms = parser[f"{chain}#transforms"]
    files = ("LoadImaged", "SaveImaged")
    parser[f"{chain}#transforms"] = [step for step in transforms if step["_target_"].split(".")[-1] not in files]
