"""Contours: what lies within them is the mask again, for rasterisers that know nothing of ours."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage

from unetpp_monai.dicom.contours import Contour, fill_contours, trace_contours


def plane(*rows):
    """A mask `(X, Y, 1)` drawn as text."""
    return np.array([[character == "#" for character in row] for row in rows]).T[:, :, None]


PICTURES = {
    "one voxel": plane("#"),
    "diagonal": plane("#.", ".#"),
    "other diagonal": plane(".#", "#."),
    "ring": plane("###", "#.#", "###"),
    "island in a hole": plane("#####", "#...#", "#.#.#", "#...#", "#####"),
    "hole that touches the outside": plane("####", "#.##", "##.#", "###."),
    "holes that touch": plane("#####", "#.###", "##.##", "###.#", "#####"),
    "holes behind one another": plane("#######", "#.#.#.#", "#######"),
    "holes above one another": plane("###", "#.#", "###", "#.#", "###", "#.#", "###"),
    "a hole beside two edges": plane("####.", "#..##", "#####", "##.##", "#####"),
    "chequers": plane("#.#.#", ".#.#.", "#.#.#"),
    "rings in rings": plane("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"),
}


def winding(points, place):
    """How often a polygon goes around a place: the sum of the angles under which its edges are seen."""
    rays = (points - place) @ (1, 1j)
    return round(np.angle(np.roll(rays, -1) / rays).sum() / (2 * np.pi))


def check(mask):
    contours = trace_contours(mask)
    np.testing.assert_array_equal(fill_contours(contours, mask.shape), mask)
    covered, wound = np.zeros(mask.shape, int), np.zeros(mask.shape, int)
    centres = np.argwhere(np.ones(mask.shape[:2]))
    for contour in contours:
        points = contour.points
        inside = Polygon(np.vstack([points, points[:1]])).contains_points(centres)
        covered[:, :, contour.plane] += inside.reshape(mask.shape[:2])
        turns = [winding(points, centre) for centre in centres]
        wound[:, :, contour.plane] += np.reshape(turns, mask.shape[:2])
    np.testing.assert_array_equal(covered, mask)  # even-odd, and no voxel lies within two
    np.testing.assert_array_equal(np.abs(wound), mask)  # non-zero


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name):
    mask = PICTURES[name]
    check(mask)
    check(np.pad(mask, ((2, 1), (0, 3), (1, 2))))
    check(mask.transpose(1, 0, 2))
    check(mask[::-1])


@settings(max_examples=300, deadline=None)
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9), fill=st.nothing()))
@pytest.mark.slow
def test_random_masks(mask):
    check(mask)


@settings(max_examples=100, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3)), fill=st.nothing()),
    st.integers(0, 2),
)
@example(np.ones((4, 3, 2), bool), 1)
def test_lines_are_closed_short_and_one_per_piece(mask, thicken):
    mask = mask.repeat(thicken + 1, 0).repeat(thicken + 1, 1)
    contours = trace_contours(mask)
    for index in range(mask.shape[2]):
        pieces = ndimage.label(mask[:, :, index])[1]  # joined by sides, not by corners
        assert sum(contour.plane == index for contour in contours) == pieces
    area = 0
    for contour in contours:
        steps = np.roll(contour.points, -1, axis=0) - contour.points
        assert ((steps != 0).sum(axis=1) == 1).all()  # along x or y, no point twice
        turns = np.cross(np.pad(steps, ((0, 0), (0, 1))), np.pad(np.roll(steps, -1, axis=0), ((0, 0), (0, 1))))[:, 2]
        assert (turns != 0).all()  # no point on a straight line
        assert (contour.points % 1 == 0.5).all()
        x, y = contour.points.T
        area += abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == mask.sum()


@pytest.mark.parametrize("seed", range(5))
def test_polygons_of_others_are_filled_by_the_even_odd_rule(seed):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-4, 24, (count, 2)) for count in (3, 5, 9)]  # crossing themselves, each other, the border
    contours = [Contour(number // 2, points) for number, points in enumerate(polygons)]
    shape = (19, 17, 3)
    expected = np.zeros(shape, bool)
    centres = np.argwhere(np.ones(shape[:2]))
    for contour in contours:
        path = Polygon(np.vstack([contour.points, contour.points[:1]]))
        expected[:, :, contour.plane] ^= path.contains_points(centres).reshape(shape[:2])
    assert expected.any(axis=(0, 1)).tolist() == [True, True, False]
    np.testing.assert_array_equal(fill_contours(contours, shape), expected)


def test_nothing():
    assert trace_contours(np.zeros((3, 4, 5), bool)) == []
    assert not fill_contours([], (3, 4, 5)).any()
