"""Convert masks to polygons along voxel edges and back, plane by plane, exactly.

Coordinates are voxel indices: voxel (0, 0) reaches from -0.5 to 0.5. Voxels that touch only at a corner are separate.
Holes are connected to the outer ring by a zero-width keyhole, so no polygon is inside another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
# filled voxels around a corner, as bits: upper left 1, upper right 2, lower left 4, lower right 8
LEAVES_SIDEWAYS = np.isin(np.arange(16), (1, 8, 9, 11, 13))  # the line, with voxels on its right, continues along x
DIAGONALS = (6, 9)  # two voxels touch here: two corners at one position


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed polygon in one plane of a grid."""

    plane: int  # index along Z
    points: NDArray[np.float64]  # (N, 2), order X, Y, voxel indices; closed


def trace_contours(mask: NDArray[np.bool_]) -> list[Contour]:
    """Trace polygons around the voxels of a mask, with keyholes for holes.

    Args:
        mask: `(X, Y, Z)`; planes have constant Z.

    Returns:
        Contours by plane. The voxel centres inside are the mask, by the even-odd and the non-zero rule.
    """
    filled = np.nonzero(mask.any(axis=(1, 2)))[0], np.nonzero(mask.any(axis=(0, 2)))[0], np.nonzero(mask.any((0, 1)))[0]
    if not filled[0].size:
        return []
    low = [int(axis[0]) for axis in filled]
    box = mask[tuple(slice(axis[0], axis[-1] + 1) for axis in filled)].transpose(2, 1, 0)
    padded = np.pad(box, ((0, 0), (1, 1), (1, 1)))  # (Z, Y, X)
    corners = _corners(padded)
    path, lengths = _walk(*_join_holes(padded, corners))
    places, lengths = _without_needless_points(corners.places[path], lengths)
    points = places[:, :0:-1] - 0.5 + low[:2]
    parts = np.split(points, np.cumsum(lengths)[:-1])
    planes = places[np.cumsum(lengths) - 1, 0] + low[2]
    return [Contour(int(plane), part) for plane, part in zip(planes, parts, strict=True)]


@dataclass(eq=False)
class _Corners:
    """Corners of the outlines of a mask, ordered by row; joining holes adds more."""

    places: Integers  # (N, 3): plane, row and column of the grid of voxel corners
    successors: Integers  # (N,): index of the next corner
    tops: Integers  # upper ends of the vertical edges, sorted by plane, column, row
    keys: Integers  # sort keys of `tops`
    size: tuple[int, int, int]  # of the grid of voxel corners: planes, rows, columns

    def key(self, plane: Integers, row: Integers, column: Integers) -> Integers:
        """Return the sort key of a position by plane, column, row."""
        return (plane * self.size[2] + column) * self.size[1] + row


def _corners(padded: NDArray[np.bool_]) -> _Corners:
    """Find the corners and their successors: in each row and column, corners pair up as ends of edges."""
    around = padded[:, :-1, :-1] + 2 * padded[:, :-1, 1:].view(np.uint8)
    around += 4 * padded[:, 1:, :-1].view(np.uint8)
    around += 8 * padded[:, 1:, 1:].view(np.uint8)
    number = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])[around]
    places = np.argwhere(number)
    kinds = around[tuple(places.T)]
    repeats = np.where(np.isin(kinds, DIAGONALS), 2, 1)
    places, kinds = np.repeat(places, repeats, axis=0), np.repeat(kinds, repeats)
    order = np.arange(len(places))
    size = around.shape
    corners = _Corners(places, order, order, order, (size[0], size[1], size[2]))
    keys = corners.key(*places.T)
    tie = np.where(kinds == DIAGONALS[0], -order, order)  # there, the left of the two corners is the lower one
    by_column = np.lexsort((tie, keys))
    vertical = np.empty_like(order)
    vertical[by_column[0::2]], vertical[by_column[1::2]] = by_column[1::2], by_column[0::2]
    corners.successors = np.where(LEAVES_SIDEWAYS[kinds], order ^ 1, vertical)
    corners.tops, corners.keys = by_column[0::2], keys[by_column[0::2]]
    return corners


def _join_holes(padded: NDArray[np.bool_], corners: _Corners) -> tuple[list[int], list[int]]:
    """Connect each hole's first corner to the next outline on its left.

    Returns:
        Successors, and the first corner of each polygon.
    """
    starts = np.unique(_first_of_ring(corners.successors))
    plane, row, column = corners.places[starts].T
    is_hole = ~padded[plane, row + 1, column + 1]
    holes, plane, row, column = starts[is_hole], plane[is_hole], row[is_hole], column[is_hole]
    if not holes.size:
        return corners.successors.tolist(), starts.tolist()
    # pairs of voxels above and below the channel; it ends at the nearest pair that is not filled
    open_pairs = ~(padded[plane, row] & padded[plane, row + 1])
    open_pairs &= np.arange(padded.shape[2]) <= column[:, None]
    target = padded.shape[2] - 1 - np.argmax(open_pairs[:, ::-1], axis=1)
    upper = np.where(padded[plane, row, target], row, row - 1)  # upper end of the voxel edge that is hit
    edge = np.searchsorted(corners.keys, corners.key(plane, upper, target), side="right") - 1
    top = corners.tops[edge]
    downwards = corners.places[corners.successors[top], 2] == target
    before = np.where(downwards, top, _predecessors(corners.successors)[top])
    channel = np.stack([plane, row, target], axis=1)
    _splice(corners, holes, before, channel)
    return corners.successors.tolist(), starts[~is_hole].tolist()


def _splice(corners: _Corners, holes: Integers, before: Integers, channel: Integers) -> None:
    """Insert each hole's ring and its channel after the corner `before`, in order along the edge."""
    order = np.lexsort((np.abs(channel[:, 1] - corners.places[before, 1]), before))
    holes, before, channel = holes[order], before[order], channel[order]
    count, first = len(holes), len(corners.places)
    back, into, out = (first + part * count + np.arange(count) for part in range(3))
    previous = _predecessors(corners.successors)[holes]
    corners.places = np.concatenate([corners.places, corners.places[holes], channel, channel])
    successors = np.concatenate([corners.successors, np.zeros(3 * count, dtype=np.int64)])
    successors[previous] = back  # the ring ends where it began, at an extra corner
    successors[back], successors[into] = out, holes
    shared = before[1:] == before[:-1]
    successors[out] = successors[before]
    successors[out[:-1][shared]] = into[1:][shared]
    heads = np.concatenate([[True], ~shared])
    successors[before[heads]] = into[heads]
    corners.successors = successors


def _predecessors(successors: Integers) -> Integers:
    result = np.empty_like(successors)
    result[successors] = np.arange(len(successors))
    return result


def _first_of_ring(successors: Integers) -> Integers:
    """Return the lowest corner in the ring of each corner, looking 1, 2, 4, ... corners ahead."""
    first, ahead = np.minimum(np.arange(len(successors)), successors), successors
    while True:
        ahead = ahead[ahead]
        lower = np.minimum(first, first[ahead])
        if np.array_equal(lower, first):
            return first
        first = lower


def _walk(successors: list[int], starts: list[int]) -> tuple[list[int], Integers]:
    """Follow each ring once; return its corners and the number per ring."""
    path: list[int] = []
    lengths = []
    for start in starts:
        passed = len(path)
        path.append(start)
        while (corner := successors[path[-1]]) != start:
            path.append(corner)
        lengths.append(len(path) - passed)
    return path, np.array(lengths)


def _without_needless_points(places: Integers, lengths: Integers) -> tuple[Integers, Integers]:
    """Remove repeated points, then points on straight lines."""
    for is_needless in (_repeats, _is_straight):
        following = _following(lengths)
        keep = ~is_needless(places, _predecessors(following), following)
        lengths = np.add.reduceat(keep.astype(np.int64), np.cumsum(lengths) - lengths)
        places = places[keep]
    return places, lengths


def _repeats(places: Integers, previous: Integers, _: Integers) -> NDArray[np.bool_]:
    return np.asarray((places == places[previous]).all(axis=1))


def _is_straight(places: Integers, previous: Integers, following: Integers) -> NDArray[np.bool_]:
    return np.asarray((np.sign(places - places[previous]) == np.sign(places[following] - places)).all(axis=1))


def _following(lengths: Integers) -> Integers:
    """Return the index of the next point of the same polygon, for concatenated polygons."""
    following = np.arange(1, int(lengths.sum()) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths
    return following


def fill_contours(contours: Sequence[Contour], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Mark voxels whose centres are inside the contours, by the even-odd rule.

    Args:
        contours: in planes of the grid; clipped to the grid.
        shape: voxels, order X, Y, Z.

    Returns:
        The mask `(X, Y, Z)`.
    """
    mask = np.zeros(shape, dtype=np.bool_)
    if not contours:
        return mask
    lengths = np.array([len(contour.points) for contour in contours])
    planes, which = np.unique([contour.plane for contour in contours], return_inverse=True)
    starts = np.concatenate([contour.points for contour in contours])
    ends = starts[_following(lengths)]
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.clip(np.ceil(low), 0, shape[1]).astype(np.int64)  # rows that an edge crosses: low <= row < high
    count = np.clip(np.ceil(high), 0, shape[1]).astype(np.int64) - first
    edge = np.repeat(np.arange(len(starts)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count - first, count)
    slope = (row - starts[edge, 1]) / (ends[edge, 1] - starts[edge, 1])
    crossing = starts[edge, 0] + slope * (ends[edge, 0] - starts[edge, 0])
    column = np.clip(np.ceil(crossing), 0, shape[0]).astype(np.int64)
    toggles = np.zeros((len(planes), shape[1], shape[0] + 1), dtype=np.uint8)
    np.add.at(toggles, (np.repeat(which, lengths)[edge], row, column), 1)
    inside = np.bitwise_xor.accumulate(toggles & 1, axis=2)[:, :, :-1]
    mask[:, :, planes] = inside.transpose(2, 1, 0)
    return mask


def fill_structure(
    contours: Sequence[Contour], exclusive: Sequence[bool], shape: tuple[int, int, int]
) -> tuple[NDArray[np.bool_], int | None]:
    """Mark the voxels of one structure: the union of its contours, inverted inside exclusive ones.

    Args:
        contours: as for `fill_contours`; keyholes stay holes.
        exclusive: for each contour, whether it inverts its inside.
        shape: voxels, order X, Y, Z.

    Returns:
        The mask `(X, Y, Z)`, and the voxel count by the even-odd rule over all contours, if its mask differs.
    """
    odd = fill_contours(contours, shape)
    mask = np.zeros(shape, dtype=np.bool_)
    for layer in _layers([one for one, turns in zip(contours, exclusive, strict=True) if not turns]):
        mask |= fill_contours(layer, shape)
    if any(exclusive):
        mask ^= fill_contours([one for one, turns in zip(contours, exclusive, strict=True) if turns], shape)
    return mask, None if np.array_equal(mask, odd) else int(np.count_nonzero(odd))


def _layers(contours: Sequence[Contour]) -> list[list[Contour]]:
    """Split contours into layers without overlapping boxes in any plane."""
    layers: list[list[Contour]] = []
    boxes: dict[tuple[int, int], list[NDArray[np.float64]]] = {}  # low and high corners, by layer and plane
    for contour in contours:
        box = np.concatenate([contour.points.min(axis=0), -contour.points.max(axis=0)])
        number = 0
        while others := boxes.get((number, contour.plane)):
            taken = np.array(others)
            if not np.any((taken < -np.roll(box, 2)).all(axis=1)):  # low < high on both axes, both ways
                break
            number += 1
        boxes.setdefault((number, contour.plane), []).append(box)
        if number == len(layers):
            layers.append([])
        layers[number].append(contour)
    return layers
