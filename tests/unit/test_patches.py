"""Patches to train on hold the structures as often as they are told to."""

from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from unetpp_monai.inference.patches import RandForegroundCropd


def case(shape=(40, 36, 30)):
    """A large structure 1, a small 2, and an image whose voxels say where they are."""
    label = torch.zeros(1, *shape)
    label[0, 5:25, 5:25, 5:20] = 1
    label[0, -1, -1, -1] = 2
    return {"image": torch.arange(label.numel()).reshape(label.shape).float(), "label": MetaTensor(label)}


def crop(share, seed=0, size=(16, 16, 8)):
    return RandForegroundCropd(["image", "label"], "label", size, share).set_random_state(seed)


def test_patches_are_cut_at_one_place_and_have_their_size():
    data, cut = case(), crop(0.5)
    for _ in range(50):
        patch = cut(data)
        assert patch["image"].shape == patch["label"].shape == (1, 16, 16, 8)
        place = torch.unravel_index(patch["image"][0, 0, 0, 0].long(), data["image"].shape)[1:]
        slices = tuple(slice(int(a), int(a) + b) for a, b in zip(place, (16, 16, 8), strict=True))
        assert torch.equal(patch["label"].as_tensor()[0], data["label"].as_tensor()[0][slices])


@pytest.mark.parametrize("share", [0.33, 0.66, 1.0])
def test_structures_are_drawn_alike_however_small(share):
    found, cut, data = Counter(), crop(share), case()
    for _ in range(200):
        found.update(cut(data)["label"].unique().tolist())
    assert found[2] / 200 == pytest.approx(share / 2, abs=0.1)
    assert found[1] / 200 >= share / 2 - 0.1


def test_without_a_structure_any_place_will_do():
    data = {"image": torch.zeros(1, 20, 20), "label": torch.zeros(1, 20, 20)}
    patch = RandForegroundCropd(["image", "label"], "label", (8, 12), 1.0)(data)
    assert patch["label"].shape == (1, 8, 12)


def test_places_are_drawn_over_the_whole_image():
    cut, places, data = crop(0.0), [], case()
    for _ in range(200):
        places.append(np.unravel_index(int(cut(data)["image"][0, 0, 0, 0]), (40, 36, 30)))
    low, high = np.min(places, 0), np.max(places, 0)
    assert low.tolist() == [0, 0, 0] and high.tolist() == [24, 20, 22]
