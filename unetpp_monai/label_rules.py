"""Rules for the labels of a task: indices, planar boundaries, and located structures."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from .words import counted

Values = Mapping[str, Any]

MOST_FEATURES, MOST_LEVELS = 256, 6  # of a locator's network: 1 GiB of weights
COARSEST = 10.0  # mm of a locator's grid
DIRECTIONS = "RAS"  # of `locator_order`: first lies further to the right, to the front or above


def is_number(value: object) -> bool:
    """Tell whether a value is a number, but not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def boundary_pairs(stated: Sequence[Any]) -> list[Sequence[int]]:
    """List the pairs of `label_boundary`, which may be a single pair.

    Example:
        >>> boundary_pairs([1, 2]), boundary_pairs([[1, 2], [3, 4]])
        ([[1, 2]], [[1, 2], [3, 4]])
    """
    return [stated] if stated and not isinstance(stated[0], list | tuple) else list(stated)


def has_locator(values: Values) -> bool:
    """Tell whether a task first locates structures, then segments each in its box."""
    return bool(values.get("locator_features"))


def result_channels(values: Values) -> int | None:
    """Count the labels of a result, including the background; None: not stated.

    Without a locator they are the network's. With one, each located box has its own labels.
    """
    if has_locator(values):
        return 1 + sum(map(len, values.get("locator_labels", [])))
    return values.get("out_channels")


def label_faults(values: Values) -> Iterator[str]:
    """Yield faults in the labels of otherwise valid values."""
    channels, stated = values.get("out_channels"), values.get("label_values", [])
    if channels is None:
        return
    if stated and (len(stated) != channels or len(set(map(repr, stated))) < channels):
        yield f"label_values must be none or {channels} values (out_channels), each once, got {stated}"
    boundary = values.get("label_boundary", [])
    pairs = boundary_pairs(boundary)
    lists = all(isinstance(pair, list | tuple) for pair in pairs)
    if all(isinstance(labels, list | tuple) for labels in values.get("locator_labels", [])):
        channels = result_channels(values) or channels
    for key, labels in (
        ("label_boundary", list(chain.from_iterable(pairs)) if lists else pairs),
        ("largest_component", values.get("largest_component", [])),
    ):
        if not set(map(repr, labels)) <= set(map(str, range(1, channels))) or len(set(map(repr, labels))) < len(labels):
            yield f"{key} must name labels from 1 to {channels - 1}, each once, got {values[key]}"
    yield from _prompt_faults(values)
    if boundary and values.get("spatial_dims", 3) != 3:
        yield f"label_boundary must be none for pictures, got {boundary}"
    if lists and any(len(pair) != 2 for pair in pairs):
        yield f"label_boundary must be none, two labels or pairs of them, got {boundary}"


def _prompt_faults(values: Values) -> Iterator[str]:
    prompted, own = values.get("prompt_labels", []), range(values["out_channels"])
    if not set(map(repr, prompted)) <= set(map(str, own)) or len(set(map(repr, prompted))) < len(prompted):
        yield f"prompt_labels must name labels from 0 (background) to {own[-1]}, each once, got {prompted}"
    if prompted and values.get("resize"):  # then a voxel of the network has no size in mm
        yield f"resize must be none for a network that takes prompts, got {values['resize']}"


def locator_faults(values: Values) -> Iterator[str]:
    """Yield faults of a locator, if any."""
    if not has_locator(values):
        return
    yield from feature_faults(values["locator_features"])
    yield from _class_faults(values)
    yield from _grid_faults(values)
    for key, words, sound in (
        ("spatial_dims", "3", values.get("spatial_dims", 3) == 3),
        ("in_channels", "1", values.get("in_channels", 1) == 1),
        ("intensity", "none", not values.get("intensity")),
        ("resize", "none", not values.get("resize")),
        ("prompt_labels", "none", not values.get("prompt_labels")),
    ):
        if not sound:
            yield f"{key} must be {words} for images in which a locator looks, got {values[key]}"


def feature_faults(features: Sequence[Any]) -> Iterator[str]:
    """Yield faults in the features of a locator's network, before loading weights."""
    sound = all(is_whole(count) and 1 <= count <= MOST_FEATURES for count in features)
    if not 2 <= len(features) <= MOST_LEVELS or not sound:
        yield (
            f"locator_features must hold whole numbers from 1 to {MOST_FEATURES} for 2 to {MOST_LEVELS} levels, got "
            f"{list(features)}"
        )


def _class_faults(values: Values) -> Iterator[str]:
    classes, labels = values.get("locator_classes", []), values.get("locator_labels", [])
    if not classes or len(set(map(repr, classes))) < len(classes) or not all(isinstance(name, str) for name in classes):
        yield f"locator_classes must be different names, the background first, got {classes}"
        return
    structures = values.get("locator_structures", [])
    if not structures or len(set(map(repr, structures))) < len(structures) or len(classes) < 2:
        yield f"locator_structures must be different names, from left to right, of pieces of class 1, got {structures}"
    if not labels or len(labels) != len(structures) or not all(isinstance(each, list | tuple) for each in labels):
        yield f"locator_labels must hold a list of labels for each of locator_structures, got {labels}"
        return
    flat = list(chain.from_iterable(labels))
    if list(map(repr, flat)) != list(map(str, range(1, len(flat) + 1))):
        yield f"locator_labels must hold the labels 1, 2, ... in this order, got {labels}"
    channels = values.get("out_channels")
    if channels is not None and any(len(each) != channels - 1 for each in labels):
        yield f"locator_labels must have {counted(channels - 1, 'label')} a structure (out_channels), got {labels}"
    if unknown := [name for name in values.get("locator_brain", []) if name not in classes]:
        yield f"locator_brain must be of locator_classes, got {unknown}"
    for rule in values.get("locator_order", []):
        sound = isinstance(rule, list | tuple) and len(rule) == 3 and rule[0] in classes and rule[2] in classes
        if not sound or rule[1] not in tuple(DIRECTIONS):
            yield f"locator_order must hold [class, R, A or S, class], the first further that way, got {rule}"


def _grid_faults(values: Values) -> Iterator[str]:
    """Yield faults of the locator's grid, whose voxels must be blocks of the network's."""
    pixdim, extent = values.get("pixdim", ()), values.get("locator_extent", ())
    spacing = values.get("locator_spacing", COARSEST)
    lengths = [length for length in pixdim if is_number(length) and length > 0]
    if not 0 < spacing <= COARSEST:
        yield f"locator_spacing must be > 0 and <= {COARSEST:g} mm, got {spacing}"
    elif any(spacing < length or abs(spacing / length - round(spacing / length)) > 1e-6 for length in lengths):
        yield f"locator_spacing must be a multiple of pixdim, {pixdim}, got {spacing} mm"
    if len(extent) not in (0, 3) or not all(is_number(length) and length >= 0 for length in extent):
        yield f"locator_extent must be none or three lengths in mm, got {extent}"
