"""Read one case once: its faults, and the measurements for the plan."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..errors import UnetppError
from ..faults import STOP
from ..files import facts_of
from ..intensities import check_intensities
from ..io import files_of_image, is_picture, read_image
from ..io.picture import palette_of
from ..plausibility import Measures, measure_both
from ..volume import Volume, label_array
from .dataset import WARNING, Case, Fault, unreadable
from .label_maps import LARGEST, MOST, LabelShape, label_shapes, thinness, value_counts

GRID_TOLERANCE = 0.1  # most distance in voxels between corners of image and label
SAMPLE = 1 << 16  # voxels to estimate the fraction of zeros, and whether numbers are whole
FOREGROUND = 10_000  # foreground voxels kept per case and channel
ROUNDED = 1e-3  # largest distance to a whole number that may be a rounding error
SHOWN = 5  # most values in a row


@dataclass(frozen=True)
class Channel:
    """Intensities of one channel of a case."""

    lowest: float
    highest: float
    whole: bool  # numbers without a fraction
    zeros: float  # fraction of voxels that are exactly 0
    foreground: NDArray[np.float32]  # a sample of the labelled voxels


@dataclass(frozen=True)
class Facts:
    """Fingerprint of a case; axes are right, anterior, superior, whatever the file order."""

    picture: bool
    shape: tuple[int, ...]
    spacing: tuple[float, ...]  # mm
    channels: tuple[Channel, ...]
    labels: Mapping[int, LabelShape]  # by value, without the background
    extent: tuple[float, ...]  # mm of the box around all labels
    inner: tuple[int, ...]  # voxels of the box around nonzero voxels
    cuts_labels: bool  # a label is outside that box
    voxels: str  # hash of the voxels
    sha256: Mapping[str, str]  # "image", or "image_0" ..., and "label" -> hash of the file, or of all its files
    measures: Mapping[bool, Measures]  # by whether intensities are absolute; without labels
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)  # of a palette picture, by value
    thin: float = 0.0  # of the label map, see `thinness`


@dataclass(frozen=True)
class Examined:
    """The result of reading a case."""

    case: Case
    faults: tuple[Fault, ...]
    facts: Facts | None  # None: it cannot be used, or is left out
    values: tuple[int, ...] = field(default=())  # in its label map


def examine(case: Case, labels: Sequence[int] = ()) -> Examined:
    """Read and check a case; faults are returned, not raised.

    Args:
        case: what to read.
        labels: allowed values of its label map besides 0; empty: any.
    """
    faults: list[Fault] = []
    try:
        files = [path.resolve() for path in (*case.images, case.label)]
        if twice := [path.name for path in files if files.count(path) > 1]:
            faults.append(Fault(case.name, f"channels and label map must be different files, got {twice[0]} twice"))
        image = _read_image(case, faults)
        label = _read_label(case, faults)
        counts = {} if label is None else _check_values(case, label, labels, faults)
        if image is not None and label is not None:
            faults += [Fault(case.name, what) for what in _grid_faults(image, label, "label map", case.label)]
            if (
                not twice
                and any(np.array_equal(channel, label.array[0]) for channel in image.array)
                and label.array.any()
            ):
                what = f"a label map must differ from its image, got the same numbers in {case.label.name}"
                faults.append(Fault(case.name, f"{what}; replace it"))
        if image is None or label is None or any(fault.kind != WARNING for fault in faults):
            return Examined(case, tuple(faults), None, tuple(counts))
        if image.array.min() == image.array.max():
            what = f"an image should not be constant, got {image.array.flat[0]} in every voxel; the case is left out"
            return Examined(case, (*faults, Fault(case.name, what, WARNING)), None)
        faults += _warnings(case, image, counts)
        return Examined(case, tuple(faults), _facts(case, image, label, counts), tuple(counts))
    except STOP:
        raise
    except OSError as error:
        return Examined(case, (*faults, Fault(case.name, unreadable(error))), None)
    except BaseException as error:  # noqa: BLE001 - one case, its row; decoders written in Rust raise BaseException
        return Examined(case, (*faults, Fault(case.name, f"{type(error).__name__}: {error}")), None)


def _read_image(case: Case, faults: list[Fault]) -> Volume | None:
    """Read all channels on one grid; None if unreadable."""
    volumes: list[Volume] = []
    for path in case.images:
        try:
            found = read_image(path)
            check_intensities(found.volume.array, path)
            volumes.append(found.volume)
            faults += [Fault(case.name, f"{remark} ({path.name})", WARNING) for remark in found.remarks]
        except UnetppError as error:
            faults.append(Fault(case.name, str(error)))
    if len(volumes) < len(case.images):
        return None
    first = volumes[0]
    faults += [
        Fault(case.name, what)
        for volume, path in zip(volumes[1:], case.images[1:], strict=True)
        for what in _grid_faults(first, volume, "channel", path)
    ]
    faults += [
        Fault(case.name, f"each file must have 1 channel, got {len(volume.array)} in {path.name}")
        for volume, path in zip(volumes, case.images, strict=True)
        if len(volumes) > 1 and len(volume.array) > 1
    ]
    if any(volume.shape != first.shape for volume in volumes):
        return None
    if not is_picture(case.images[0]) and min(first.shape) == 1:
        what = "a volume must have 2 voxels or more along every axis, got {} in {}; save single slices as PNG or TIFF"
        faults.append(Fault(case.name, what.format(_times(first.shape), case.images[0].name)))
    if len(volumes) == 1:
        return first
    return Volume(np.concatenate([volume.array for volume in volumes]), first.affine)


def _read_label(case: Case, faults: list[Fault]) -> Volume | None:
    try:
        if not case.label.exists():
            link = f", a link to {case.label.readlink()}" if case.label.is_symlink() else ""
            what = f"every image must have a label map, found no {case.label}{link}; add it, or remove the image"
            faults.append(Fault(case.name, what))
            return None
        found = read_image(case.label, labels=True)
        label_array(found.volume, name=case.label)
    except UnetppError as error:
        faults.append(Fault(case.name, str(error)))
        return None
    faults += [Fault(case.name, f"{remark} ({case.label.name})", WARNING) for remark in found.remarks]
    return found.volume


def _check_values(case: Case, label: Volume, known: Sequence[int], faults: list[Fault]) -> dict[int, int]:
    """Count voxels per value; add faults for invalid values."""
    found, whole = value_counts(label.array[0])
    name = case.label.name
    if not whole:
        shown, off = _values(sorted(found), digits=9), max(abs(value - round(value)) for value in found)
        way_out = "round them" if off < ROUNDED else "is it an image, or was it interpolated?"
        faults.append(Fault(case.name, f"a label map must have whole numbers, got {shown} in {name}; {way_out}"))
        return {}
    counts = {int(value): count for value, count in found.items()}
    if outside := [value for value in counts if not 0 <= value <= LARGEST]:
        what = f"labels must be 0 to {LARGEST}, got {_values(outside)} in {name}; renumber them"
    elif known and (unknown := [value for value in counts if value not in {0, *known}]):
        way_out = "correct the label map, or name the value as a label"
        if len(counts) == 2 and len(known) == 1:
            way_out = f"if {unknown[0]} is the label, state it as its value (then label_values is {sorted(counts)})"
        what = f"labels must be among {_values([0, *known])}, got also {_values(unknown)} in {name}; {way_out}"
    elif len(counts) > MOST + 1:
        what = f"a label map must have at most {MOST} labels, got more in {name}; is it an image, or instances?"
    else:
        return counts
    faults.append(Fault(case.name, what))
    return counts


def _grid_faults(image: Volume, other: Volume, what: str, path: Path) -> Iterator[str]:
    if image.shape != other.shape:
        yield (
            f"a {what} must have the shape of its image, {_times(image.shape)}, got {_times(other.shape)} in "
            f"{path.name}; resample it"
        )
    elif (distance := image.grid_distance(other)) > GRID_TOLERANCE:
        mirrored = f", mirrored ({''.join(other.axcodes)})" if image.axcodes != other.axcodes else ""
        yield (
            f"a {what} must be on the grid of its image within {GRID_TOLERANCE} voxels, got {distance:.3g}{mirrored} "
            f"in {path.name}; correct its affine, or resample it"
        )


def _warnings(case: Case, image: Volume, counts: Mapping[int, int]) -> Iterator[Fault]:
    if not any(counts[value] for value in counts if value):
        yield Fault(case.name, f"a label map should have a label, got only 0 in {case.label.name}", WARNING)
    for number, channel in enumerate(image.array):
        if channel.min() == channel.max():
            what = f"a channel should not be constant, got {channel.min()} in every voxel of channel {number}"
            yield Fault(case.name, what, WARNING)


def _facts(case: Case, image: Volume, label: Volume, counts: Mapping[int, int]) -> Facts:
    picture = is_picture(case.images[0])
    order = np.arange(3) if picture else np.argsort(nib.orientations.io_orientation(image.affine)[:, 0])
    values = label.array[0]
    shapes, box = label_shapes(values, counts, image.spacing)
    inner = _not_zero(image.array)
    names = ["image"] if len(case.images) == 1 else [f"image_{index}" for index in range(len(case.images))]
    files = dict(zip([*names, "label"], [*case.images, case.label], strict=True))
    extent = [(part.stop - part.start) * mm for part, mm in zip(box, image.spacing, strict=True)]
    dims = order[:2] if picture else order
    palette = dict(enumerate(palette_of(case.label) if is_picture(case.label) else ()))
    return Facts(
        picture=picture,
        shape=_pick(image.shape, dims),
        spacing=_pick(image.spacing, dims),
        channels=tuple(_channel(channel, values, box) for channel in image.array),
        labels={
            value: LabelShape(shape.voxels, _pick(shape.extent, dims), shape.components)
            for value, shape in shapes.items()
        },
        extent=_pick(extent, dims),
        inner=_pick([part.stop - part.start for part in inner], dims),
        cuts_labels=any(part.start < cut.start or part.stop > cut.stop for part, cut in zip(box, inner, strict=True))
        if shapes
        else False,
        voxels=_hash(image.array),
        sha256={name: facts_of(files_of_image(path))[1] for name, path in files.items()},
        thin=thinness(values[box], counts) if len(shapes) > 1 else 0.0,
        colours={value: palette[value] for value in shapes if value in palette},
        measures=measure_both(image, {}),
    )


def _channel(channel: NDArray[np.generic], labels: NDArray[np.generic], box: tuple[slice, ...]) -> Channel:
    flat = channel.T.reshape(-1)
    sample = flat[:: flat.size // SAMPLE | 1].astype(np.float64)  # odd, so as not to sample the same column repeatedly
    inside = channel[box].T[labels[box].T > 0]  # type: ignore[operator]
    return Channel(
        float(channel.min()),
        float(channel.max()),
        channel.dtype.kind in "iu" or bool(np.array_equal(sample, np.rint(sample))),
        float((sample == 0).mean()),
        inside[:: len(inside) // FOREGROUND + 1].astype(np.float32),
    )


def _not_zero(array: NDArray[np.generic]) -> tuple[slice, ...]:
    """Return the box around nonzero voxels of any channel; the whole array if all are 0."""
    box = [slice(0, size) for size in array.shape[1:]]
    for axis, size in enumerate(array.shape[1:]):
        planes = np.moveaxis(array, axis + 1, 0)
        first = next((at for at in range(size) if planes[at].any()), None)
        if first is None:
            return tuple(slice(0, size) for size in array.shape[1:])
        last = next(at for at in reversed(range(size)) if planes[at].any())
        box[axis] = slice(first, last + 1)
    return tuple(box)


def _hash(array: NDArray[np.generic]) -> str:
    digest = hashlib.sha256(repr(array.shape).encode())
    for channel in array:
        digest.update(np.ascontiguousarray(channel.T).data)
    return digest.hexdigest()


def _pick(values: Sequence[float] | Sequence[int], order: NDArray[np.intp]) -> tuple:  # type: ignore[type-arg]
    return tuple(values[axis] for axis in order)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _values(values: Sequence[float], digits: int = 6) -> str:
    shown = ", ".join(f"{value:.{digits}g}" for value in values[:SHOWN])
    return shown + (", ..." if len(values) > SHOWN else "")
