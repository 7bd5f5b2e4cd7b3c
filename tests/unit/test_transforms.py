"""The mended `Spacingd`."""

import numpy as np
import pytest
import torch
from monai import transforms
from monai.data import MetaTensor

from unetpp_monai import memory
from unetpp_monai.errors import InputError
from unetpp_monai.inference.transforms import LargestComponentd, NormalizeChannelsd, PlanarLabelBoundaryd, Spacingd


def item(path="case.nii.gz"):
    meta = {"filename_or_obj": path, "affine": np.diag([2.0, 2.0, 2.0, 1.0])}
    return {"image": MetaTensor(torch.rand(1, 8, 8, 8), meta=meta), "image_path": path, "image_meta_dict": {}}


def test_string_entries_survive():
    data = item()
    with pytest.raises(AttributeError, match="no attribute 'update'"):  # the defect; when this fails, drop our class
        transforms.Spacingd("image", (1, 1, 1))(item())
    result = Spacingd("image", (1.0, 1.0, 1.0))(data)
    assert result["image"].shape == (1, 15, 15, 15)
    assert result["image_path"] == data["image_path"]
    assert result["image_meta_dict"]["filename_or_obj"] == "case.nii.gz"  # dictionaries are still updated


def test_inverse_restores_the_grid():
    step = Spacingd("image", (1.0, 1.0, 1.0))
    data = step(item())
    assert step.inverse(data)["image"].shape == (1, 8, 8, 8)


def test_a_grid_that_cannot_be_meant_is_refused_before_it_is_made(monkeypatch):
    """Lengths in another unit than the header says: too many voxels, or one."""
    for scale, message in (
        (1000.0, r"voxels of 1000 x 2000 x 1000 mm become a grid of 8000 x 16000 x 8000, which would need .* GiB"),
        (0.001, r"voxels of 0.001 x 0.002 x 0.001 mm become a grid of 1 x 1 x 1, .* check the unit of length"),
    ):
        image = MetaTensor(torch.rand(1, 8, 8, 8), meta={"affine": np.diag([scale, 2 * scale, scale, 1])})
        with pytest.raises(InputError, match=message):
            Spacingd("image", (1.0, 1.0, 1.0))({"image": image})
    monkeypatch.setattr(memory, "available_memory", lambda: 15**3 * 60 - 1)
    with pytest.raises(InputError, match="a grid of 16 x 16 x 16"):
        Spacingd("image", (1.0, 1.0, 1.0))(item())
    monkeypatch.setattr(memory, "available_memory", lambda: 16**3 * 60)
    assert Spacingd("image", (1.0, 1.0, 1.0))(item())["image"].shape == (1, 15, 15, 15)


def test_labels_meet_in_a_coronal_slice_of_any_grid():
    """Anterior is +Y in RAS; the border is where the fewest voxels change, whatever order the axes have."""
    labels = torch.zeros(1, 5, 9, 4, dtype=torch.uint8)
    labels[:, 1:4, 1:5, 1:3], labels[:, 1:4, 5:8, 1:3] = 2, 1
    labels[:, 4, 0, 3] = 3  # another label, which stays
    wanted = labels.clone()
    labels[:, 1, 4, 1], labels[:, 2, 6, 2] = 1, 2  # strays on either side
    step = PlanarLabelBoundaryd("pred", [1, 2])
    ras = MetaTensor(labels, meta={"affine": np.diag([2.0, 1.0, 1.0, 1.0])})
    for axcodes in ("RAS", "LPS", "SPL", "AIR", "PSR"):
        turn = transforms.Orientation(axcodes, labels=None)
        found = step({"pred": turn(ras), "other": 1})
        assert found["other"] == 1 and found["pred"].dtype == torch.uint8
        assert torch.equal(turn.inverse(found["pred"]).as_tensor(), wanted)


def test_what_a_user_marked_is_on_its_side_of_the_border():
    labels = torch.zeros(1, 5, 9, 4, dtype=torch.uint8)
    labels[:, 1:4, 1:5, 1:3], labels[:, 1:4, 5:8, 1:3] = 2, 1
    step = PlanarLabelBoundaryd("pred", [1, 2])
    ras = MetaTensor(labels, meta={"affine": np.diag([2.0, 1.0, 1.0, 1.0])})
    for axcodes in ("RAS", "LPS", "SPL", "PSR"):
        turn = transforms.Orientation(axcodes, labels=None)
        for marks, border in (
            ({2: [[4.0, 6.2, 1.0]]}, 7),
            ({1: [[2.0, 3.0, 1.0], [2.0, 5.0, 1.0]]}, 3),
            ({1: [[2.0, 0.0, 1.0]]}, 1),  # beyond the end: all
            ({0: [[4.0, 6.2, 1.0]], 2: [[2.0, 4.0, 2.0]]}, 5),
        ):
            data = {"pred": turn(ras), "pred_marks": {index: torch.tensor(at) for index, at in marks.items()}}
            found = turn.inverse(step(data)["pred"]).as_tensor()
            assert (found[:, 1:4, 1:border, 1:3] == 2).all() and (found[:, 1:4, border:8, 1:3] == 1).all()


@pytest.mark.parametrize("towards", "RLAPSI")
def test_labels_meet_in_a_plane_towards_any_side(towards):
    """Turned with the axes, the answer is the same: the first label is on the side that was named."""
    axis, back = "RLAPSI".index(towards) // 2, towards in "LPI"
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.uint8)
    near, far = (slice(0, 2), slice(2, 6)) if back else (slice(4, 6), slice(0, 4))
    labels.movedim(axis + 1, 0)[far], labels.movedim(axis + 1, 0)[near] = 2, 1
    wanted = labels.clone()
    labels.movedim(axis + 1, 0)[far][1, 0, 3, 3] = 1  # a stray
    step = PlanarLabelBoundaryd("pred", [1, 2], towards)
    assert torch.equal(step({"pred": MetaTensor(labels, meta={"affine": np.eye(4)})})["pred"].as_tensor(), wanted)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_border_needs_no_second_label(index):
    labels = MetaTensor(torch.full((1, 2, 3, 2), index, dtype=torch.uint8), meta={"affine": np.eye(4)})
    assert torch.equal(PlanarLabelBoundaryd("pred", [1, 2])({"pred": labels})["pred"], labels)


def channels(count=2, seed=0):
    return MetaTensor(
        torch.from_numpy(np.random.default_rng(seed).gamma(2.0, 100.0, (count, 6, 7, 8)).astype(np.float32))
    )


def test_without_rules_images_are_normalised_as_by_monai():
    image = channels()
    expected = transforms.NormalizeIntensityd("image", channel_wise=True)({"image": image.clone()})["image"]
    ours = NormalizeChannelsd("image")({"image": image.clone()})["image"]
    assert torch.equal(ours, expected)
    rules = [{"kind": "zscore", "mask": "all"}] * 2
    assert torch.equal(NormalizeChannelsd("image", rules)({"image": image.clone()})["image"], expected)


def test_intensities_with_a_unit_do_not_depend_on_the_rest_of_the_image():
    """Neither metal nor more air changes a voxel of an organ."""
    rule = {"kind": "clip", "lower": -20.0, "upper": 180.0, "mean": 80.0, "std": 40.0}
    image = torch.full((1, 10, 10, 10), -1000.0)
    image[0, 3:6, 3:6, 3:6] = torch.linspace(0, 160, 27).reshape(3, 3, 3)
    organ = NormalizeChannelsd("image", [rule])({"image": image.clone()})["image"][0, 3:6, 3:6, 3:6]
    torch.testing.assert_close(organ.flatten(), (torch.linspace(0, 160, 27) - 80) / 40)
    wider = torch.full((1, 10, 10, 40), -1000.0)
    wider[..., :10] = image
    wider[0, 8, 8, 8] = 3000
    found = NormalizeChannelsd("image", [rule])({"image": wider})["image"]
    assert torch.equal(found[0, 3:6, 3:6, 3:6], organ)
    assert (found.min(), found.max()) == (-2.5, 2.5)


def test_each_channel_has_its_rule_and_zeros_may_stay():
    image = channels(3)
    image[1, :3] = 0
    rules = [
        {"kind": "zscore", "mask": "all"},
        {"kind": "zscore", "mask": "nonzero"},
        {"kind": "clip", "lower": 0, "upper": 100, "mean": 50, "std": 10},
    ]
    found = NormalizeChannelsd("image", rules)({"image": image.clone()})["image"]
    assert abs(found[0].mean()) < 1e-5 and abs(found[0].std(correction=0) - 1) < 1e-5
    assert not found[1, :3].any() and abs(found[1, 3:].mean()) < 1e-5
    assert found[2].max() == 5
    with pytest.raises(InputError, match=r"an image must have 3 channels \(intensity\), got 2"):
        NormalizeChannelsd("image", rules)({"image": channels(2)})


@pytest.mark.parametrize("shape", [(1, 9, 9, 9), (1, 12, 9)])
def test_the_largest_piece_of_a_label_is_kept(shape):
    labels = torch.zeros(shape, dtype=torch.uint8)
    labels[0, :3, :3], labels[0, 3, 3] = 1, 1  # touches at a corner
    labels[0, 7:9, 7:9] = 1
    labels[0, 0, 6:8] = 2
    labels[0, 6, 0] = 2
    kept = LargestComponentd("pred", [1])({"pred": labels.clone()})["pred"]
    assert not kept[0, 7:9, 7:9].any() and torch.equal(kept[0, :4, :4], labels[0, :4, :4])
    assert torch.equal(kept == 2, labels == 2) and kept.dtype == torch.uint8
    both = LargestComponentd("pred", [1, 2])({"pred": MetaTensor(labels.clone())})["pred"]
    assert not both[0, 6, 0].any() and both[0, 0, 6:8].all()
    assert not LargestComponentd("pred", [1])({"pred": torch.zeros(shape)})["pred"].any()


@pytest.mark.parametrize("shape", [(1, 9, 9, 9), (1, 12, 9)])
def test_pieces_that_a_user_marked_are_kept_too(shape):
    labels = torch.zeros(shape, dtype=torch.uint8)
    labels[0, :3, :3], labels[0, 7:9, 7:9], labels[0, 5, 0] = 1, 1, 1
    affine = torch.diag(torch.tensor([-2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, 7.0, 9.0])
    position = (affine @ torch.tensor([7.8, 7.0, 0.0, 1.0], dtype=torch.float64))[: len(shape) - 1]
    marks = {1: position[None], 2: position[None]}
    item = {"pred": MetaTensor(labels, affine=affine), "pred_marks": marks}
    found = LargestComponentd("pred", [1, 2])(item)["pred"]
    wanted = labels.clone()
    wanted[0, 5, 0] = 0
    if len(shape) == 4:
        wanted[0, 7:9, 7:9] = 1
    assert torch.equal(found.as_tensor(), wanted)


def test_each_pair_of_labels_meets_in_a_slice_of_its_own():
    labels = torch.zeros(1, 8, 9, 4, dtype=torch.uint8)
    labels[:, 1:3, 1:4, 1:3], labels[:, 1:3, 4:8, 1:3] = 2, 1
    labels[:, 5:7, 1:6, 1:3], labels[:, 5:7, 6:8, 1:3] = 4, 3
    wanted = labels.clone()
    labels[:, 1, 2, 1], labels[:, 6, 7, 2] = 1, 4  # strays on either side
    ras = MetaTensor(labels, meta={"affine": np.eye(4)})
    both = PlanarLabelBoundaryd("pred", [[1, 2], [3, 4]])({"pred": ras})["pred"]
    assert torch.equal(both.as_tensor(), wanted)
    one = PlanarLabelBoundaryd("pred", [[3, 4]])({"pred": ras})["pred"]
    assert torch.equal(one[:, 5:].as_tensor(), wanted[:, 5:]) and torch.equal(one[:, :5].as_tensor(), labels[:, :5])
    assert torch.equal(
        PlanarLabelBoundaryd("pred", [1, 2])({"pred": ras})["pred"].as_tensor(),
        PlanarLabelBoundaryd("pred", [[1, 2]])({"pred": ras})["pred"].as_tensor(),
    )
