"""Prompts on the network's grid: what is drawn, what a training draws, and that without them nothing changes."""

import tracemalloc

import numpy as np
import pytest
import torch

from unetpp_monai.errors import InputError
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.prompts import MARKED, NO_MARK, ball, core, line, mark, no_marks, prompt_maps
from unetpp_monai.training import PromptedBatch
from unetpp_monai.training.initial_weights import InitialWeights
from unetpp_monai.training.prompting import largest_piece, point, scribble

PIXDIM = (1.0, 1.0, 1.0)


def network(prompts=0, dims=3, block="plain", seed=0, channels=1):
    features = [8, 8, 8]
    return UNetPlusPlus(dims, channels, 3, features, block=block, prompt_channels=prompts, seed=seed).eval()


def organ(shape=(16, 16, 16)):
    label = torch.zeros(2, 1, *shape)
    label[:, :, 4:12, 4:12, 3:8] = 1
    label[:, :, 4:12, 4:12, 8:13] = 2
    return label


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize(("dims", "channels"), [(2, 3), (3, 1)])
def test_automatic_weights_begin_an_interactive_network_bit_for_bit(tmp_path, caplog, dims, channels, block):
    automatic = network(dims=dims, block=block, channels=channels, seed=1)
    torch.save(automatic.state_dict(), tmp_path / "model.pt")
    interactive = network(3, dims=dims, block=block, channels=channels)
    caplog.set_level("INFO", "unetpp_monai.training.initial_weights")
    InitialWeights(tmp_path / "model.pt", interactive)()
    assert "first convolution without 3 prompt channels: new" in caplog.messages[-1]
    image = torch.rand(2, channels, *[17] * dims)
    marked = torch.cat([image, torch.ones(2, 3, *[17] * dims)], 1)
    with torch.no_grad():
        for depth in (1, 2):
            assert torch.equal(interactive(image, depth), automatic(image, depth))
            assert not torch.allclose(interactive(marked, depth), automatic(image, depth), atol=1e-2)


def test_an_image_without_prompts_is_one_whose_prompts_are_zero():
    interactive = network(3)
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            interactive(image), interactive(torch.cat([image, torch.zeros(1, 3, 16, 16, 16)], 1))
        )
        assert not torch.equal(interactive(image), interactive(torch.cat([image, torch.ones(1, 3, 16, 16, 16)], 1)))
    for wrong in (2, 3, 5):
        with pytest.raises(ValueError, match=r"images must be \(B, 1, "):
            interactive(torch.rand(1, wrong, 16, 16, 16))
    with pytest.raises(ValueError, match="as many image and prompt channels together as it gives"):
        UNetPlusPlus(2, 1, 2, [4, 8], block="residual", prompt_channels=3)


def test_balls_are_round_in_mm_and_lines_have_no_gaps():
    assert len(ball(0.0, PIXDIM)) == 1 and len(ball(1.5, PIXDIM)) == 19
    assert {tuple(offset) for offset in ball(3.0, (3.0, 1.5, 10.0))} >= {(1, 0, 0), (0, -2, 0)}
    assert not ball(3.0, (1.0, 1.0, 10.0))[:, 2].any()
    voxels = line(np.array([[0.0, 0.0, 0.0], [7.0, 3.0, 1.0], [7.0, 9.0, 1.0]]))
    assert tuple(voxels[0]) == (0, 0, 0) and tuple(voxels[-1]) == (7, 9, 1)
    assert (np.abs(np.diff(voxels, axis=0)).max(1) == 1).all()
    assert line(np.array([[2.2, 3.9]])).tolist() == [[2, 4]]


def test_many_voxels_are_marked_with_little_memory():
    voxels = np.stack(np.unravel_index(np.arange(200_000), (80, 80, 80)), -1)
    tracemalloc.start()
    marks = no_marks((80, 80, 80))
    mark(marks, voxels, 1, ball(3.0, PIXDIM))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert marks.any() and peak < 150e6  # bytes; all at once takes 1.2e9


def test_the_latest_mark_of_a_voxel_counts_and_ends_of_the_grid_cut():
    marks = no_marks((6, 6, 6))
    mark(marks, np.array([[0, 0, 0], [5, 9, 5]]), 0, ball(1.0, PIXDIM))
    mark(marks, np.array([[1, 0, 0]]), 2, ball(0.0, PIXDIM))
    maps = prompt_maps(marks, 3)
    assert maps.shape == (3, 6, 6, 6) and maps.dtype == np.float32
    assert (maps.sum((1, 2, 3)) / MARKED).tolist() == [3, 0, 1]
    assert marks[1, 0, 0] == 2 and (marks != NO_MARK).sum() == 4


def test_a_core_is_what_lies_deep():
    mask = np.zeros((20, 20), bool)
    assert not core(mask).any()
    mask[:9, 4:13] = True  # it reaches the end of the image
    expected = np.zeros_like(mask)
    expected[2:7, 6:11] = True
    assert (core(mask) == expected).all()
    assert core(np.ones((5, 5, 5), bool)).sum() == 27


def batch_of(network, seed=0, **options):
    torch.manual_seed(seed)
    values = {
        "labels": (0, 1, 2),
        "radius": 1.0,
        "pixdim": PIXDIM,
        "share": 1.0,
        "rounds": 2,
        "scribbles": 0.5,
        "jitter": 1,
    }
    prompted = PromptedBatch(network, lambda images, net: net(images), **{**values, **options})
    return prompted({"image": torch.rand(2, 1, 16, 16, 16), "label": organ()})


def test_a_training_without_prompts_is_left_alone():
    state = torch.manual_seed(3).get_state()
    prompted = PromptedBatch(network(), None)
    item = {"image": torch.rand(2, 1, 16, 16, 16), "label": organ()}
    before = torch.get_rng_state()
    image, label = prompted(item)
    assert torch.equal(image, item["image"]) and torch.equal(label, item["label"])
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(before, state)


def test_prompts_say_what_is_true_where_the_network_is_wrong():
    net = network(3).train()
    seen, true = 0, organ()[:, 0]
    for seed in range(8):
        image, label = batch_of(net, seed, radius=0.0)
        assert image.shape == (2, 4, 16, 16, 16) and net.training and torch.equal(label, organ())
        for channel in range(3):
            marked = image[:, 1 + channel] == MARKED
            assert (true[marked] == channel).all()
            seen += int(marked.sum())
        assert torch.equal(image, batch_of(net, seed, radius=0.0)[0])  # of chance that repeats
    assert seen > 16
    assert not batch_of(net, share=0.0)[0][:, 1:].any()


def test_steps_without_prompts_may_learn_what_the_automatic_network_finds(tmp_path):
    automatic, interactive = network(seed=1), network(3)
    torch.save(automatic.state_dict(), tmp_path / "model.pt")
    image, label = batch_of(interactive, share=0.0, automatic=tmp_path / "model.pt")
    with torch.no_grad():
        assert torch.equal(label[:, 0], automatic(image[:, :1]).argmax(1).float()) and label.dtype == torch.float32
    assert torch.equal(batch_of(interactive, automatic=tmp_path / "model.pt")[1], organ())
    torch.save(UNetPlusPlus(3, 1, 2, [8, 8, 8]).state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"keep_automatic needs weights that fit, got .*heads of 2 labels"):
        batch_of(interactive, share=0.0, automatic=tmp_path / "model.pt")


def test_who_sees_no_error_gives_no_prompt():
    class Perfect(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(organ()[:, 0].long(), 3).movedim(-1, 1).float()

    torch.manual_seed(0)
    none = sum(not batch_of(Perfect(), seed, rounds=1)[0][:, 1:].any() for seed in range(12))
    assert 4 < none < 12  # the others scribble first, right or wrong


def test_points_and_scribbles_lie_where_they_may():
    rng = np.random.default_rng(0)
    mask = np.zeros((12, 12, 12), bool)
    mask[2:9, 3:8, 4] = mask[0, 0, 0] = True
    piece, size = largest_piece(mask)
    assert size == 35 and piece.sum() == 35 and largest_piece(mask & False)[1] == 0
    for _ in range(20):
        assert mask[tuple(point(piece, mask, rng, jitter=2)[0])]
        voxels = scribble(piece, mask, rng)
        assert len(voxels) and mask[tuple(voxels.T)].all()
