"""What can happen to the image of a head before somebody segments it, each change by its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing
from scipy.ndimage import binary_dilation, gaussian_filter, zoom

from unetpp_monai.volume import Volume

SOUND, EXCHANGED, DOUBTFUL, NONE = "sound", "exchanged", "doubtful", "none"


@dataclass(frozen=True)
class Change:
    """One change of a head, and what is to be expected of it."""

    name: str
    expected: str  # SOUND: the same labels; EXCHANGED: with their sides exchanged; DOUBTFUL: right, flagged or refused;
    # NONE: there are no hippocampi to find
    make: Callable[[], Volume]


def orientations(head: Volume) -> Iterator[Change]:
    """The same head on all 48 orders and directions of the grid's axes."""
    for order in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            codes = "".join("LPSRAI"[axis + (0 if flip < 0 else 3)] for axis, flip in zip(order, flips, strict=True))
            orientation = np.array([*zip(order, flips, strict=True)])
            yield Change(f"axes {codes}", SOUND, lambda orientation=orientation: oriented(head, orientation))


def oriented(volume: Volume, orientation: np.ndarray) -> Volume:
    """The same voxels at the same places, on a grid whose axes have another order and direction."""
    image = nib.Nifti1Image(np.moveaxis(np.asarray(volume.array), 0, -1), volume.affine)
    ras = nib.as_closest_canonical(image)
    found = ras.as_reoriented(nib.orientations.ornt_transform(orientation, [[0, 1], [1, 1], [2, 1]]))
    return Volume(np.moveaxis(np.asarray(found.dataobj), -1, 0), found.affine)


def resampled(volume: Volume, mm: float) -> Volume:
    """The head at another resolution."""
    found = Spacing((mm,) * 3, mode="bilinear")(
        MetaTensor(torch.from_numpy(volume.array.astype(np.float32)), meta={"affine": volume.affine})
    )
    return Volume(found.numpy(), np.asarray(found.affine))


def sound(head: Volume, brain: np.ndarray) -> Iterator[Change]:
    """Changes that leave both hippocampi as they are.

    Args:
        head: RAS.
        brain: mask `(X, Y, Z)` of its brain.
    """
    array, affine = head.array.astype(np.float32), head.affine
    low, high = np.percentile(array, (1, 99))
    rng = np.random.default_rng(0)

    def changed(values: np.ndarray) -> Volume:
        return Volume(values.astype(np.float32), affine)

    for mm in (0.8, 1.0, 1.5):
        yield Change(f"resampled to {mm} mm", SOUND, lambda mm=mm: resampled(head, mm))
    yield Change("left and right exchanged", EXCHANGED, lambda: changed(array[:, ::-1]))
    yield Change("intensities x 1000", SOUND, lambda: changed(array * 1000))
    for share in (0.03, 0.06, 0.1):
        noise = rng.normal(0, share * (high - low), array.shape)
        yield Change(f"noise of {share:.0%}", SOUND, lambda noise=noise: changed(array + noise))
    for strength in (0.3, 0.6):
        field = _field(array.shape[1:], strength)
        yield Change(f"bias field of +-{strength:.0%}", SOUND, lambda field=field: changed(array * field))
    yield Change("blurred, sigma 1 voxel", SOUND, lambda: changed(gaussian_filter(array, (0, 1, 1, 1))))
    yield Change("defaced", SOUND, lambda: changed(np.where(_face(brain, head.spacing), 0, array)))
    near = binary_dilation(brain, iterations=2)
    yield Change("skull stripped", SOUND, lambda: changed(np.where(near, array, 0)))
    yield Change("60 mm of air around it", SOUND, lambda: _padded(head, 60))
    yield Change("cut at the eyes", SOUND, lambda: _cut_front(head, brain))
    yield Change("60 mm of neck below", SOUND, lambda: _neck(head, 60))


def doubtful(head: Volume, brain: np.ndarray) -> Iterator[Change]:
    """Changes after which a result need not be right, but must not look right without being so."""
    array, affine = head.array.astype(np.float32), head.affine
    x, y, z = (np.flatnonzero(brain.any(tuple(other for other in range(3) if other != axis))) for axis in range(3))
    middles = [int((places[0] + places[-1]) // 2) for places in (x, y, z)]

    def cut(axis: int, part: slice) -> Volume:
        index = [slice(None)] * 4
        index[axis + 1] = part
        moved = affine.copy()
        moved[:3, 3] += affine[:3, axis] * (part.start or 0)
        return Volume(array[tuple(index)], moved)

    yield Change("intensities inverted", DOUBTFUL, lambda: Volume(array.max() - array, affine))
    yield Change("noise of 30%", DOUBTFUL, lambda: Volume(_noisy(array, 0.3), affine))
    yield Change("slices of 6 mm", DOUBTFUL, lambda: _thick(head, 6))
    yield Change("left half", DOUBTFUL, lambda: cut(0, slice(0, middles[0])))
    yield Change("right half", DOUBTFUL, lambda: cut(0, slice(middles[0], None)))
    yield Change("front half", DOUBTFUL, lambda: cut(1, slice(middles[1], None)))
    yield Change("upper half", DOUBTFUL, lambda: cut(2, slice(middles[2], None)))
    yield Change("lower half", DOUBTFUL, lambda: cut(2, slice(0, middles[2])))
    turned = affine @ np.diag([1.0, 1.0, -1.0, 1.0])
    turned[:3, 3] += affine[:3, 2] * (array.shape[3] - 1)
    yield Change("header upside down", DOUBTFUL, lambda: Volume(array, turned))
    swapped = affine[:, [0, 2, 1, 3]]
    yield Change("header's axes exchanged", DOUBTFUL, lambda: Volume(array, swapped))
    yield Change("front is behind in the header", DOUBTFUL, lambda: Volume(array[:, :, ::-1], affine))


def without(head: Volume, brain: np.ndarray) -> Iterator[Change]:
    """Images without a hippocampus, on the grid of a head."""
    array, affine = head.array.astype(np.float32), head.affine
    rng = np.random.default_rng(1)
    yield Change("noise", NONE, lambda: Volume(rng.normal(100, 20, array.shape).astype(np.float32), affine))
    smooth = gaussian_filter(rng.normal(0, 1, array.shape), (0, 6, 6, 6))
    yield Change("smooth noise", NONE, lambda: Volume(smooth.astype(np.float32), affine))
    near = binary_dilation(brain, iterations=2)
    yield Change("a head without its brain", NONE, lambda: Volume(np.where(near, 0, array), affine))
    middle = array.shape[3] // 2
    yield Change("one slice", NONE, lambda: Volume(array[..., middle : middle + 1], affine))


def _noisy(array: np.ndarray, share: float) -> np.ndarray:
    low, high = np.percentile(array, (1, 99))
    return (array + np.random.default_rng(2).normal(0, share * (high - low), array.shape)).astype(np.float32)


def _field(shape: tuple[int, ...], strength: float) -> np.ndarray:
    """A factor for each voxel, smooth, between 1 - strength and 1 + strength."""
    coarse = np.random.default_rng(3).uniform(-1, 1, (4, 4, 4))
    field = zoom(coarse, [size / 4 for size in shape], order=3)[tuple(map(slice, shape))]
    return np.asarray(1 + strength * field / np.abs(field).max())


def _thick(head: Volume, mm: float) -> Volume:
    spacing = list(head.spacing)
    spacing[2] = mm
    blurred = gaussian_filter(head.array.astype(np.float32), (0, 0, 0, mm / head.spacing[2] / 2.355))
    found = Spacing(spacing, mode="bilinear")(MetaTensor(torch.from_numpy(blurred), meta={"affine": head.affine}))
    return Volume(found.numpy(), np.asarray(found.affine))


def _face(brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Everything below a plane that touches the brain's front from below and rises to the front."""
    y, z = (np.arange(size) * length for size, length in zip(brain.shape[1:], spacing[1:], strict=True))
    places = np.argwhere(brain.any(0)) * spacing[1:]
    heights = places[:, 1] - 0.8 * places[:, 0]  # of lines that rise by 0.8
    return np.broadcast_to((z[None] - 0.8 * y[:, None] < heights.min() - 2)[None], brain.shape)


def _padded(head: Volume, mm: float) -> Volume:
    widths = [round(mm / length) for length in head.spacing]
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ widths
    return Volume(np.pad(head.array, [(0, 0), *[(width, width) for width in widths]]), affine)


def _cut_front(head: Volume, brain: np.ndarray) -> Volume:
    """All in front of the brain's front end, less 10 mm of it, is missing."""
    end = np.flatnonzero(brain.any((0, 2)))[-1] - round(10 / head.spacing[1])
    return Volume(head.array[:, :, :end], head.affine)


def _neck(head: Volume, mm: float) -> Volume:
    """The lowest slice, smaller, goes on below."""
    count = round(mm / head.spacing[2])
    slab = np.repeat(gaussian_filter(head.array[..., :1].astype(np.float32), (0, 2, 2, 0)), count, axis=3)
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, 2] * count
    return Volume(np.concatenate([slab, head.array.astype(np.float32)], 3), affine)
