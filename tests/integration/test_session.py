"""Clicks and scribbles on one image: exact whatever was computed before, undone exactly, in the patient's space."""

import hashlib
import json
import shutil

import numpy as np
import pydicom
import pytest
from helpers import BUNDLE, phantom
from helpers.dicom_phantoms import make_series
from helpers.interactive import interactive_bundle, restate, tiny_interactive
from helpers.reports import valid_report

from unetpp_monai import Segmenter, Volume
from unetpp_monai.annotation.corrections import Clicks, Corrected, Corrections, clicks_of
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.interactive import InitialLabels, Point, Scribble
from unetpp_monai.interactive.marking import MOST_POSITIONS
from unetpp_monai.interactive.session import MOST_PROMPTS
from unetpp_monai.pieces import components
from unetpp_monai.prompts import core
from unetpp_monai.workflows.request import Request
from unetpp_monai.workflows.segment import segment_case

SHAPE = (22, 30, 20)  # 2 x 3 x 2 windows of 16 voxels, which are 1 mm and not resampled
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1.0, 0, -31], [0, 0, 1.0, 7], [0, 0, 0, 1]])  # the first axis points left


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_interactive(tmp_path_factory.mktemp("interactive") / "made")


@pytest.fixture(scope="module")
def segmenter(root):
    return Segmenter.from_bundle(root, device="cpu", runtime="eager")


@pytest.fixture(scope="module")
def volume():
    return Volume(phantom(SHAPE)[0][None], AFFINE)


def at(volume, *voxel):
    return tuple((volume.affine @ [*voxel, 1])[:3])


def prompts_of(volume):
    path = [at(volume, 8, 8, 8), at(volume, 14, 8, 9), at(volume, 14, 18, 9)]
    return [
        Point(at(volume, 5, 6, 7), "posterior hippocampus"),
        Scribble(np.array(path), "background"),
        Point(at(volume, 18, 27, 16), 1),
        Point(at(volume, 11, 15, 10), 0),
    ]


@pytest.mark.slow
def test_without_prompts_it_is_what_the_automatic_bundle_gives(tmp_path):
    automatic = Segmenter.from_bundle(BUNDLE, device="cpu", runtime="eager")
    interactive = Segmenter.from_bundle(interactive_bundle(tmp_path / "made"), device="cpu", runtime="eager")
    volume = Volume(phantom((34, 50, 36))[0][None], AFFINE)
    session = interactive.session(volume)
    for depth in (1, "full"):
        expected = automatic(volume, depth=depth).labels
        assert np.array_equal(interactive(volume, depth=depth).labels.array, expected.array)
        found = session.labels(depth)
        assert np.array_equal(found.array, expected.array) and found.same_grid(volume) and found.array.any()
    session.add(Point(at(volume, 17, 25, 18), 0))
    assert not np.array_equal(session.labels("full").array, found.array)


@pytest.mark.slow
def test_a_click_is_on_its_side_of_the_plane_between_labels(tmp_path):
    root = interactive_bundle(tmp_path / "made", strength=0, reach=0)
    segmenter = Segmenter.from_bundle(root, device="cpu", runtime="eager")
    volume = Volume(phantom((34, 50, 36))[0][None], AFFINE)
    session = segmenter.session(volume)
    before = session.labels(1).array[0]
    (first,) = np.argwhere(before == 1)[:1]
    ahead = int(np.argwhere(before == 1)[:, 1].min())  # the first slice of the anterior part
    session.add(Point(at(volume, int(first[0]), ahead + 2, int(first[2])), 2))
    after = session.labels(1).array[0]
    assert ((before > 0) == (after > 0)).all() and np.argwhere(after == 1)[:, 1].min() == ahead + 3
    session.undo()
    assert np.array_equal(session.labels(1).array[0], before)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 0.9), (0.4, 2.5, 1.0)])
@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1)])
def test_a_clicked_voxel_has_its_label_whatever_the_grid(segmenter, spacing, turn):
    affine = np.zeros((4, 4))
    affine[turn, range(3)] = np.array(spacing) * (-1, 1, -1)
    affine[:, 3] = 12.3, -40.1, 7.7, 1
    shape = tuple(round(20 / length) for length in spacing)
    volume, rng = Volume(phantom(shape)[0][None], affine), np.random.default_rng(0)
    session, clicked = segmenter.session(volume), {}
    for label in (0, 1, 2, 0):  # two sides of a plane are another rule
        voxel = tuple(int(rng.integers(0, size)) for size in shape)
        clicked[voxel] = label if label == 0 else 1
        session.add(Point(session.position(voxel), clicked[voxel]))
        for depth in (1, "full"):
            found = session.labels(depth).array[0]
            assert {place: int(found[place]) for place in clicked} == clicked


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (0.5, 0.5, 0.5), (2.0, 1.0, 1.0)])
def test_every_position_in_a_voxel_is_that_voxel(segmenter, spacing):
    shape = tuple(round(20 / length) for length in spacing)
    volume, rng = Volume(phantom(shape)[0][None], np.diag([*spacing, 1])), np.random.default_rng(0)
    session, clicked = segmenter.session(volume), {}
    for number in range(8):
        voxel = (
            tuple(int(rng.integers(0, size)) for size in shape) if number % 2 else (3, 4, (shape[2] - 1) * number // 6)
        )
        clicked[voxel] = number // 2 % 2
        session.add(Point(session.position(np.add(voxel, rng.uniform(-0.49, 0.49, 3))), clicked[voxel]))
    beside = (clicked_x := next(iter(clicked)))[0] + 1, *clicked_x[1:]
    clicked[beside] = 1 - clicked[clicked_x]  # where both are in one voxel of the network
    session.add(Point(session.position(beside), clicked[beside]))
    found = session.labels(1).array[0]
    assert {place: int(found[place]) for place in clicked} == clicked
    line = np.array([session.position((1, 2, 0)), session.position((5, 9, shape[2] - 1))])
    session.add(Scribble(line, 0))
    session.add(Scribble(line, 1))
    found, along = session.labels(1).array[0], np.linspace((1, 2, 0), (5, 9, shape[2] - 1), 12)
    assert all(found[tuple(voxel)] == 1 for voxel in np.rint(along).astype(int))


def test_a_click_where_the_image_was_cut_off_is_refused(tmp_path):
    root = tiny_interactive(tmp_path / "made")
    restate(root, crop_foreground=True)
    array = np.zeros((24, 24, 24), np.float32)
    array[8:18, 6:16, 8:18] = np.random.default_rng(0).normal(5, 1, (10,) * 3)
    segmenter = Segmenter.from_bundle(root, device="cpu", runtime="eager")
    for affine in (np.diag([1, 1, 1, 1.0]), np.diag([-0.5, 0.5, 0.5, 1])):
        session = segmenter.session(Volume(array[None], affine))
        for voxel in ((8, 10, 12), (17, 10, 12), (12, 6, 12), (12, 15, 12)):
            session.add(Point(session.position(voxel), 1))
            assert session.labels(1).array[0][voxel] == 1
        for voxel in ((7, 10, 12), (18, 10, 12), (12, 5, 12), (12, 16, 12)):
            with pytest.raises(InputError, match="positions must be inside the foreground crop"):
                session.add(Point(session.position(voxel), 1))
        line = [session.position((12, 10, 0)), session.position((12, 10, 23))]  # what is inside counts
        session.add(Scribble(np.array(line), 1))
        assert (session.labels(1).array[0, 12, 10] == 1).sum() == 10


def test_far_reach_takes_no_other_click(tmp_path, volume):
    root = tiny_interactive(tmp_path / "made")
    restate(root, prompt_reach=1e6)
    session = Segmenter.from_bundle(root, device="cpu", runtime="eager").session(volume)
    session.add(Point(at(volume, 5, 6, 7), 1))
    session.add(Point(at(volume, 15, 20, 12), 0))
    found = session.labels(1).array[0]
    assert (found[5, 6, 7], found[15, 20, 12]) == (1, 0)


def test_what_ends_in_the_middle_leaves_the_session_as_it_was(segmenter, volume, monkeypatch):
    session = segmenter.session(volume)
    session.add(Point(at(volume, 5, 6, 7), 1))
    before = session.labels(1).array
    session.add(Point(at(volume, 15, 20, 12), 0))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("unetpp_monai.interactive.reach.product", lambda *_, **__: raises(KeyboardInterrupt))
        session.labels(1)
    session.undo()
    assert np.array_equal(session.labels(1).array, before)


def raises(error):
    raise error


@pytest.mark.slow
def test_what_a_click_marks_is_no_small_piece(tmp_path):
    root = interactive_bundle(tmp_path / "made", strength=0)
    restate(root, largest_component=[1], label_boundary=[])
    volume = Volume(phantom((34, 50, 36))[0][None], AFFINE)
    session = Segmenter.from_bundle(root, device="cpu", runtime="eager").session(volume)
    piece = session.labels(1).array[0] == 1
    session.add(Point(at(volume, 2, 3, 33), 1))  # far from it
    found = session.labels(1).array[0] == 1
    assert found[2, 3, 33] and not piece[2, 3, 33] and (found >= piece).all() and len(components(found, 9)[1]) == 2


@pytest.mark.parametrize("runtime", ["eager", "openvino"])
@pytest.mark.parametrize("depth", [1, 2, 3, "auto"])
def test_what_is_held_is_what_everything_computed_anew_gives(root, volume, runtime, depth):
    pytest.importorskip("openvino")
    segmenter = Segmenter.from_bundle(root, device="cpu", runtime=runtime)
    session, results = segmenter.session(volume), []
    results.append(session.labels(depth).array)
    everything = session._held.computed
    assert everything == segmenter._inferer.windows_of(SHAPE)[0] == 12
    for prompt in prompts_of(volume):
        session.add(prompt)
        before = session._held.computed
        results.append(session.labels(depth).array)
        assert 0 < session._held.computed - before <= everything
        fresh = segmenter.session(volume)
        for other in prompts_of(volume)[: len(results) - 1]:
            fresh.add(other)
        assert np.array_equal(results[-1], fresh.labels(depth).array)
    assert len({result.tobytes() for result in results}) == len(results)
    for expected in results[-2::-1]:
        session.undo()
        assert np.array_equal(session.labels(depth).array, expected)
    assert session.steps == 0


def test_a_corner_reaches_one_window_and_undo_none(segmenter, volume):
    session = segmenter.session(volume)
    session.labels(1)
    before = session._held.computed
    session.add(Point(at(volume, 2, 2, 1), "background"))
    session.labels(1)
    assert session._held.computed == before + 1
    session.undo()
    session.labels(1)
    assert session._held.computed == before + 1


def test_little_memory_gives_the_same(segmenter, volume):
    plenty, little = segmenter.session(volume), segmenter.session(volume)
    little._held.most = 2 * 3 * 16**3 * 4  # bytes of two windows
    for prompt in prompts_of(volume)[:2]:
        for session in (plenty, little):
            session.add(prompt)
        assert np.array_equal(plenty.labels(1).array, little.labels(1).array)
        assert len(little._held._found) == 2 and little._held._bytes <= little._held.most
    for session in (plenty, little):
        session.undo()
    assert np.array_equal(plenty.labels(1).array, little.labels(1).array)
    assert little._held.computed > plenty._held.computed


def test_windows_that_count_little_see_no_click(segmenter, volume):
    session = segmenter.session(volume)
    session.labels(1)
    before = session._held.computed
    session.add(Point(at(volume, 8, 15, 8), 1))  # near all of 2 x 3 x 2 windows
    session.labels(1)
    assert 0 < session._held.computed - before <= 4
    assert session.labels(1).array[0, 8, 15, 8] == 1


def test_any_orientation_and_both_spaces_are_the_same_patient(segmenter, volume):
    found = []
    for order, flips in (((0, 1, 2), ()), ((2, 0, 1), (0,)), ((1, 2, 0), (1, 2))):
        array, affine = np.transpose(volume.array, (0, *(axis + 1 for axis in order))), volume.affine[:, [*order, 3]]
        for axis in flips:
            array, last = np.flip(array, axis + 1), array.shape[axis + 1] - 1
            affine = affine @ _flip(axis, last)
        turned = Volume(np.ascontiguousarray(array), affine)
        session = segmenter.session(turned)
        for prompt in prompts_of(volume):
            session.add(prompt)
        back = session.labels(1).array
        for axis in flips:
            back = np.flip(back, axis + 1)
        found.append(np.transpose(back, (0, *(order.index(axis) + 1 for axis in range(3)))))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    session = segmenter.session(volume)
    for prompt in prompts_of(volume):
        if isinstance(prompt, Point):
            x, y, z = prompt.position
            session.add(Point((-x, -y, z), prompt.label, space="LPS"))
        else:
            session.add(Scribble(prompt.positions * [-1, -1, 1], prompt.label, space="LPS"))
    assert np.array_equal(session.labels(1).array, found[0])


def _flip(axis, last):
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, last
    return matrix


def test_resampled_images_are_marked_where_they_were_clicked(segmenter, volume):
    coarse = Volume(phantom((11, 15, 10))[0][None], AFFINE @ np.diag([2, 2, 2, 1]))
    session = segmenter.session(coarse)
    session.add(Point(at(coarse, 5, 7, 4), 1))
    drawn, grid = session._states[-1].drawn[0], session._prepared.data["image"]
    assert drawn.channel == 1 and len(drawn.voxels) == 1
    place = np.asarray(grid.affine) @ [*drawn.voxels[0], 1]
    assert np.abs(place[:3] - at(coarse, 5, 7, 4)).max() <= 0.5
    assert session.labels(1).same_grid(coarse)


def test_locked_labels_stay_and_take_nothing(segmenter, volume):
    session = segmenter.session(volume)
    before = session.labels(1).array
    session.lock("anterior hippocampus")
    for prompt in prompts_of(volume):
        session.add(prompt)
    after = session.labels(1).array
    assert np.array_equal(after == 1, before == 1) and not np.array_equal(after == 2, before == 2)
    session.lock()
    assert not np.array_equal(session.labels(1).array == 1, before == 1)
    session.undo()
    assert np.array_equal(session.labels(1).array, after)
    assert len(session._states[-1].kept) < after.size / 4  # a thousand of them fit into memory
    session.lock("posterior hippocampus")  # and no other
    session.add(Scribble([at(volume, x, y, 10) for x in range(22) for y in range(30)], 0, connected=False))
    found = session.labels(1).array
    assert np.array_equal(found == 2, after == 2) and not np.array_equal(found == 1, after == 1)
    session.reset()
    assert np.array_equal(session.labels(1).array, before) and session.steps == 0


def test_labels_from_elsewhere_are_scribbles(segmenter, volume):
    session, labels = segmenter.session(volume), phantom(SHAPE)[1][None]
    before = session.labels(1).array
    session.add(InitialLabels(Volume(labels, AFFINE)))
    assert session.steps == 1 and not np.array_equal(session.labels(1).array, before)
    for drawn in session._states[-1].drawn:
        places = np.asarray(session._prepared.data["image"].affine) @ [*drawn.voxels[0], 1]
        voxel = np.rint(np.linalg.inv(AFFINE) @ places)[:3].astype(int)
        assert labels[0][tuple(voxel)] == drawn.channel > 0
    session.undo()
    assert np.array_equal(session.labels(1).array, before)


def test_labels_finer_than_the_networks_voxels_are_scribbles_too(segmenter):
    image = Volume(phantom((50, 50, 50))[0][None], np.diag([0.4, 0.4, 0.4, 1]))
    for start, size in ((11, 1), (20, 2), (31, 3)):
        labels = np.zeros((1, 50, 50, 50), np.uint8)
        labels[0, start : start + size, 15 : 15 + size, 22 : 22 + size] = 1
        session = segmenter.session(image)
        session.add(InitialLabels(Volume(labels, image.affine)))
        deep = core(labels[0] > 0)
        assert deep.any() and (session.labels(1).array[0][deep] == 1).all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Point((20.0, -31.0, 7.0), "liver"), "a label must be one of background, anterior hippocampus, .* got 'liver'"),
        (Point((20.0, -31.0, 7.0), 3), "a label must be one of background, .* or its index, got 3"),
        (Point((20.0, -31.0, 7.0), True), "a label must be one of"),
        (Point((21.0, -31.0, 7.0), 1), r"within the image of \(22, 30, 20\) voxels, got \(21, -31, 7\) mm RAS, which"),
        (Point((float("nan"), 0, 0), 1), "positions must be finite, got NaN or infinite ones"),
        (Point((float("inf"), 0, 0), 1), "positions must be finite"),
        (Point((1.0, 2.0), 1), "positions must be 1 to 1000000 triples of numbers x, y and z, got others"),
        (Point(("a", 2.0, 3.0), 1), "positions must be 1 to"),
        (Point((20.0, -31.0, 7.0), 1, space="LAS"), "the space of positions must be RAS or LPS, got 'LAS'"),
        (Point(("1", "2", "3"), 1), "positions must be 1 to"),
        (Point((True, False, True), 1), "positions must be 1 to"),
        (Point((10**400, 0, 0), 1), "positions must be 1 to"),
        (Point((1e308, -1e308, 1e308), 1), "positions must be within the image"),
        (Point((20.0, -31.0, 7.0), np.ones((3, 3))), "a label must be one of .*, or its index, got array"),
        (Point((20.0, -31.0, 7.0), 1, space=["RAS"]), r"the space of positions must be RAS or LPS, got \['RAS'\]"),
        ((20.0, -31.0, 7.0), "a prompt must be a Point, Scribble or InitialLabels, got tuple"),
        (Scribble([(20.0, -31.0, 7.0), (0, -2.0, 26.0)] * 20000, 1), "at most 1000000 voxels long, got 11[0-9]{5}"),
        (Scribble(np.zeros((0, 3)), 1), "positions must be 1 to"),
        (Scribble(np.zeros((MOST_POSITIONS + 1, 3)), 1), "positions must be 1 to"),
        (InitialLabels(np.ones((1, *SHAPE))), "initial labels must be a Volume, got ndarray"),
        (InitialLabels(Volume(np.full((1, *SHAPE), np.nan), AFFINE)), r"initial labels must be 0 to 2, got \[nan\]"),
        (InitialLabels(Volume(np.ones((1, 4, 4, 4)), AFFINE)), "initial labels must be .* on another"),
        (InitialLabels(Volume(np.full((1, *SHAPE), 9), AFFINE)), r"initial labels must be 0 to 2, got \[9\]"),
        (InitialLabels(Volume(np.zeros((1, *SHAPE)), AFFINE)), "must have a label that takes prompts, got none"),
    ],
)
def test_what_is_no_prompt_is_refused_and_changes_nothing(segmenter, volume, prompt, message):
    session = segmenter.session(volume)
    with pytest.raises(InputError, match=message):
        session.add(prompt)
    with pytest.raises(InputError, match="must have a prompt to be undone, got none"):
        session.undo()
    assert session.steps == 0


def test_numbers_of_numpy_are_numbers(segmenter, volume):
    found = []
    for position, label in (((15.0, -25.0, 14.0), 2), (np.array([15, -25, 14], np.int16), np.uint8(2))):
        session = segmenter.session(volume)
        session.add(Point(position, label))
        found.append(session.labels(1).array)
    assert np.array_equal(*found)
    with pytest.raises(InputError, match="triples of numbers x, y and z, got others"):
        session.position((1, 2))


def test_a_click_in_a_thinner_slice_than_the_networks_is_on_its_side(segmenter):
    image = Volume(phantom((30, 44, 24))[0][None], AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    session = segmenter.session(image)
    before, seen = session.labels(1).array[0], set()
    for voxel in map(tuple, np.argwhere(before > 0)[::501]):
        session.add(Point(at(image, *voxel), int(3 - before[voxel])))
        after = session.labels(1).array[0][voxel]
        assert after in (0, 3 - before[voxel])
        session.undo()
        seen.add((voxel[1] % 2, after))
    assert len(seen - {(0, 0), (1, 0)}) == 4


def test_prompts_of_a_session_are_bounded_in_all(segmenter, volume, monkeypatch):
    monkeypatch.setattr("unetpp_monai.interactive.session.MOST_IN_ALL", 100)
    session = segmenter.session(volume)
    many = Scribble([at(volume, 5, y, z) for y in range(6) for z in range(10)], 1, connected=False)
    session.add(many)
    with pytest.raises(InputError, match="a session takes at most 100 positions, got 120; undo some, or reset it"):
        session.add(many)
    assert session.steps == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt_labels": [1, 2]}, "prompt_labels must be 3 labels"),
        ({"prompt_labels": []}, "prompt_labels must be 3 labels"),
        ({"prompt_radius": "@out_channels"}, None),
        ({"prompt_radius": "$'x'"}, "prompt_radius must"),
        ({"prompt_reach": "$'x'"}, "prompt_reach must"),
        ({"prompt_labels": [0, 1, 5]}, "prompt_labels must name labels from 0"),
    ],
)
def test_a_bundle_whose_prompts_do_not_fit_its_network_is_refused(root, tmp_path, values, message):
    shutil.copytree(root, tmp_path / "bundle")
    path = tmp_path / "bundle" / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"]["prompt_channels"] = 3
    path.write_text(json.dumps({**config, **values}))
    if message is None:
        assert Segmenter.from_bundle(tmp_path / "bundle", device="cpu", runtime="eager").depths[-1] == 3
        return
    with pytest.raises(BundleError, match=message):
        Segmenter.from_bundle(tmp_path / "bundle", device="cpu", runtime="eager")


def test_a_thousand_prompts_are_enough_and_automatic_bundles_take_none(segmenter, volume):
    session = segmenter.session(volume)
    for _ in range(MOST_PROMPTS):
        session.add(Point(at(volume, 5, 6, 7), 1))
    with pytest.raises(InputError, match=f"at most {MOST_PROMPTS} prompts, got one more; undo some, or reset it"):
        session.add(Point(at(volume, 5, 6, 7), 1))
    assert session.steps == MOST_PROMPTS and session.labels(1).array.shape == (1, *SHAPE)
    with pytest.raises(InputError, match="a bundle must take prompts to be corrected, this one takes none"):
        Segmenter.from_bundle(BUNDLE, device="cpu", runtime="eager").session(volume)


def test_points_of_requests_are_voxels_with_all_numbers():
    names = ["background", "liver"]
    assert clicks_of({"scribbles": {"liver": []}, "liver": [], "foreground": []}, names) == []
    flat = [Clicks("liver", ((1.0, 2.0, 0.0),), scribbled=False)]
    assert clicks_of({"foreground": [[1, 2]]}, names, spatial_dims=2) == flat
    for wrong in ([[1, 2]], [[10**400, 2, 3]], [[True, 2, 3]], [[]], [1, 2, 3], "x"):
        for asked in ({"liver": wrong}, {"foreground": wrong}, {"scribbles": {"liver": wrong}}):
            with pytest.raises(InputError, match=r"must be a list of voxels \[i, j, k\], got"):
                clicks_of(asked, names)


def test_labels_may_have_the_names_of_other_keys():
    names, at = ("background", "foreground", "label", "scribbles"), [[1, 2, 3]]
    found = [Clicks(name, ((1.0, 2.0, 3.0),), scribbled=False) for name in names]
    assert clicks_of(dict.fromkeys(names, at), names) == found
    asked = {"label": "label", "foreground": at, "scribbles": {"scribbles": at, "label": at}}
    drawn = [Clicks(name, ((1.0, 2.0, 3.0),), scribbled=True) for name in ("scribbles", "label")]
    assert clicks_of(asked, names) == [found[1], *drawn]


def test_files_of_a_corrected_result_say_that_a_person_had_a_part(tmp_path, segmenter):
    make_series(tmp_path / "series", np.diag([1.0, 1, 1, 1]), (24, 26, 20))
    image = read_dicom_series(tmp_path / "series").volume
    results = {}
    for name, marked in (("clicked", ((9.0, 9.0, 9.0), (12.0, 9.0, 9.0))), ("other", ((9.0, 9.0, 9.0),))):
        clicks = [Clicks("posterior hippocampus", marked, scribbled=False)]
        corrected = Corrected(segmenter, Corrections(), clicks, image=None, affine=None)
        request = Request(formats=("dicomseg", "sr"), depth=1, any_modality=True)
        (tmp_path / name).mkdir()
        segment_case(corrected, tmp_path / "series", tmp_path / name, request)
        report = valid_report(next((tmp_path / name).glob("*.json")))
        (results[name],) = report["prompts"]
        seg = pydicom.dcmread(next((tmp_path / name).glob("*_seg.dcm")))
        assert {str(one.SegmentAlgorithmType) for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    positions = [image.affine[:3, :3] @ voxel + image.affine[:3, 3] for voxel in ((9, 9, 9), (12, 9, 9))]
    assert results["clicked"] == {
        "label": "posterior hippocampus",
        "kind": "clicks",
        "positions": 2,
        "sha256": hashlib.sha256(np.array(positions, "<f8").tobytes()).hexdigest(),
    }
    assert results["other"]["sha256"] != results["clicked"]["sha256"]
