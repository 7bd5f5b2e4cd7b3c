"""Check a bundle's `metadata.json`, and read the parts we use."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..errors import BundleError, InputError
from ..gates import Gates
from ..inference import UNCERTAINTIES
from ..json_files import clipped
from ..labels import Label, read_labels
from ..plausibility import Plausible
from ..volume import Volume
from ..words import counted

KEY = 60  # most characters of a value in a message
VOLUME = "give one 3-D volume, not a time series or a picture"
PICTURES = {1: "convert the picture to grey", 3: "convert the picture to RGB"}  # by channels


@dataclass(frozen=True)
class ImageInput:
    """Describe the input images of a bundle.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> image = read_bundle("hippocampus").input
        >>> image.channels, image.spatial_dims
        (1, 3)
    """

    channels: int  # >= 1
    channel_names: tuple[str, ...]  # one per channel
    modality: str  # DICOM's, such as "MR" or "CT"
    spatial_dims: int  # 2 or 3

    def check_channels(self, volume: Volume, channels: int, name: str) -> None:
        """Check the number of channels of a volume.

        Args:
            volume: `(C, X, Y, Z)`.
            channels: of the network.
            name: of the bundle, for messages.

        Raises:
            InputError: another number of channels than the network's, or a volume instead of a picture.
        """
        if self.spatial_dims == 2 and volume.shape[2] > 1:
            size = " x ".join(map(str, volume.shape))
            raise InputError(
                f"{name} takes pictures, got a volume of {size} voxels; name a task for volumes, or give one slice",
                option="task",
            )
        if (got := volume.array.shape[0]) == channels:
            return
        names = f" ({', '.join(self.channel_names)})" if channels > 1 else ""
        if self.spatial_dims == 2:
            way_out = PICTURES.get(channels, f"give a picture with {channels}")
        else:
            way_out = VOLUME if channels == 1 else f"give a file or series for each of {channels}"
        raise InputError(f"{name} takes {counted(channels, 'channel')}{names}, got {got}; {way_out}")


@dataclass(frozen=True)
class ReviewRule:
    """Threshold that flags results for review, and its measured performance.

    Example:
        >>> ReviewRule(threshold=0.1).measure
        'disagreement'
    """

    measure: str = "disagreement"  # behind the score: one of `UNCERTAINTIES`
    threshold: float | None = None  # flag scores >= this; None: never calibrated
    share: float | None = None  # fraction of validation cases flagged, 0 to 1
    recall: float | None = None  # fraction of the worst quarter flagged, 0 to 1
    auroc: float | None = None  # of the score for the worst quarter, 0 to 1
    cases: int | None = None  # number of validation cases


@dataclass(frozen=True)
class Described:
    """The parts of a bundle's metadata that we use."""

    input: ImageInput
    labels: tuple[Label, ...]  # structures, background left out
    review: ReviewRule
    plausible: Plausible | None  # what it was trained on; None: not stated
    gates: Gates | None  # for located structures; None: not stated


def described(metadata: Mapping[str, Any], path: str) -> Described:
    """Check metadata and return the parts we use.

    Args:
        metadata: of a bundle.
        path: of its file, for messages.

    Raises:
        BundleError: a missing value or wrong type.
    """
    if fault := next(_faults(metadata), ""):
        raise BundleError(f"{path}: {clipped(fault, 250)}")
    image = metadata["network_data_format"]["inputs"]["image"]
    names = tuple(image["channel_def"].values())
    stated = metadata.get("plausible")
    try:
        labels = read_labels(metadata)
        plausible = None if stated is None else Plausible.from_json(stated)
        if plausible is not None:  # its keys are percentiles and labels
            plausible.implausible(Volume(np.zeros((image["num_channels"], 2, 2, 2)), np.eye(4)), {}, labels)
        gates = None if (bounds := metadata.get("gates")) is None else Gates.from_json(bounds)
    except (BundleError, KeyError, ValueError, TypeError, IndexError) as error:
        what = error if isinstance(error, BundleError) else f"plausible must name percentiles and labels, got {error!r}"
        raise BundleError(f"{path}: {clipped(what, 250)}") from error
    return Described(
        ImageInput(image["num_channels"], names, image["modality"], len(image["spatial_shape"])),
        labels,
        ReviewRule(**metadata.get("review", {})),
        plausible,
        gates,
    )


def _faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    if not _filled(metadata.get("version")):
        yield f"version must be a string such as '0.1.0', got {_said(metadata.get('version'))}"
    for key in ("name", "description"):
        if key in metadata and not _filled(metadata[key]):
            yield f"{key} must be a text, got {_said(metadata[key])}"
    yield from _wrong(metadata, "network_data_format#inputs#image#num_channels", _count, "a whole number >= 1")
    yield from _wrong(metadata, "network_data_format#inputs#image#modality", _filled, "a text such as 'MR'")
    yield from _wrong(metadata, "network_data_format#inputs#image#channel_def", _names, "an object of names")
    yield from _wrong(metadata, "network_data_format#inputs#image#spatial_shape", _axes, "a list of 2 or 3 axes")
    yield from _wrong(metadata, "network_data_format#outputs#pred#channel_def", _names, "an object of names")
    if "result_labels" in metadata:
        yield from _wrong(metadata, "result_labels", _names, "an object of names")
    yield from _code_faults(metadata.get("label_codes", {}))
    yield from _review_faults(metadata.get("review", {}))
    depths = metadata.get("depths", {})
    if not isinstance(depths, dict) or not all(isinstance(row, dict) for row in depths.values()):
        yield f"depths must be an object of objects, got {_said(depths)}"


def _wrong(metadata: Mapping[str, Any], key: str, test: Callable[[Any], bool], words: str) -> Iterator[str]:
    value: Any = metadata
    for name in key.split("#"):
        if not isinstance(value, dict) or name not in value:
            yield f"{key} must be {words}, got none"
            return
        value = value[name]
    if not test(value):
        yield f"{key} must be {words}, got {_said(value)}"


def _code_faults(codes: Any) -> Iterator[str]:
    if not isinstance(codes, dict) or not all(isinstance(entry, dict) for entry in codes.values()):
        yield f"label_codes must be an object of objects, got {_said(codes)}"
        return
    for index, entry in codes.items():
        modifiers = entry.get("modifiers", [])
        if not isinstance(modifiers, list) or (modifiers and "modifier" in entry):
            yield f"label_codes#{index} must have modifiers as a list, or one modifier, got {_said(entry)}"
            return
        codes_of = {key: entry.get(key, {}) for key in ("category", "type", "modifier")}
        for key, code in (*codes_of.items(), *(("modifiers", code) for code in modifiers)):
            if not isinstance(code, dict) or not all(map(_filled, code.values())):
                yield f"label_codes#{index}#{key} must have value, scheme and meaning as texts, got {_said(code)}"


def _review_faults(review: Any) -> Iterator[str]:
    known = [field.name for field in fields(ReviewRule)]
    if not isinstance(review, dict) or set(review) - set(known):
        yield f"review must have the keys of ReviewRule, got {_said(review)}; they are {', '.join(known)}"
        return
    stated = asdict(ReviewRule(**review))
    if stated.pop("measure") not in UNCERTAINTIES:
        kinds = " or ".join(UNCERTAINTIES)
        yield f"measure of review must be {kinds}, got {_said(review['measure'])}; see unetpp calibrate"
    for key, value in stated.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            yield f"review#{key} must be a number >= 0, got {_said(value)}"


def _said(value: object) -> str:
    return clipped(repr(value), KEY)


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _names(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_filled, value.values()))


def _axes(value: object) -> bool:
    return isinstance(value, list) and len(value) in (2, 3)
