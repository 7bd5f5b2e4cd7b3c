"""What is marked gets its label, what is around it follows the nearest prompt, and slabs make no difference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unetpp_monai.interactive.reach as reach_module
from unetpp_monai.inference import Slab
from unetpp_monai.interactive.reach import CONTRAST, FAR, MARGIN, Marked, Reach

SHAPE, SIGMA = (20, 12, 10), (3.0, 3.0, 1.5)


def marked(label, *places):
    places = np.array(places, float)
    voxels = np.unique(np.clip(np.rint(places).astype(int), 0, np.array(SHAPE) - 1), axis=0)
    return Marked(label, label, voxels, places, voxels)


def image(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.5, (1, *SHAPE)).astype(np.float32))


def logits(labels=3, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (labels, *SHAPE)).astype(np.float32))


def corrected(reach, found, *, rows=SHAPE[0]):
    slabs = [Slab(start, found[:, start : start + rows]) for start in range(0, SHAPE[0], rows)]
    results = list(reach.over(slabs))
    assert [slab.start for slab in results] == [slab.start for slab in slabs] and all(s.maps is None for s in results)
    return torch.cat([slab.logits for slab in results], 1)


PROMPTS = (
    marked(1, (4, 5, 5)),
    marked(2, (6.4, 5.2, 5.0)),
    marked(0, *[(x, 9.0, 2.0) for x in np.arange(3, 17, 0.5)]),
    marked(2, (-0.4, 11.3, 9.2)),
)


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_marked_voxels_have_their_label_whatever_the_slabs(rows):
    reach = Reach(image(), SIGMA)
    reach.follow(PROMPTS)
    found = logits()
    kept = found.clone()
    result = corrected(reach, found, rows=rows)
    assert torch.equal(found, kept)  # windows that are held stay as they are
    assert torch.allclose(result, corrected(reach, found), atol=1e-5)
    for prompt in PROMPTS:
        there = result[(slice(None), *torch.from_numpy(prompt.voxels).T)]
        others = there.clone()
        others[prompt.label] = -torch.inf
        assert (there[prompt.label] - others.max(0).values >= MARGIN - 1e-4).all()


def test_what_interpolation_mixes_has_the_label_too():
    reach = Reach(image(), SIGMA)
    reach.follow([marked(2, (6.4, 5.5, 4.2))])
    labels = corrected(reach, logits()).argmax(0)
    assert (labels[6:8, 5:7, 4:6] == 2).all()


def test_weights_are_those_of_the_kernel():
    picture, reach = image(), Reach(image(), SIGMA)
    reach.follow([marked(1, (9, 5, 5))])
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    far = (((at - np.array([9, 5, 5]).reshape(3, 1, 1, 1)) / np.array(SIGMA).reshape(3, 1, 1, 1)) ** 2).sum(0)
    differs = (picture[0].numpy() - float(picture[0, 9, 5, 5])) ** 2 / CONTRAST**2
    wanted = np.exp(-(far + differs) / 2)
    wanted[wanted <= np.exp(-(FAR**2) / 2)] = 0
    assert np.allclose(reach.weight, wanted, atol=1e-6) and reach.weight[9, 5, 5] == 1


def test_the_nearest_voxel_of_a_scribble_counts_and_little_memory_gives_the_same(monkeypatch):
    scribble = marked(1, *[(x, 3.0, 2.0) for x in range(2, 18)], *[(17.0, y, 7.0) for y in range(3, 9)])
    whole = Reach(torch.zeros(1, *SHAPE), SIGMA)  # without intensities the nearest one has the highest weight
    whole.follow([scribble])
    singles = Reach(torch.zeros(1, *SHAPE), SIGMA)
    singles.follow([marked(1, place) for place in scribble.places])
    assert np.allclose(whole.weight, singles.weight, atol=1e-6)
    textured = Reach(image(), SIGMA)
    textured.follow([scribble])
    monkeypatch.setattr(reach_module, "AT_ONCE", 200)
    pieces = Reach(image(), SIGMA)
    pieces.follow([scribble])
    assert np.array_equal(pieces.weight, textured.weight)


def test_a_voxel_follows_its_nearest_prompt_in_any_order():
    results = []
    for prompts in (PROMPTS, PROMPTS[::-1]):
        reach = Reach(image(), SIGMA)
        reach.follow(prompts)
        results.append(corrected(reach, logits()))
    assert torch.allclose(*results, atol=1e-5)


def test_prompts_that_go_leave_nothing():
    reach, fresh = Reach(image(), SIGMA), Reach(image(), SIGMA)
    for prompts in (PROMPTS[:1], PROMPTS, PROMPTS[:2]):
        reach.follow(prompts)
    fresh.follow(PROMPTS[:2])
    assert np.array_equal(reach.weight, fresh.weight) and np.array_equal(reach.number, fresh.number)
    reach.follow(())
    assert torch.equal(corrected(reach, logits()), logits())


def test_a_click_where_the_network_is_right_protects_what_is_around():
    found = torch.zeros(2, *SHAPE)
    found[0] = 1  # the background everywhere, narrowly
    found[1, 10:] = 6  # but here, where it is surely 1
    reach = Reach(torch.zeros(1, *SHAPE), SIGMA)
    reach.follow([marked(1, (7, 5, 5))])
    grown = (corrected(reach, found)[:, :10].argmax(0) == 1).sum()
    reach.follow([marked(1, (7, 5, 5)), marked(0, (4, 5, 5))])
    spared = (corrected(reach, found)[:, :10].argmax(0) == 1).sum()
    reach.follow([marked(1, (13, 5, 5))])
    assert torch.equal(corrected(reach, found), found) and 8 < spared < grown


def test_logits_without_prompts_say_how_much_is_missing():
    """A network that obeys in the ball only still moves its surroundings."""
    bare = torch.zeros(2, *SHAPE)
    bare[0] = 3
    prompted = bare.clone()
    prompted[1, 9:12, 4:7, 4:7] = 9
    reach = Reach(torch.zeros(1, *SHAPE), SIGMA)
    reach.follow([marked(1, (10, 5, 5))])
    alone = next(reach.over([Slab(0, prompted)])).logits.argmax(0).sum()
    with_both = next(reach.over([Slab(0, prompted, bare)])).logits.argmax(0).sum()
    assert alone == 27 < with_both


def test_slabs_come_once_nothing_can_change_them():
    reach, given = Reach(image(), SIGMA), []
    reach.follow([marked(1, (15, 5, 5))])

    def slabs():
        for start in range(0, SHAPE[0], 2):
            given.append(start)
            yield Slab(start, logits()[:, start : start + 2])

    seen = [(slab.start, given[-1]) for slab in reach.over(slabs())]
    assert seen[:4] == [(0, 0), (2, 2), (4, 4), (6, 6)]  # before any that it reaches, from row 8
    assert seen[4:] == [(8, 14), (10, 14), (12, 14), (14, 14), (16, 16), (18, 18)]


def test_what_has_an_outline_changes_nothing_around_it():
    reach = Reach(torch.zeros(1, *SHAPE), SIGMA)
    reach.follow([replace(marked(1, (5, 5, 5), (6, 5, 5)), spread=False)])
    found = torch.zeros(2, *SHAPE)
    found[0] = 0.1
    assert corrected(reach, found).argmax(0).nonzero().tolist() == [[5, 5, 5], [6, 5, 5]]


def test_slices_have_two_axes():
    reach = Reach(torch.zeros(2, 16, 16), (2.0, 2.0))
    place = np.array([[5.0, 6.0]])
    reach.follow([Marked(1, 0, place.astype(int), place, place.astype(int))])
    found = torch.zeros(2, 16, 16)
    found[0] = 1
    (slab,) = reach.over([Slab(0, found)])
    assert slab.logits.argmax(0)[5, 6] == 1 and slab.logits.argmax(0)[12, 12] == 0
