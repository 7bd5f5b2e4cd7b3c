"""Array and geometry."""

import numpy as np
import pytest

from unetpp_monai.errors import GeometryError, InputError
from unetpp_monai.volume import Volume, placed_on

ARRAY = np.zeros((1, 4, 5, 6), np.float32)


def test_geometry_of_an_oblique_grid():
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine[:3, :3] = affine[:3, :3] @ np.diag([-2.0, 0.5, 3.0])
    volume = Volume(ARRAY, affine)
    assert volume.shape == (4, 5, 6)
    assert volume.spacing == pytest.approx((2.0, 0.5, 3.0))
    assert volume.axcodes == ("L", "A", "S")
    assert volume.voxel_ml == pytest.approx(0.003)


def test_same_grid_is_about_the_corners():
    one = Volume(ARRAY, np.eye(4))
    shifted, stretched = np.eye(4), np.eye(4)
    shifted[0, 3] = 0.0005
    stretched[2, 2] = 1.001  # 6 voxels make 0.006 mm
    assert one.same_grid(Volume(ARRAY, shifted))
    assert not one.same_grid(Volume(ARRAY, stretched))
    assert not one.same_grid(Volume(ARRAY[..., :5], np.eye(4)))


def test_distance_of_grids_in_voxels():
    one = Volume(ARRAY, np.diag([-2.0, 3.0, 0.5, 1]))
    shifted, stretched = one.affine.copy(), one.affine.copy()
    shifted[0, 3], stretched[2, 2] = 0.1, 0.51
    assert one.grid_distance(one) == 0
    assert one.grid_distance(Volume(ARRAY, shifted)) == pytest.approx(0.05)
    assert one.grid_distance(Volume(ARRAY, stretched)) == pytest.approx(6 * 0.02)
    assert one.grid_distance(Volume(ARRAY[..., :5], one.affine)) == np.inf


def test_axis_flips_keep_the_place_of_a_voxel():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = 3
    flipped = Volume(ARRAY[:, ::-1], affine @ flip)
    np.testing.assert_allclose(flipped.affine @ [0, 0, 0, 1], affine @ [3, 0, 0, 1])
    assert flipped.axcodes == ("L", "A", "S")


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 4, 0, 6), (1, 1, 4, 5, 6)])
def test_wrong_arrays(shape):
    with pytest.raises(InputError, match="a volume must be"):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize(
    "affine",
    [np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan), np.eye(3), np.array([[1, 1, 0, 0]] * 2 + [[0, 0, 1, 0]] * 2)],
)
def test_wrong_affines(affine):
    with pytest.raises(GeometryError, match="affine must"):
        Volume(ARRAY, affine)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_a_part_is_placed_where_it_was(order, signs):
    affine = np.array([[0.0, -1.5, 0, 7], [0.7, 0, 0, -3], [0, 0, 2, 11], [0, 0, 0, 1]])
    grid = Volume(np.zeros((1, 9, 8, 7), np.uint8), affine)
    whole = np.zeros((1, 9, 8, 7), np.uint8)
    whole[:, 2:6, 1:4, 3:5] = np.random.default_rng(0).integers(1, 9, (1, 4, 3, 2))
    turn = np.eye(4)
    turn[:3, 3] = 2, 1, 3
    array = np.transpose(whole[:, 2:6, 1:4, 3:5], (0, *(axis + 1 for axis in order)))
    axes = np.zeros((4, 4))
    axes[3, 3] = 1
    for axis, (given, sign) in enumerate(zip(order, signs, strict=True)):
        axes[given, axis] = sign
        axes[given, 3] = array.shape[axis + 1] - 1 if sign < 0 else 0
        array = np.flip(array, axis + 1) if sign < 0 else array
    part = Volume(array, affine @ turn @ axes)
    found = placed_on(part, grid)
    assert np.array_equal(found.array, whole) and np.array_equal(found.affine, affine) and found.array.dtype == np.uint8
    shifted = part.affine.copy()
    shifted[0, 3] += 0.3
    assert placed_on(Volume(array, shifted), grid) is None  # between the voxels
    shifted[:3, 3] = part.affine[:3, 3] + 5 * affine[:3, 2]
    assert placed_on(Volume(array, shifted), grid) is None  # outside
    assert placed_on(Volume(array, part.affine @ np.diag([2.0, 1, 1, 1])), grid) is None
