"""Rules for the values of a task: types, lengths by dimensions and levels, ranges. Reads no files."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from .durations import seconds_of
from .errors import InputError
from .label_rules import Values, is_number, is_whole, label_faults, locator_faults
from .words import counted

# types of values that are null or an expression in the base
TYPES: dict[str, tuple[type, ...]] = {
    "out_channels": (int,),
    "features": (list,),
    "strides": (int, list),
    "kernel_size": (int, list),
    "pixdim": (list,),
    "roi_size": (list,),
    "patch_size": (list,),
    "head_weights": (list,),
    "rotate_range": (list,),
    "scale_range": (list,),
    "shear_range": (list,),
    "translate_range": (list,),
    "val_interval": (int,),
    "depth": (int, str),
    "series": (str, list),
    **dict.fromkeys(("dataset_dir", "ckpt_dir", "output_dir"), (str,)),
}
AT_LEAST = {
    "in_channels": 1,
    "out_channels": 2,  # the background is one
    "num_folds": 1,
    "fold": 0,
    "max_epochs": 1,
    "warmup_epochs": 0,
    "val_interval": 1,
    "patience": 1,
    **dict.fromkeys(("steps_per_epoch", "val_cases", "save_seconds"), 0),
    **dict.fromkeys(("locator_margin", "locator_brain_ml", "locator_ml"), 0),
    "batch_size": 1,
    "sw_batch_size": 1,
    "num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "noise_std": 0,
    "prompt_radius": 0,
    "prompt_reach": 0,
    "prompt_rounds": 1,
    "prompt_jitter": 0,
}
PROBABILITIES = (
    *("affine_prob", "rotate90_prob", "intensity_prob", "foreground_share"),
    *("prompt_share", "prompt_scribbles"),
)
WHOLE = ("features", "patch_size", "roi_size", "resize")  # lists of whole numbers >= 1
RANGES = ("rotate_range", "scale_range", "shear_range", "translate_range")  # of a number, or (lowest, highest)
MAX_VOXELS = 1 << 27  # of a window, 512 in each direction
MAX_LEVELS = 16
SIDES = "RLAPSI"  # of a patient
BLOCKS = ("plain", "residual")  # of the network
WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
}


def is_structure(value: object) -> bool:
    """Tell whether a part of a config is built or computed by MONAI."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(is_structure, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_structure, value))
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def value_types(base: Values) -> dict[str, tuple[type, ...]]:
    """Return the keys of a base config that a task may state, with their types."""
    found = {key: TYPES.get(key, (type(default),)) for key, default in base.items()}
    return {
        key: types
        for key, types in found.items()
        if key in TYPES or not (isinstance(base[key], dict) or is_structure(base[key]))
    }


def unknown_key(key: str, known: Mapping[str, object], where: str) -> str:
    """Return a message that a key does not exist, with the closest one."""
    nearest = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"keys must exist in {where}, got {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")


def value_faults(values: Values, types: Mapping[str, tuple[type, ...]], *, windows: bool = True) -> Iterator[str]:
    """Yield faults in the values of a task and its base; expressions are not checked.

    Args:
        values: of the base, overridden by the task's.
        types: from `value_types`.
        windows: require sizes that halve at every level; others work, but slower.
    """
    if missing := [key for key in types if key in values and values[key] is None]:
        yield f"a task must state {', '.join(missing)}, got none"
    stated = {key: values[key] for key in types if values.get(key) is not None and not is_structure(values[key])}
    wrong = {key for key, value in stated.items() if not _is_of(value, types[key])}
    for key in sorted(wrong):
        yield f"{key} must be {' or '.join(WORDS[kind] for kind in types[key])}, got {stated[key]!r}"
    sound = {key: value for key, value in stated.items() if key not in wrong}
    rules = (_numbers, _elements, _axes, _levels, _steps, _windows, label_faults, _choices, _intensities, _suffixes)
    for rule in (rule for rule in rules if windows or rule is not _windows):
        yield from rule(sound)
    yield from locator_faults(sound)


def _is_of(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    if float in types and isinstance(value, int):
        return True
    if str in types and isinstance(value, os.PathLike):
        return True
    return isinstance(value, types) or (list in types and isinstance(value, tuple))


def _numbers(values: Values) -> Iterator[str]:
    for key, least in AT_LEAST.items():
        if key in values and not values[key] >= least:
            yield f"{key} must be >= {least}, got {values[key]}"
    for key in PROBABILITIES:
        if key in values and not 0 <= values[key] <= 1:
            yield f"{key} must be from 0 to 1, got {values[key]}"
    try:
        if values.get("max_time"):
            seconds_of(values["max_time"])
    except InputError as error:
        yield f"max_{error}"
    if "overlap" in values and not 0 <= values["overlap"] < 1:
        yield f"overlap must be >= 0 and < 1, got {values['overlap']}"


def _elements(values: Values) -> Iterator[str]:
    """Yield faults of numbers in lists."""
    tests: dict[str, tuple[str, Callable[[Any], bool]]] = {
        **dict.fromkeys(WHOLE, ("whole numbers >= 1", lambda x: is_whole(x) and x >= 1)),
        **dict.fromkeys(RANGES, ("numbers, or pairs of them", lambda x: is_number(x) or _is_pair(x))),
        "pixdim": ("numbers > 0 (mm)", lambda x: is_number(x) and x > 0),
        "head_weights": ("numbers >= 0", lambda x: is_number(x) and x >= 0),
        "exit_thresholds": ("numbers from 0 to 1", lambda x: is_number(x) and 0 <= x <= 1),
        "label_values": ("whole numbers", is_whole),
        "series": ("texts", lambda x: isinstance(x, str)),
    }
    for key, (words, test) in tests.items():
        if not all(map(test, values.get(key, ()))):
            yield f"{key} must hold {words}, got {values[key]}"
    for key in ("roi_size", "patch_size", "resize"):
        sizes = [size for size in values.get(key, ()) if is_whole(size)]
        if math.prod(sizes) > MAX_VOXELS:
            yield f"{key} must be at most {MAX_VOXELS} voxels in all, got {values[key]}"
    if "zoom_range" in values and not (_is_pair(zoom := values["zoom_range"]) and 0 < zoom[0] <= zoom[1]):
        yield f"zoom_range must be two numbers, 0 < lowest <= highest, got {zoom}"


def _axes(values: Values) -> Iterator[str]:
    """Yield faults of lengths and axes by `spatial_dims`."""
    dims = values.get("spatial_dims")
    if dims is None:
        return
    if dims not in (2, 3):
        yield f"spatial_dims must be 2 or 3, got {dims}"
        return
    lengths = {
        **dict.fromkeys(("pixdim", "roi_size", "patch_size", "scale_range", "translate_range"), (dims,)),
        "resize": (0, dims),
        "rotate_range": (3,) if dims == 3 else (1,),
        "shear_range": (3, 6) if dims == 3 else (2,),
    }
    for key, allowed in lengths.items():
        if key in values and len(values[key]) not in allowed:
            *fewer, most = allowed
            counts = " or ".join([*map(str, fewer), counted(most, "value")])
            yield f"{key} must have {counts} for spatial_dims {dims}, got {values[key]}"
    for key in ("flip_axes", "mirror_axes"):
        axes = values.get(key, [])
        if not set(map(repr, axes)) <= set(map(str, range(dims))) or len(set(axes)) < len(axes):
            yield f"{key} must name axes from 0 to {dims - 1}, each once, got {axes}"


def _levels(values: Values) -> Iterator[str]:
    """Yield faults of lengths by the levels of the network."""
    if "features" not in values:
        return
    depth = len(values["features"]) - 1
    if depth < 1:
        yield f"features must hold the channels of at least 2 levels, got {values['features']}"
        return
    if depth >= MAX_LEVELS:
        yield f"features must hold the channels of at most {MAX_LEVELS} levels, got {depth + 1}"
        return
    heads, thresholds = values.get("head_weights"), values.get("exit_thresholds")
    if heads is not None and len(heads) != depth:
        yield f"head_weights must have {depth} values, one less than features, got {heads}"
    if heads and all(weight == 0 for weight in heads):
        yield f"head_weights must have one above 0, got {heads}"
    if thresholds and len(thresholds) != depth - 1:
        yield f"exit_thresholds must have none or {depth - 1} values, two less than features, got {thresholds}"
    chosen = values.get("depth", "full")
    if str(chosen) not in {"full", "auto", *map(str, range(1, depth + 1))}:
        yield f"depth must be from 1 to {depth}, auto or full, got {chosen!r}"


def _steps(values: Values) -> Iterator[str]:
    """Yield faults of strides and kernels: one number, or entries per step or level, each a number or per axis."""
    levels, dims = len(values.get("features", ())), values.get("spatial_dims", 3)
    tests: dict[str, tuple[int, str, Callable[[Any], bool]]] = {
        "strides": (levels - 1, "whole numbers >= 1", lambda x: is_whole(x) and x >= 1),
        "kernel_size": (levels, "odd numbers >= 1", lambda x: is_whole(x) and x >= 1 and x % 2 == 1),
    }
    for key, (count, words, test) in tests.items():
        stated = values.get(key)
        if stated is None or not levels:
            continue
        entries = list(stated) if _is_list(stated) else [stated] * count
        sound = (len(entry) == dims and all(map(test, entry)) if _is_list(entry) else test(entry) for entry in entries)
        if len(entries) != count:
            yield f"{key} must be one number or {count} entries for {levels} levels, got {stated}"
        elif not all(sound):
            yield f"{key} must hold {words}, or lists of {dims} of them, got {stated}"


def _windows(values: Values) -> Iterator[str]:
    """Yield window sizes that are not divisible at every level, which would be padded."""
    if "features" not in values or list(_steps(values)):
        return
    levels, dims, strides = len(values["features"]), values.get("spatial_dims", 3), values.get("strides", 2)
    entries = strides if _is_list(strides) else [strides] * (levels - 1)
    per_axis = [entry if _is_list(entry) else [entry] * dims for entry in entries]
    products = [math.prod(entry[axis] for entry in per_axis) for axis in range(dims)]
    for key in ("patch_size", "roi_size"):
        sizes = values.get(key, ())
        if any(is_whole(size) and size % step for size, step in zip(sizes, products, strict=False)):
            said = products[0] if len(set(products)) == 1 else products
            yield f"{key} must be multiples of {said}, as features has {levels} levels, got {sizes}"


def _intensities(values: Values) -> Iterator[str]:
    """Yield faults of intensity rules: one per channel, or none."""
    stated, channels = values.get("intensity", []), values.get("in_channels")
    if not stated:
        return
    if channels is not None and len(stated) != channels:
        yield f"intensity must have none or {counted(channels, 'rule')} (in_channels), got {len(stated)}"
    for rule in stated:
        if not isinstance(rule, Mapping) or not _is_rule(rule):
            yield (
                'intensity must hold {"kind": "zscore", "mask": "all" or "nonzero"} or {"kind": "clip", "lower": a, '
                f'"upper": b, "mean": m, "std": s}} with a < b and s > 0, got {rule!r}'
            )


def _suffixes(values: Values) -> Iterator[str]:
    """Yield faults of the file name endings of channels."""
    stated, channels = values.get("channel_suffixes", []), values.get("in_channels")
    sound = all(isinstance(suffix, str) and suffix for suffix in stated) and len(set(stated)) == len(stated)
    if stated and (not sound or (channels is not None and len(stated) != channels)):
        yield f"channel_suffixes must be none or {channels} different endings of names (in_channels), got {stated}"


def _is_rule(rule: Mapping[str, Any]) -> bool:
    if rule.get("kind") == "clip" and set(rule) == {"kind", "lower", "upper", "mean", "std"}:
        numbers = all(is_number(rule[key]) and math.isfinite(rule[key]) for key in ("lower", "upper", "mean", "std"))
        return numbers and rule["lower"] < rule["upper"] and rule["std"] > 0
    return rule.get("kind") == "zscore" and set(rule) == {"kind", "mask"} and rule["mask"] in ("all", "nonzero")


def _choices(values: Values) -> Iterator[str]:
    side = values.get("label_boundary_towards", "A")
    if len(side) != 1 or side not in SIDES:
        yield f"label_boundary_towards must be one of {', '.join(SIDES)}, got {side!r}"
    if (block := values.get("block", BLOCKS[0])) not in BLOCKS:
        yield f"block must be one of {', '.join(BLOCKS)}, got {block!r}"


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
