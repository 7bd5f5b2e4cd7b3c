"""Volume in, label volume out: the steps of a bundle's `inference.json` without its files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from .bundle import CONFIG, Bundle, config_sha256, load_locator, load_network, read_bundle
from .bundle.components import drop_file_steps
from .bundle.judge import Judge
from .bundle.trial import build_steps, try_steps
from .depth import Depth, DepthLike
from .errors import InputError, cause_of
from .inference import AnytimeNetwork, Clock, Predictor, Progress, Slab, TimedInference, Windows, as_tensor
from .inference.mirror import checked_axes
from .intensities import check_image
from .interactive import Prompting, Session
from .io.monai_reader import float_array, metadata
from .json_files import at
from .located import Located
from .runtimes.backend import ByWork, choose_device
from .segmentation import Prepared, Segmentation, on_grid_of, scores_of, voxel_counts
from .volume import Volume

__all__ = ["Prepared", "Progress", "Segmentation", "Segmenter"]


class Segmenter:
    """A bundle, loaded once, that segments volumes.

    Args:
        bundle: what to run.
        device: "auto" (first GPU if there is one), "cpu" or "cuda:N".
        depth: what is used where a call names none; None = what `inference.json` says. The network is built no deeper
            than a number given here.
        runtime: one of `backends.RUNTIMES`, or "auto": OpenVINO on a CPU where it is installed, else PyTorch.
        precision: of convolutions, one of `backends.PRECISIONS`.
        volumes: how many are to come, so that "auto" compiles nothing for less work than compiling takes; None = many.

    Attributes:
        bundle, device: what it runs, and where.
        default_depth: what a call without depth gives.
        depths: numbers of anti-diagonals that can be evaluated; `Depth` "auto" can be if the first is 1.
        full_depth: of the bundle's network, however deep it was built.
        spatial_dims, in_channels, prompting: of an image, 2 or 3 and 1 or more; and its prompts, if it takes any.

    Raises:
        BundleError: the bundle's parts do not fit each other.
        InputError: the device, runtime or depth does not exist.

    Example:
        >>> from unetpp_monai import read_volume
        >>> segmenter = Segmenter.from_bundle("hippocampus", depth=1, runtime="eager")
        >>> list(segmenter(read_volume("hippocampus.nii.gz")).ml)
        ['anterior hippocampus', 'posterior hippocampus']
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        depth: DepthLike = None,
        runtime: str = "auto",
        precision: str = "float32",
        volumes: int | None = None,
    ) -> None:
        built, self.bundle, self.device = Depth.parse(depth), bundle, choose_device(device)
        parser, name = bundle.parser(), at(bundle.root / CONFIG)
        self._config_sha256 = config_sha256(parser)
        parser["device"] = self.device
        drop_file_steps(parser)
        network = load_network(bundle, parser, self.device, depth=built.number)
        self.spatial_dims: int = network.spatial_dims
        self.in_channels: int = network.in_channels
        self.full_depth: int = parser.get_parsed_content("network_def").depth  # before pruning
        self.depths = range(network.first_head, network.depth + 1)
        self._runtimes = ByWork(network, runtime, device=self.device, precision=precision, volumes=volumes)
        self._network: AnytimeNetwork = self._runtimes.network
        self.prompting = Prompting.of(parser, bundle.labels, network.prompt_channels)
        steps, heads = build_steps(parser, name), range(network.first_head, self.full_depth + 1)
        self._preprocessing, self._inferer = steps.preprocessing, steps.inferer
        self._invert: Any = steps.invert
        self._postprocessing = steps.postprocessing
        self.default_depth = self._inferer.depth if depth is None else built
        if self._inferer.locator is not None:
            load_locator(bundle, self._inferer.locator, self.device)
        try_steps(self, steps, name, heads=heads, out_channels=network.out_channels)

    @classmethod
    def from_bundle(
        cls, root: str | Path | None = None, *, weights: str | Path | None = None, trust: bool = False, **options: Any
    ) -> "Segmenter":
        """Load a bundle folder, None = the included bundle.

        Args:
            root: bundle folder.
            weights: instead of the bundle's own.
            trust: the bundle's configs may run anything; see `read_bundle`.
            options: `device`, `depth`, `runtime`, `precision`, `volumes` of `Segmenter`.
        """
        return cls(read_bundle(root, weights=weights, trust=trust), **options)

    def __call__(
        self,
        volume: Volume,
        *,
        depth: DepthLike = None,
        mirror_axes: Sequence[int] | None = None,
        uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment a volume.

        Args:
            volume: `(C, X, Y, Z)`, any orientation and spacing.
            depth: how deep to evaluate the network, as `Depth.parse` takes it: 1 ... its depth, "full", "auto" (each
                window as deep as it needs), or None: `default_depth`.
            mirror_axes: spatial axes of the network's grid to average mirrored passes over; None: by `inference.json`.
            uncertainty: also give a voxel map, a score per label, and whether a person should look. There is no score
                at depth 1 and "auto", since one head agrees with itself, and the bundle's threshold is for full depth.
            progress: called after each batch of windows.

        Returns:
            Labels on the volume's grid, with volumes in mL.

        Raises:
            InputError: wrong number of channels, a constant or not finite image, a depth or axis that does not exist,
                or the bundle's locator does not find what it looks for.
        """
        chosen, axes = self.check_depth(depth), self.check_mirror_axes(mirror_axes)
        if uncertainty and self.depths[0] > 1:
            raise InputError(f"uncertainty needs a head at every depth, got a first one at {self.depths[0]}")
        clock = Clock()
        with torch.inference_mode():
            prepared = self.prepare(volume)
            clock.lap("preprocessing")
            if (located := self.locate(prepared)) is not None:
                clock.lap("locating")
            network = self._runtimes.choose(*self._inferer.windows_of(prepared.data["image"].shape[1:], located))
            predictor = self._inferer.predictor(network, chosen, mirror_axes=axes, uncertainty=uncertainty)
            inference = TimedInference(self._inferer, predictor, progress)
            data = self._invert.from_slabs(prepared.data, inference.slabs(self._batch(prepared), located))
            counted = voxel_counts(as_tensor(data["pred"]), self.bundle.labels) if uncertainty else {}
            data = self._postprocessing(data)
        clock.lap("postprocessing", network=inference.seconds)
        voxels = voxel_counts(as_tensor(data["pred"]), self.bundle.labels)
        means = data.get("pred_measures", {}) if chosen.has_score else {}
        scores = scores_of(means, counted, self.bundle.labels, measure=self.bundle.measure)
        judge = Judge(self.bundle, volume, voxels, located)
        return Segmentation(
            labels=on_grid_of(data["pred"], volume),
            voxels=voxels,
            ml={name: count * volume.voxel_ml for name, count in voxels.items() if self.spatial_dims == 3},
            depth=chosen.value,
            exit_thresholds=self._inferer.exit_thresholds if chosen.adaptive else (),
            mirror_axes=axes,
            windows=inference.stops(),
            uncertainty=on_grid_of(data["pred_uncertainty"], volume) if uncertainty else None,
            scores=scores.by_label,
            score=scores.by_measure.get(self.bundle.measure),
            measure=self.bundle.measure,
            measures=scores.by_measure,
            located=located,
            plausibility=judge.implausible,
            review=judge.review(scores, full=chosen.number == self.full_depth, asked=uncertainty),
            seconds=clock.seconds,
            **self._identity(network),
        )

    def check_depth(self, depth: DepthLike) -> Depth:
        """Depth as a number or "auto"; "full" is the deepest that was built, None the default.

        Raises:
            InputError: the network does not have it.
        """
        return Depth.parse(self.default_depth if depth is None else depth).resolve(self.depths[0], self.depths[-1])

    def check_mirror_axes(self, axes: Sequence[int] | None) -> tuple[int, ...]:
        """Axes in ascending order, each once; None: what `inference.json` says.

        Raises:
            InputError: the network's grid does not have one.
        """
        return checked_axes(self._inferer.mirror_axes if axes is None else axes, self.spatial_dims)

    def batches_of(self, windows: int) -> int:
        """Evaluate so many windows at once from now on, for the same config; return how many it was."""
        before, self._inferer.sw_batch_size = self._inferer.sw_batch_size, windows
        return int(before)

    def settings(self, *, depth: DepthLike = None, mirror_axes: Sequence[int] | None = None) -> dict[str, Any]:
        """State what would decide the voxels of a call, by the names of `Segmentation` and in JSON's types.

        Device and runtime are left out: they change logits in their last digits only.

        Raises:
            InputError: the network has no such depth or axis.
        """
        chosen, stated = self.check_depth(depth), self._identity(self._network)
        del stated["device"], stated["runtime"]
        return {
            **stated,
            "depth": chosen.value,
            "exit_thresholds": list(self._inferer.exit_thresholds) if chosen.adaptive else [],
            "mirror_axes": list(self.check_mirror_axes(mirror_axes)),
        }

    def prepare(self, volume: Volume) -> Prepared:
        """Check and preprocess a volume.

        Raises:
            InputError: wrong channels, a constant or not finite image, lost intensities, or too large for the memory.
        """
        dims = self.spatial_dims
        self.bundle.input.check_channels(volume, self.in_channels, self.bundle.name)
        check_image(volume.array, "the image")
        array = torch.from_numpy(float_array(volume, dims))
        try:
            return Prepared(self._preprocessing({"image": MetaTensor(array, meta=metadata(volume, dims))}), volume)
        except RuntimeError as error:  # MONAI's, around what a transform raised
            if isinstance(found := cause_of(error), InputError):
                raise found from None
            raise

    @torch.inference_mode()
    def locate(self, prepared: Prepared) -> Located | None:
        """Find the boxes that are segmented; None: the bundle has no locator.

        Raises:
            InputError: it does not find what it looks for.
        """
        image, locator = prepared.data["image"], self._inferer.locator
        return None if locator is None else locator(self._batch(prepared), image.affine.cpu().numpy())

    @torch.inference_mode()
    def heads(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits of every head: windows `(B, C, *spatial)` to `(L, B, out_channels, *spatial)`, depth 1 first."""
        grid = {"image": windows}
        return torch.stack([self._network.step(grid, depth).float() for depth in self.depths])

    def session(self, volume: Volume) -> Session:
        """Hold a volume that is corrected by clicks and scribbles; see `Session`.

        Raises:
            InputError: as `prepare`, or the bundle takes no prompts.
        """
        prepared = self.prepare(volume)
        return Session(self, prepared, self.prompting, self._inferer.relative_weights(prepared.data["image"]))

    def predictor(self, depth: DepthLike = None) -> Predictor:
        """What `__call__` would call with windows, at a depth; in the runtime for much work."""
        return self._inferer.predictor(self._network, self.check_depth(depth))

    @torch.inference_mode()
    def replay(
        self,
        prepared: Prepared,
        predictor: Callable[[torch.Tensor], Windows],
        located: Located | None = None,
        *,
        prompts: torch.Tensor | None = None,
        marks: Mapping[int, torch.Tensor] | None = None,
        correct: Callable[[Iterable[Slab]], Iterator[Slab]] | None = None,
    ) -> Volume:
        """Segment with another predictor, such as one that records the heads, or answers from a record.

        Args:
            prepared: by `prepare`.
            predictor: called with the windows `(B, C, *spatial)` that `__call__` would evaluate, in the same order.
            located: by `locate`; None: it is called if there is a locator.
            prompts: maps `(P, *network grid)` behind the image's channels; None: without.
            marks: positions `(N, axes)` of prompts, RAS mm, by label index; planes obey them, and components stay.
            correct: changes the logits on the network's grid; then voxels at `marks` get their labels. None: neither.

        Returns:
            Labels as `__call__` gives them.
        """
        image = torch.cat([self._batch(prepared), *([] if prompts is None else [prompts[None].to(self.device)])], 1)
        slabs = self._inferer.slabs(image, predictor, located)
        data = self._invert.from_slabs(prepared.data, correct(slabs) if correct else slabs, marks if correct else None)
        return on_grid_of(self._postprocessing({**data, "pred_marks": marks or {}})["pred"], prepared.volume)

    def _batch(self, prepared: Prepared) -> torch.Tensor:
        """The image `(1, C, *network grid)`, on the device."""
        return as_tensor(prepared.data["image"])[None].to(self.device)

    def _identity(self, network: AnytimeNetwork) -> dict[str, Any]:
        """What segments, and where, as `Segmentation` names it."""
        return {
            "device": str(self.device),
            "runtime": getattr(network, "runtime", "eager"),
            "precision": getattr(network, "precision", "float32"),
            "bundle": self.bundle.name,
            "version": self.bundle.version,
            "weights_sha256": self.bundle.weights_sha256,
            "config_sha256": self._config_sha256,
        }
