"""Meaning of the values of a label map: name, SNOMED codes and colour, from the bundle's metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import BundleError

PALETTE = ((216, 101, 79), (128, 174, 128), (111, 184, 210), (241, 214, 145))  # sRGB, for labels without a colour


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme."""

    value: str  # such as "5366008"
    scheme: str  # such as "SCT" (SNOMED CT)
    meaning: str  # for people


@dataclass(frozen=True)
class Label:
    """Describe one structure of a label map.

    Example:
        >>> Label(1, "liver", category=None, type=None, modifiers=(), colour=None).name
        'liver'
    """

    index: int  # value of its voxels, >= 1
    name: str  # as in channel_def
    category: Code | None  # DICOM's segmented property category
    type: Code | None  # DICOM's segmented property type
    modifiers: tuple[Code, ...]  # DICOM's segmented property type modifiers, such as a side and a part
    colour: tuple[int, int, int] | None  # recommended display colour, sRGB, 0 ... 255


def read_labels(metadata: Mapping[str, Any]) -> tuple[Label, ...]:
    """List the structures in a bundle's metadata by index, without background.

    Args:
        metadata: with `network_data_format` (names) or, where the network's labels are not those of a result,
            `result_labels`; and, if there are codes, `label_codes` by index.

    Raises:
        BundleError: no names, codes for labels that do not exist, or parts of another form.
    """
    try:
        names = metadata.get("result_labels") or metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        names = dict(names.items())
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"metadata must name the labels in network_data_format, got {error!r}") from error
    codes = metadata.get("label_codes", {})
    if not isinstance(codes, Mapping) or not all(isinstance(entry, Mapping) for entry in codes.values()):
        raise BundleError(f"label_codes must be objects by label, with category, type, ... in each, got {codes!r}")
    if unknown := sorted(codes.keys() - names.keys()):
        raise BundleError(f"label_codes must belong to labels that are named, got {unknown}")
    try:
        return tuple(_label(int(index), name, codes.get(index, {})) for index, name in names.items() if index != "0")
    except (TypeError, ValueError) as error:
        raise BundleError(
            "labels must have whole numbers, codes of value, scheme and meaning, and colours of three numbers, got "
            f"{error}"
        ) from error


def _label(index: int, name: str, entry: Mapping[str, Any]) -> Label:
    category, kind = (Code(**entry[key]) if key in entry else None for key in ("category", "type"))
    modifiers = tuple(Code(**code) for code in stated_modifiers(entry))
    colour = None
    if "colour" in entry:
        red, green, blue = map(int, entry["colour"])
        if not all(0 <= part <= 255 for part in (red, green, blue)):
            raise ValueError(f"a colour of {red}, {green}, {blue}, which are not all from 0 to 255")
        colour = (red, green, blue)
    return Label(index, name, category, kind, modifiers, colour)


def stated_modifiers(entry: Mapping[str, Any]) -> Sequence[Any]:
    """Modifiers of a label in metadata: the list `modifiers`, or the one `modifier` that older bundles state."""
    stated: Sequence[Any] = [entry["modifier"]] if "modifier" in entry else entry.get("modifiers", ())
    return stated


def label_colour(label: Label) -> tuple[int, int, int]:
    """Return a label's display colour, sRGB: its own, or one of `PALETTE` by index."""
    return label.colour or PALETTE[(label.index - 1) % len(PALETTE)]
