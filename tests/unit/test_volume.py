"""Array and geometry."""

import numpy as np
import pytest

from unetpp_monai.errors import GeometryError, InputError
from unetpp_monai.volume import Volume

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
