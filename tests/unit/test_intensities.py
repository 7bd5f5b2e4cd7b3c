"""Intensities that float32 or a mean of 0 would turn into others."""

import numpy as np
import pytest

from unetpp_monai.errors import InputError
from unetpp_monai.intensities import check_intensities

BASE = np.clip(80 + 30 * np.random.default_rng(0).standard_normal((1, 40, 40, 40)), 0, 255).astype(np.int16)


def filled(value, share, dtype=np.float32):
    array = BASE.astype(dtype)
    array.reshape(-1)[: max(1, int(share * array.size))] = value
    return array


@pytest.mark.parametrize(
    "array",
    [
        BASE,
        BASE.astype(np.uint8),
        BASE.astype(np.float64) * 1e-9,
        BASE.astype(np.float64) * 1e9,
        BASE.astype(np.int32) + 10**6,
        BASE.astype(np.uint64) + 2**24 - 255,
        BASE.astype(np.float32) + 1e5,
        BASE.astype(np.float64) - 1024,
        filled(255, 0.9),  # most of it background
        filled(2000, 0.001),  # a vessel
        np.full_like(BASE, 7),
        np.where(BASE > 80, 1000, 0),
        np.exp(np.random.default_rng(0).normal(0, 1.3, BASE.shape)),  # a long tail, as PET has
        np.arange(118).repeat(500).reshape(1, 59, 50, 20),  # labels of many structures
    ],
    ids=range(14),
)
def test_intensities_that_images_have(array):
    check_intensities(array, "x")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (BASE.astype(np.float64) * 1e40, "must be within"),
        (BASE.astype(np.float64) * 1e-40, "must be within"),
        (BASE.astype(np.float32) * np.float32(1e30), "must be within"),
        (BASE.astype(np.int32) + 10**9, "tell 4096 levels apart"),
        (BASE.astype(np.uint32) + 4 * 10**9, "tell 4096 levels apart"),
        (BASE.astype(np.int64) - 2**53, "must be within"),
        (BASE.astype(np.uint64) + 2**40, "must be within|tell 4096 levels"),
        (BASE * 1e-6 + 1, "tell 4096 levels apart"),
        (filled(-3.4028235e38, 0), "must be within"),
        (filled(9.97e36, 0.5), "must be within"),
        (filled(-32768, 0, np.int16), "a few voxels must not rule an image, got 1 of 64000"),
        (filled(65535, 0.1, np.uint16), "a few voxels must not rule an image"),
        (filled(-1e6, 0.5), "a few voxels must not rule an image"),
        (filled(1e9, 0.9), "a few voxels must not rule an image"),
    ],
    ids=range(14),
)
def test_intensities_that_would_become_others(array, message):
    with pytest.raises(InputError, match=message) as caught:
        check_intensities(array, "x.nii")
    assert "x.nii" in str(caught.value)


def test_a_channel_is_judged_by_itself():
    check_intensities(np.concatenate([BASE, BASE.astype(np.int32) * 1000]), "x")
    with pytest.raises(InputError, match="rule an image"):
        check_intensities(np.concatenate([BASE, filled(-32768, 0, np.int16)]), "x")
