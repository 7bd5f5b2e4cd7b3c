"""The sliding window as a stream: slabs of logits along the first axis, each yielded when complete.

Windows, weights and sums equal those of MONAI's `sliding_window_inference`, bit for bit, but only rows that a window
can still reach are in memory, instead of logits for the whole volume.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce
from itertools import pairwise

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import ensure_tuple_rep, fall_back_tuple
from torch.nn.functional import pad

from .slab import Slab, Windows


def slide_windows(
    image: torch.Tensor, predictor: Callable[[torch.Tensor], Windows], sliding: SlidingWindowInferer
) -> Iterator[Slab]:
    """Apply a predictor to all windows of an image.

    Args:
        image: `(1, in_channels, *spatial)`.
        predictor: called with windows `(B, in_channels, *roi)`; returns maps always or never.
        sliding: settings (roi, overlap, mode, padding, batch size).

    Yields:
        Slabs from the first row to the last, without gap or overlap.

    Example:
        >>> sliding = SlidingWindowInferer((8, 8), overlap=0.5)
        >>> [int(slab.start) for slab in slide_windows(torch.zeros(1, 1, 16, 8), Windows, sliding)]
        [0, 4, 8]
    """
    shape = tuple(image.shape[2:])
    roi, margins, windows = _windows(shape, sliding)
    padding = [side for before, both in reversed(margins) for side in (before, both - before)]
    mode = str(getattr(sliding.padding_mode, "value", sliding.padding_mode))
    padded = pad(image, padding, mode, *([sliding.cval] if mode == "constant" else [])) if any(padding) else image
    interior = tuple(slice(before, before + length) for (before, _), length in zip(margins, shape, strict=True))
    scale = ensure_tuple_rep(sliding.sigma_scale, len(shape))
    weights = stitching_weights(roi, str(sliding.mode), scale, image.device, image.dtype)
    first, *other = interior
    for slab in _stitch(padded, windows, weights, predictor, sliding.sw_batch_size):
        inside = (slice(None), slice(max(first.start - slab.start, 0), first.stop - slab.start), *other)
        yield Slab(max(slab.start - first.start, 0), *(layer[inside] for layer in slab.layers))


def relative_weights(shape: Sequence[int], sliding: SlidingWindowInferer) -> Callable[[int], torch.Tensor]:
    """Return a function of the number of a window that gives how much it counts, relative to what counts most there.

    Args:
        shape: of the image, voxels per axis.
        sliding: settings, as for `slide_windows`, which has the order of the windows.

    Returns:
        The function; its result `(*roi)` is above 0 to 1.

    Example:
        >>> weights = relative_weights((16, 8), SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian"))
        >>> [round(float(weight), 2) for weight in weights(0)[:, 4]]
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.14, 0.0]
    """
    roi, margins, windows = _windows(shape, sliding)
    scale = ensure_tuple_rep(sliding.sigma_scale, len(shape))
    weights = stitching_weights(roi, str(sliding.mode), scale, torch.device("cpu"))
    least = float(weights.min())  # what MONAI raises lower weights to; all else is a product over the axes
    centre, lines, most = tuple(length // 2 for length in roi), [], []
    for axis, (length, (_, both)) in enumerate(zip(shape, margins, strict=True)):
        line = weights[tuple(slice(None) if other == axis else at for other, at in enumerate(centre))]
        lines.append(line / weights[centre] if axis else line)
        highest = torch.zeros(length + both)
        for start in {window[axis].start for window in windows}:
            part = highest[start : start + roi[axis]]
            torch.maximum(part, lines[axis], out=part)
        most.append(highest)
    alone = _product(lines).clamp(min=least)

    def of(number: int) -> torch.Tensor:
        parts = [highest[part] for highest, part in zip(most, windows[number], strict=True)]
        return alone / _product(parts).clamp(min=least)

    return of


def _product(axes: Sequence[torch.Tensor]) -> torch.Tensor:
    return reduce(torch.mul, torch.meshgrid(*axes, indexing="ij"))


def _windows(
    shape: Sequence[int], sliding: SlidingWindowInferer
) -> tuple[tuple[int, ...], list[tuple[int, int]], Sequence[tuple[slice, ...]]]:
    """Return the shape of a window, the padding along each axis (before, in all), and the windows."""
    roi = tuple(fall_back_tuple(sliding.roi_size, shape))
    margins = [(max(size - length, 0) // 2, max(size - length, 0)) for size, length in zip(roi, shape, strict=True)]
    padded = [length + both for length, (_, both) in zip(shape, margins, strict=True)]
    steps = _steps(padded, roi, ensure_tuple_rep(sliding.overlap, len(shape)))
    return roi, margins, dense_patch_slices(padded, roi, steps, return_slice=True)


def _stitch(
    image: torch.Tensor,
    windows: Sequence[tuple[slice, ...]],
    weights: torch.Tensor,
    predictor: Callable[[torch.Tensor], Windows],
    batch_size: int,
) -> Iterator[Slab]:
    """Sum weighted windows, sorted by first row, and yield rows that no later window reaches."""
    starts = sorted({window[0].start for window in windows})
    ends = dict(pairwise([*starts, image.shape[2]]))  # first row of a window -> first row that a later one can reach
    sums: list[torch.Tensor] = []  # one per layer: (channels, rows of a window, *other axes)
    counts = image.new_zeros(weights.shape[0], *image.shape[3:])
    current = starts[0]
    for batch, cut in _cut_ahead(image, windows, batch_size):
        layers = predictor(cut).layers
        sums = sums or [image.new_zeros(layer.shape[1], *counts.shape) for layer in layers]
        for number, window in enumerate(batch):
            if window[0].start > current:
                done = ends[current] - current
                yield Slab(current, *(total[:, :done] / counts[:done] for total in sums))
                for total in sums:
                    _shift(total, 1, done)
                _shift(counts, 0, done)
                current = window[0].start
            place = (slice(None), slice(None), *window[1:])
            for total, layer in zip(sums, layers, strict=True):
                total[place] += layer[number] * weights
            counts[place[1:]] += weights
    yield Slab(current, *(total / counts for total in sums))


def _cut_ahead(
    image: torch.Tensor, windows: Sequence[tuple[slice, ...]], batch_size: int
) -> Iterator[tuple[Sequence[tuple[slice, ...]], torch.Tensor]]:
    """Crop batches of windows, each while the previous one is computed."""

    def cut(batch: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        places = [(slice(None), slice(None), *window) for window in batch]
        return torch.cat([image[place] for place in places])

    batches = [windows[begin : begin + batch_size] for begin in range(0, len(windows), batch_size)]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(cut, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            ready = coming.result()
            if following:
                coming = pool.submit(cut, following)
            yield batch, ready


@lru_cache(maxsize=8)
def stitching_weights(
    roi_size: tuple[int, ...],
    mode: str,
    sigma_scale: tuple[float, ...],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return the weights of a window's voxels, as MONAI's `compute_importance_map`; cached."""
    with torch.inference_mode(False):  # for whoever needs them later
        weights: torch.Tensor = compute_importance_map(roi_size, mode, sigma_scale, device, dtype)
        return weights


def _shift(x: torch.Tensor, axis: int, by: int) -> None:
    """Shift `x` by some rows along an axis in place, filling with 0."""
    kept = x.size(axis) - by
    x.narrow(axis, 0, kept).copy_(x.narrow(axis, by, kept).clone())
    x.narrow(axis, kept, by).zero_()


def _steps(shape: Sequence[int], roi_size: Sequence[int], overlap: Sequence[float]) -> tuple[int, ...]:
    """Return the step between windows per axis in voxels, as in MONAI."""
    return tuple(
        roi if size == roi else max(int(roi * (1 - fraction)), 1)
        for size, roi, fraction in zip(shape, roi_size, overlap, strict=True)
    )


def window_count(shape: Sequence[int], roi_size: Sequence[int], overlap: float) -> int:
    """Count the windows of MONAI's `sliding_window_inference`.

    Args:
        shape: of the image, voxels per axis.
        roi_size: of a window, voxels per axis.
        overlap: fraction of a window shared with the next, 0 <= overlap < 1.

    Returns:
        Number of windows.

    Example:
        >>> window_count((16, 8), (8, 8), 0.5)
        3
    """
    count = 1
    for size, roi in zip(shape, roi_size, strict=True):
        step = max(int(roi * (1 - overlap)), 1)
        count *= 1 + max(math.ceil((size - roi) / step), 0)
    return count
