"""Check that an image and its result resemble the training data of a bundle: ranges of simple quantities.

A network segments anything: whole heads although trained on crops, or files with spacing wrong by a factor of 1000.
The ranges flag such cases; they never change or remove a result.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .errors import BundleError, InputError
from .labels import Label
from .volume import Volume, label_array

Range = tuple[float, float]  # lower and upper bound, inclusive

AXES = ("right", "anterior", "superior")  # of spacing and extent, whatever the file's axis order
PERCENTILES = (1, 50, 99)  # of an image's intensities
SAMPLE = 1 << 18  # voxels to estimate the intensity distribution of a channel
WIDER = {"spacing": 1.5, "extent": 1.25, "volume": 1.25, "share": 1.25}  # factor beyond the measured cases
FARTHER = 0.25  # the same for intensities, as a fraction of a percentile's range over the cases
SLACK = 0.05  # plus this fraction of an image's percentile range: cases of one scanner are too similar
FEW = 4.0  # for few cases, both are multiplied by 1 + FEW / cases
ABSOLUTE = "CT"  # modality with absolute intensities; for others only the distribution's shape is checked


@dataclass(frozen=True)
class Plausible:
    """Ranges of a bundle's training cases, from `plausible` in its metadata.

    Example:
        >>> ranges = Plausible.from_json({"cases": 2, "spacing": [[0.7, 1.5]] * 3})
        >>> ranges.implausible(Volume(np.zeros((1, 4, 4, 4)), np.diag([0.001, 1, 1, 1])), {}, [])
        ('spacing to the right is 0.001 mm, expected 0.7 to 1.5',)
    """

    cases: int  # number of measured cases
    spacing: tuple[Range, ...] = ()  # mm along `AXES`; empty for pictures
    extent: tuple[Range, ...] = ()  # mm along `AXES`
    intensity: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)  # percentile -> one per channel
    absolute: bool = False  # intensities as stored; False: in deviations from the mean of their channel
    volume: Mapping[str, Range] = field(default_factory=dict)  # label index -> mL
    share: Mapping[str, Range] = field(default_factory=dict)  # label index -> of a picture's pixels, 0 ... 1

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Plausible":
        """Read what `to_json` writes.

        Raises:
            BundleError: unknown keys or invalid ranges.
        """
        try:
            return cls(
                cases=int(stated["cases"]),
                spacing=tuple(map(as_range, stated.get("spacing", ()))),
                extent=tuple(map(as_range, stated.get("extent", ()))),
                intensity={str(key): tuple(map(as_range, each)) for key, each in stated.get("intensity", {}).items()},
                absolute=bool(stated.get("absolute", False)),
                volume={str(key): as_range(each) for key, each in stated.get("volume", {}).items()},
                share={str(key): as_range(each) for key, each in stated.get("share", {}).items()},
                **{key: stated[key] for key in stated if key not in cls.__dataclass_fields__},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"plausible must hold the ranges of `unetpp ranges`, got {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the non-empty ranges in JSON types, with four significant digits."""
        stated: dict[str, Any] = {"cases": self.cases}
        for name in ("spacing", "extent"):
            stated[name] = [_rounded(each) for each in getattr(self, name)]
        stated["intensity"] = {key: [_rounded(each) for each in ranges] for key, ranges in self.intensity.items()}
        stated["absolute"] = self.absolute
        for name in ("volume", "share"):
            stated[name] = {key: _rounded(each) for key, each in getattr(self, name).items()}
        return {key: value for key, value in stated.items() if value}

    def implausible(self, image: Volume, voxels: Mapping[str, int], labels: Sequence[Label]) -> tuple[str, ...]:
        """Return one sentence for each value out of range; reads `SAMPLE` voxels per channel.

        Args:
            image: the segmented image.
            voxels: label name -> number of voxels.
            labels: structures of the bundle.

        Returns:
            Sentences with quantity, value and expected range; empty: none.
        """
        counts = {label.index: voxels.get(label.name, 0) for label in labels}
        names = {label.index: label.name for label in labels}
        return tuple(self._sentences(measure_case(image, counts, absolute=self.absolute), names))

    def _sentences(self, found: "Measures", names: Mapping[int, str]) -> Iterator[str]:
        for name in ("spacing", "extent"):
            for axis, value, bounds in zip(AXES, getattr(found, name), getattr(self, name), strict=False):
                yield from outside(f"{name} to the {axis}", value, bounds, "mm")
        unit = "" if self.absolute else "deviations from the mean"
        for percentile, ranges in self.intensity.items():
            for channel, (value, bounds) in enumerate(zip(found.intensity[percentile], ranges, strict=False)):
                where = f" of channel {channel}" if len(ranges) > 1 else ""
                yield from outside(f"intensity{where} at {percentile} %", value, bounds, unit)
        for name, unit in (("volume", "mL"), ("share", "of the picture")):
            for index, bounds in getattr(self, name).items():
                value = getattr(found, name).get(int(index), 0.0)
                yield from outside(f"{name} of {names.get(int(index), index)}", value, bounds, unit)


@dataclass(frozen=True)
class Measures:
    """Measurements of one case, compared with the ranges."""

    spacing: tuple[float, ...]  # mm along `AXES`
    extent: tuple[float, ...]  # mm along `AXES`
    intensity: Mapping[str, tuple[float, ...]]  # percentile -> one per channel
    volume: Mapping[int, float]  # label index -> mL
    share: Mapping[int, float]  # label index -> of all voxels, 0 ... 1

    def with_labels(self, counts: Mapping[int, int], voxels: int, voxel_ml: float) -> "Measures":
        """Add measurements of labels: counts by index, total voxels and voxel volume."""
        volume = {index: count * voxel_ml for index, count in counts.items()}
        return replace(self, volume=volume, share={index: count / voxels for index, count in counts.items()})


def measure_ranges(
    cases: Iterable[tuple[Volume, Volume]], labels: Iterable[int], *, modality: str, spatial_dims: int = 3
) -> Plausible:
    """Measure the ranges of training cases.

    Args:
        cases: image and label map on one grid.
        labels: indices of the structures.
        modality: from the metadata, such as "MR"; intensities of "CT" are compared as stored.
        spatial_dims: 2: pictures, which have pixels and no mm.

    Returns:
        The smallest and largest value of each quantity, widened by `WIDER` and `FARTHER`, as few cases do not show the
        whole range.

    Raises:
        InputError: no case.
    """
    absolute, indices = modality == ABSOLUTE, tuple(labels)
    measured: list[Measures] = []
    for image, reference in cases:
        counts = np.bincount(label_array(reference).astype(np.int64).ravel(), minlength=max(indices) + 1)
        measured.append(measure_case(image, {index: int(counts[index]) for index in indices}, absolute=absolute))
    return ranges_of(measured, indices, absolute=absolute, spatial_dims=spatial_dims)


def ranges_of(
    measured: Sequence[Measures], indices: Iterable[int], *, absolute: bool, spatial_dims: int = 3
) -> Plausible:
    """Compute the ranges, as `measure_ranges`, from results of `measure_case`.

    Args:
        measured: one entry per case.
        indices: of the structures.
        absolute: as used in `measure_case`.
        spatial_dims: 2: pictures, which have pixels and no mm.

    Raises:
        InputError: no case.
    """
    if not measured:
        raise InputError("ranges are those of cases, got none")
    indices, flat = tuple(indices), spatial_dims == 2
    return Plausible(
        cases=len(measured),
        spacing=() if flat else _sizes("spacing", [each.spacing for each in measured]),
        extent=() if flat else _sizes("extent", [each.extent for each in measured]),
        intensity=_intensities([each.intensity for each in measured]),
        absolute=absolute,
        volume={} if flat else _by_label("volume", [each.volume for each in measured], indices),
        share=_by_label("share", [each.share for each in measured], indices) if flat else {},
    )


def measure_case(image: Volume, voxels: Mapping[int, int], *, absolute: bool) -> Measures:
    """Measure one case.

    Args:
        image: of the case.
        voxels: label index -> number of voxels.
        absolute: intensities as stored; False: in deviations from the mean of their channel.
    """
    return measure_both(image, voxels)[absolute]


def measure_both(image: Volume, voxels: Mapping[int, int]) -> dict[bool, Measures]:
    """Measure as `measure_case`, by whether intensities are absolute."""
    order = np.argsort(nib.orientations.io_orientation(image.affine)[:, 0])
    spacing = np.array(image.spacing)[order]
    stored, deviations = _percentiles(image.array)
    found = Measures(
        tuple(spacing),
        tuple(spacing * np.array(image.shape)[order]),
        stored,
        {index: count * image.voxel_ml for index, count in voxels.items()},
        {index: count / image.array[0].size for index, count in voxels.items()},
    )
    return {True: found, False: replace(found, intensity=deviations)}


def _percentiles(array: NDArray[np.generic]) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Return percentiles as stored, and in deviations from the mean of their channel."""
    stored, deviations = [], []
    for channel in array:
        step = channel.size // SAMPLE | 1  # odd, so as not to sample the same column repeatedly
        sample = channel.flat[::step].astype(np.float64)  # no copy, however the axes lie in memory
        values = np.percentile(sample, PERCENTILES)
        stored.append(values)
        deviations.append((values - sample.mean()) / (sample.std() or 1.0))
    by_percentile = [
        {str(p): tuple(float(each[at]) for each in channels) for at, p in enumerate(PERCENTILES)}
        for channels in (stored, deviations)
    ]
    return by_percentile[0], by_percentile[1]


def _sizes(name: str, values: list[tuple[float, ...]]) -> tuple[Range, ...]:
    array, factor = np.array(values), WIDER[name] ** (1 + FEW / len(values))
    return tuple(
        (float(low / factor), float(high * factor)) for low, high in zip(array.min(0), array.max(0), strict=True)
    )


def _by_label(name: str, values: list[Mapping[int, float]], indices: Iterable[int]) -> dict[str, Range]:
    found = ((index, _sizes(name, [(each[index],) for each in values])[0]) for index in indices)
    return {str(index): bounds for index, bounds in found}


def _intensities(cases: list[Mapping[str, tuple[float, ...]]]) -> dict[str, tuple[Range, ...]]:
    values = {key: np.array([case[key] for case in cases]) for key in map(str, PERCENTILES)}  # (cases, channels)
    slack = SLACK * (values[str(PERCENTILES[-1])] - values[str(PERCENTILES[0])]).mean(0)
    found = {}
    for key, array in values.items():
        low, high = array.min(0), array.max(0)
        more = FARTHER * (1 + FEW / len(cases)) * (high - low) + slack
        found[key] = tuple((float(a), float(b)) for a, b in zip(low - more, high + more, strict=True))
    return found


def as_range(stated: Any) -> Range:
    """Read a lower and an upper bound.

    Raises:
        ValueError: invalid bounds.
    """
    lower, upper = (float(bound) for bound in stated)
    if not lower <= upper:  # or NaN
        raise ValueError(f"{stated}, which is no lower and upper bound")
    return lower, upper


def _rounded(bounds: Range) -> list[float]:
    return [float(f"{bound:.4g}") for bound in bounds]


def outside(what: str, value: float, bounds: Range, unit: str) -> Iterator[str]:
    """Yield a sentence if a value is out of range."""
    if not bounds[0] <= value <= bounds[1]:
        yield f"{what} is {value:.4g}{unit and ' '}{unit}, expected {bounds[0]:.4g} to {bounds[1]:.4g}"
