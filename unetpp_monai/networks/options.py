"""Checks and normal forms of the network's arguments, so that a wrong one is named before anything is built."""

from collections.abc import Sequence
from numbers import Integral

PerLevel = int | Sequence[int | Sequence[int]]  # one number for all levels, or one entry (number or per axis) a level


def positive(name: str, value: object) -> int:
    """Return `value` if it is an integer >= 1, else raise ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    return int(value)


def choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def widths(name: str, value: Sequence[int], count: int | None = None) -> tuple[int, ...]:
    """Return `value` as channels per level: `count` of them, or at least two."""
    result = tuple(positive(f"{name}[{level}]", width) for level, width in enumerate(value))
    if count is None and len(result) < 2:
        raise ValueError(f"{name} must hold the channels of at least 2 levels, finest first, got {tuple(value)}")
    if count is not None and len(result) != count:
        raise ValueError(f"{name} must have {count} entries (one less than features), got {len(result)}: {result}")
    return result


def depth_within(depth: int | None, smallest: int, largest: int) -> int:
    """Return `depth`, or `largest` for None; raise ValueError outside `smallest` ... `largest`."""
    if depth is None:
        return largest
    if isinstance(depth, bool) or not isinstance(depth, Integral) or not smallest <= depth <= largest:
        raise ValueError(f"depth must be an integer from {smallest} to {largest}, got {depth!r}")
    return int(depth)


def per_level(name: str, value: PerLevel, spatial_dims: int, levels: int) -> tuple[tuple[int, ...], ...]:
    """Spell out an argument that may be one number, or one entry (number or one number per axis) per level.

    Args:
        name: of the argument, for errors.
        value: as the caller gave it.
        spatial_dims: 2 or 3.
        levels: how many entries there must be.

    Returns:
        `levels` tuples of `spatial_dims` positive integers.

    Raises:
        ValueError: a wrong number of entries or axes, or an entry < 1.
    """
    entries = [value] * levels if isinstance(value, int) else list(value)
    if len(entries) != levels:
        raise ValueError(f"{name} must be one number or {levels} entries, finest first, got {len(entries)}: {value!r}")
    result = []
    for level, entry in enumerate(entries):
        axes = [entry] * spatial_dims if isinstance(entry, int) else list(entry)
        if len(axes) != spatial_dims:
            raise ValueError(f"{name}[{level}] must be one number or {spatial_dims} (one per axis), got {entry!r}")
        result.append(tuple(positive(f"{name}[{level}]", size) for size in axes))
    return tuple(result)


def odd(name: str, value: PerLevel, spatial_dims: int, levels: int) -> tuple[tuple[int, ...], ...]:
    """As `per_level`, for sizes that have a middle voxel."""
    result = per_level(name, value, spatial_dims, levels)
    if not all(size % 2 for sizes in result for size in sizes):
        raise ValueError(f"{name} must be odd on every axis, so that shapes are kept, got {value!r}")
    return result
