"""Evaluate a network at a fixed depth, or each window as deep as needed."""

from collections.abc import Callable, Iterator, Sequence

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.utils import fall_back_tuple

from ..depth import Depth, DepthLike
from ..errors import BundleError
from ..located import Located
from .anytime import AnytimeNetwork
from .boxes import Part, cut_out, pasted
from .early_exit import EarlyExit
from .locator import Locator
from .mirror import Mirrored
from .slab import Slab, Windows, pack
from .sliding_window import relative_weights, slide_windows, window_count


class DepthInferer(Inferer):
    """Evaluate the network of an inferer to a chosen depth.

    Args:
        inferer: calls the network, such as MONAI's `SlidingWindowInferer`.
        depth: as for `Depth.parse`: 1 to the depth of the network; "full" or None: all;
            "auto": each window as deep as needed (`EarlyExit`).
        exit_thresholds: of "auto", see `EarlyExit`; empty: evaluate every window fully.
        mirror_axes: spatial axes (0 = first) along which to average mirrored passes; empty: one pass.
        uncertainty: also return the maps of `EarlyExit`; `__call__` appends them to the logits.
        locator: finds boxes, which are normalised and segmented separately; None: segment the whole image.

    Example:
        >>> from unetpp_monai.networks import UNetPlusPlus
        >>> network = UNetPlusPlus(2, 1, 3, [4, 8, 16]).eval()
        >>> DepthInferer(SimpleInferer(), depth=1)(torch.zeros(1, 1, 8, 8), network).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self,
        inferer: Inferer,
        *,
        depth: DepthLike = None,
        exit_thresholds: Sequence[float] = (),
        mirror_axes: Sequence[int] = (),
        uncertainty: bool = False,
        locator: Locator | None = None,
    ) -> None:
        super().__init__()
        self.inferer, self.depth, self.locator = inferer, Depth.parse(depth), locator
        self.exit_thresholds, self.mirror_axes = tuple(exit_thresholds), tuple(mirror_axes)
        self.uncertainty = uncertainty

    def __call__(
        self, inputs: torch.Tensor, network: AnytimeNetwork, *args: object, depth: DepthLike = None
    ) -> torch.Tensor:
        """Map images to logits in one tensor, for MONAI; see `pack`.

        Args:
            inputs: `(B, C, *spatial)`.
            network: to call; at full depth without uncertainty, any network.
            args: for the wrapped inferer; without a locator only.
            depth: overrides the inferer's; None: the inferer's.

        Returns:
            `(B, out_channels, *spatial)`, with uncertainty followed by the channels of `UNCERTAINTIES`.
        """
        predictor = self.predictor(network, depth)
        if self.locator is not None:
            return torch.cat([self._whole(image[None], predictor) for image in inputs])
        logits: torch.Tensor = self.inferer(inputs, lambda windows: pack(predictor(windows)), *args)
        return logits

    def _whole(self, image: torch.Tensor, predictor: Callable[[torch.Tensor], Windows]) -> torch.Tensor:
        """Join all slabs of one image `(1, C, *spatial)`."""
        slabs = (slab.layers for slab in self.slabs(image, predictor))
        return pack(Windows(*(torch.cat(rows, 1)[None] for rows in zip(*slabs, strict=True))))

    def windows_of(self, shape: Sequence[int], located: Located | None = None) -> tuple[int, tuple[int, ...]]:
        """Count the windows of an image shape, or of the boxes in it, and return their shape in voxels."""
        if located is not None:
            counts, shapes = zip(*(self.windows_of(found.shape) for found in located.found), strict=True)
            return sum(counts), shapes[0]
        if not isinstance(self.inferer, SlidingWindowInferer):
            return 1, tuple(shape)
        roi = fall_back_tuple(self.inferer.roi_size, shape)
        return window_count(shape, roi, float(self.inferer.overlap)), tuple(roi)

    def relative_weights(self, image: torch.Tensor) -> Callable[[int], torch.Tensor]:
        """Return a function of the number of a window that gives how much it counts, as `relative_weights` does.

        Args:
            image: `(C, *spatial)`.
        """
        shape = image.shape[1:]
        if not isinstance(self.inferer, SlidingWindowInferer):
            return lambda number: torch.ones(*shape)
        return relative_weights(shape, self.inferer)

    def slabs(
        self, image: torch.Tensor, predictor: Callable[[torch.Tensor], Windows], located: Located | None = None
    ) -> Iterator[Slab]:
        """Apply a predictor to one image `(1, C, *spatial)`; yield slabs along the first axis.

        Args:
            image: to segment.
            predictor: called with windows.
            located: earlier result of the locator; None: run it now, if there is one.

        Raises:
            BundleError: the wrapped inferer is of another class.
            InputError: the locator does not find all structures.
        """
        if located is None and self.locator is not None:
            located = self.locator(image)
        if located is None:
            yield from self._swept(image, predictor)
        else:
            parts = [Part.of(found, self._swept(cut_out(image, found), predictor)) for found in located.found]
            yield from pasted(image.shape[2:], parts)

    def _swept(self, image: torch.Tensor, predictor: Callable[[torch.Tensor], Windows]) -> Iterator[Slab]:
        if isinstance(self.inferer, SlidingWindowInferer):
            yield from slide_windows(image, predictor, self.inferer)
        elif isinstance(self.inferer, SimpleInferer):
            yield Slab(0, *(layer[0] for layer in predictor(image).layers))
        else:
            kind = type(self.inferer).__name__
            raise BundleError(
                f"inferer must be a SlidingWindowInferer or SimpleInferer, got {kind}; edit inference.json"
            )

    def predictor(
        self,
        network: AnytimeNetwork,
        depth: DepthLike = None,
        *,
        mirror_axes: Sequence[int] | None = None,
        uncertainty: bool | None = None,
    ) -> "Predictor":
        """Return the function that predicts batches of windows; arguments override the inferer's settings."""
        depth = self.depth if depth is None else Depth.parse(depth)
        axes = self.mirror_axes if mirror_axes is None else mirror_axes
        uncertainty = self.uncertainty if uncertainty is None else uncertainty
        early_exit = None
        if depth.adaptive or uncertainty:
            thresholds = self.exit_thresholds if depth.adaptive else ()
            early_exit = EarlyExit(network, thresholds, depth=depth.number, air=depth.adaptive, uncertainty=uncertainty)
        return Predictor(network, depth, axes, early_exit)


class Predictor:
    """Predict windows at a depth, mirrored or not.

    Args:
        network: called with windows, and with `depth` if that is a number.
        depth: of every window.
        mirror_axes: see `DepthInferer`.
        early_exit: to be called instead of the network.

    Example:
        >>> from unetpp_monai.networks import UNetPlusPlus
        >>> network = UNetPlusPlus(2, 1, 2, [4, 8]).eval()
        >>> Predictor(network, Depth(), [0], None)(torch.zeros(1, 1, 8, 8)).logits.shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(
        self, network: AnytimeNetwork, depth: Depth, mirror_axes: Sequence[int], early_exit: EarlyExit | None
    ) -> None:
        self.network, self.depth, self.early_exit = network, depth, early_exit
        self.mirror_axes = tuple(mirror_axes)
        self._options = {} if depth.number is None else {"depth": depth.number}
        self._call = Mirrored(self._once, mirror_axes) if mirror_axes else self._once

    def __call__(self, windows: torch.Tensor) -> Windows:
        """Map windows `(B, C, *spatial)` to logits, and maps if requested."""
        return self._call(windows)

    def _once(self, windows: torch.Tensor) -> Windows:
        if self.early_exit is not None:
            return self.early_exit(windows)
        return Windows(self.network(windows, **self._options))
