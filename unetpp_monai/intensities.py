"""Check that a network can process an image's intensities in float32, normalised to mean 0 and deviation 1.

The normalisation does not depend on scale and offset, but float32 silently loses digits if they are extreme.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

LARGEST, SMALLEST = 1e12, 1e-12  # of voxels and their range, so that sums of squares fit float32
LEVELS = 4096  # float32 must resolve this many levels between lowest and highest voxel (12 bits)
FAR = 100  # spreads from the middle, from where on a voxel is absurd if such ones rule the image
RULING = 0.5  # share of the squared distances from the middle by which a few voxels rule an image
SAMPLE = 1 << 16  # voxels that show how an image's intensities are spread


def check_image(array: NDArray[Any], name: object) -> None:
    """Refuse what a network cannot take as an image.

    Args:
        array: `(C, X, Y, Z)`.
        name: for messages, such as its path.

    Raises:
        InputError: not finite, constant, or as `check_intensities`.
    """
    low, high = array.min(), array.max()  # a NaN anywhere makes both NaN
    if not np.isfinite([low, high]).all():
        raise InputError(f"voxels must be finite, got NaN or infinite ones in {name}; replace them first")
    if low == high:
        raise InputError(f"an image must not be constant, got {low} in every voxel of {name}")
    check_intensities(array, name)


def check_intensities(array: NDArray[Any], name: object) -> None:
    """Check that intensities survive float32 and normalisation.

    Args:
        array: `(C, X, Y, Z)`, finite.
        name: for messages, such as its path.

    Raises:
        InputError: float32 overflows or loses differences; or a few extreme voxels, such as a fill value, would make
            all others nearly equal.
    """
    for channel in array:
        low, high = channel.min(), channel.max()
        if low == high:
            continue
        _check_range(channel, low, high, name)
        _check_few(channel, float(low), float(high), name)


def _check_range(channel: NDArray[Any], low: Any, high: Any, name: object) -> None:
    largest, extent = max(abs(float(low)), abs(float(high))), float(high) - float(low)
    way_out = "shift or scale the image, or replace its fill value"
    if largest > LARGEST or extent < SMALLEST:
        raise InputError(
            f"voxels must be within -{LARGEST:g} ... {LARGEST:g} and differ by {SMALLEST:g} or more, got {low:g} ... "
            f"{high:g} in {name}; {way_out}"
        )
    exact = np.can_cast(channel.dtype, np.float32) or (channel.dtype.kind in "iu" and largest <= 1 << 24)
    if not exact and largest * float(np.finfo(np.float32).eps) * LEVELS > extent:
        raise InputError(
            f"voxels must be close enough to 0 for float32 to tell {LEVELS} levels apart, got {low:.9g} ... {high:.9g} "
            f"in {name}; {way_out}"
        )


def _check_few(channel: NDArray[Any], low: float, high: float, name: object) -> None:
    """Compare extremes with middle and spread (5th to 95th percentile) of the distinct values in a sample.

    Distinct values, so that background and filled regions count once.
    """
    sample = channel.flat[:: max(1, channel.size // SAMPLE)]  # no copy, however the axes lie in memory
    values = np.unique(sample.astype(np.float64))
    first, middle, last = np.percentile(values, (5, 50, 95))
    reach = FAR * (last - first)
    if max(high - middle, middle - low) <= reach or reach == 0:
        return
    squares = (channel.astype(np.float64) - middle) ** 2
    far = (channel < middle - reach) | (channel > middle + reach)
    if squares[far].sum() > RULING * squares.sum():
        count = f"{int(far.sum())} of {channel.size}"
        raise InputError(
            f"a few voxels must not rule an image, got {count} beyond {middle - reach:.4g} ... "
            f"{middle + reach:.4g} ({low:.4g} ... {high:.4g}) in {name}, where most lie in {first:.4g} ... {last:.4g}; "
            "replace them, such as by the image's lowest proper intensity"
        )
