"""Volume in, label volume out: the steps of a bundle's `inference.json` without its files.

Preprocessing, inferer and postprocessing are built from the config; nothing of them is restated here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from .bundle import Bundle, load_network, read_bundle
from .errors import BundleError, InputError
from .inferers import window_count
from .io.monai_reader import metadata, spatial_array
from .networks import UNetPlusPlus
from .volume import Volume

Progress = Callable[[int, int], None]  # windows done, windows in all


@dataclass(frozen=True)
class Segmentation:
    """A label volume and how it came about."""

    labels: Volume  # (1, X, Y, Z) uint8, label indices, on the grid of the image
    voxels: dict[str, int]  # label name -> how many
    ml: dict[str, float]  # label name -> millilitres; empty for 2-D
    depth: int  # anti-diagonals of the network that were evaluated
    device: str  # such as "cpu" or "cuda:0"
    seconds: dict[str, float]  # step -> wall time
    bundle: str  # name of the bundle
    version: str  # of the bundle
    weights_sha256: str  # hexadecimal


class Segmenter:
    """A bundle, loaded once, that segments volumes.

    Args:
        bundle: what to run.
        device: "auto" (first GPU if there is one), "cpu" or "cuda:N".

    Raises:
        BundleError: the bundle's parts do not fit each other.
        InputError: the device does not exist.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        self.bundle, self.device = bundle, choose_device(device)
        parser = bundle.parser()
        parser["device"] = self.device
        for chain in ("preprocessing", "postprocessing"):
            _drop_file_transforms(parser, chain)
        self.network: UNetPlusPlus = load_network(bundle, parser, self.device)
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer = parser.get_parsed_content("inferer")
        self.postprocessing = parser.get_parsed_content("postprocessing")

    @classmethod
    def from_bundle(
        cls, root: str | Path | None = None, *, device: str = "auto", weights: str | Path | None = None
    ) -> "Segmenter":
        """Load a bundle folder, None = the bundle that came with this package; `weights` replace its own."""
        return cls(read_bundle(root, weights=weights), device=device)

    def __call__(self, volume: Volume, *, depth: int | None = None, progress: Progress | None = None) -> Segmentation:
        """Segment a volume.

        Args:
            volume: `(C, X, Y, Z)`, any orientation and spacing.
            depth: how deep to evaluate the network, 1 ... its depth; None = all of it.
            progress: called after each batch of windows.

        Returns:
            Labels on the volume's grid, with volumes in mL.

        Raises:
            InputError: wrong number of channels, a constant or not finite image, or a depth that does not exist.
        """
        depth = self._check(volume, depth)
        dims = self.network.spatial_dims
        marks = [time.perf_counter()]
        with torch.inference_mode():
            # a copy: MONAI normalises in place
            array = spatial_array(volume, dims).astype(np.float32)
            image = MetaTensor(torch.from_numpy(array), meta=metadata(volume, dims))
            data = self.preprocessing({"image": image})
            marks.append(time.perf_counter())
            batch = data["image"][None].to(self.device)
            data["pred"] = self.inferer(batch, self._counted(batch, progress), depth=depth)[0]
            marks.append(time.perf_counter())
            pred = self.postprocessing(data)["pred"]
        labels = Volume(
            np.asarray(pred.cpu()).astype(np.uint8).reshape(1, *pred.shape[1:], *[1] * (3 - dims)), volume.affine
        )
        if labels.shape != volume.shape:
            raise BundleError(f"postprocessing must give the grid of the image, {volume.shape}, got {labels.shape}")
        marks.append(time.perf_counter())
        steps = np.diff(marks)
        counts = np.bincount(labels.array.ravel(), minlength=256).tolist()
        return Segmentation(
            labels=labels,
            voxels={label.name: counts[label.index] for label in self.bundle.labels},
            ml={label.name: counts[label.index] * volume.voxel_ml for label in self.bundle.labels} if dims == 3 else {},
            depth=depth,
            device=str(self.device),
            seconds=dict(zip(("preprocessing", "network", "postprocessing"), steps.tolist(), strict=True)),
            bundle=self.bundle.name,
            version=self.bundle.version,
            weights_sha256=self.bundle.weights_sha256,
        )

    def _check(self, volume: Volume, depth: int | None) -> int:
        channels = self.network.in_channels
        if volume.array.shape[0] != channels:
            raise InputError(
                f"{self.bundle.name} takes {channels} channel(s), got {volume.array.shape[0]} (a 4-D image or time "
                "series?); give one 3-D volume"
            )
        low, high = volume.array.min(), volume.array.max()  # a NaN anywhere makes both NaN
        if not np.isfinite([low, high]).all():
            raise InputError("voxels must be finite, got NaN or infinite ones; replace them first")
        if low == high:
            raise InputError(f"an image must not be constant, got {low} in every voxel")
        depth = self.network.depth if depth is None else depth
        if not self.network.first_head <= depth <= self.network.depth:
            raise InputError(f"depth must be from {self.network.first_head} to {self.network.depth}, got {depth}")
        return depth

    def _counted(self, batch: torch.Tensor, progress: Progress | None) -> Callable[..., torch.Tensor]:
        """The network, reporting the windows it has seen."""
        inner = getattr(self.inferer, "inferer", self.inferer)
        if progress is None or not isinstance(inner, SlidingWindowInferer):
            return self.network
        total = window_count(batch.shape[2:], inner.roi_size, float(inner.overlap))
        done = 0

        def network(windows: torch.Tensor, depth: int | None = None) -> torch.Tensor:
            nonlocal done
            logits = self.network(windows, depth=depth)
            done += len(windows)
            progress(done, total)
            return logits  # type: ignore[no-any-return]

        return network


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda:N" into a device that exists.

    Raises:
        InputError: unknown name, or no such GPU.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu or cuda:N, got {name!r}") from error
    gpus = torch.cuda.device_count()
    if device.type != "cpu" and (device.type != "cuda" or (device.index or 0) >= gpus):
        raise InputError(f"device must exist, got {name!r} on a machine with {gpus} GPU(s); use auto or cpu")
    return device


def _drop_file_transforms(parser: ConfigParser, chain: str) -> None:
    transforms = parser[f"{chain}#transforms"]
    files = ("LoadImaged", "SaveImaged")
    parser[f"{chain}#transforms"] = [step for step in transforms if step["_target_"].split(".")[-1] not in files]
