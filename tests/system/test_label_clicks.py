"""Our MONAI Label app with a bundle that takes prompts: DeepEdit to the client, the answers of the Python session."""

import json

import numpy as np
import pytest
from helpers import phantom, save_nifti
from helpers.interactive import tiny_interactive
from helpers.label_server import label_python, serving

from unetpp_monai import Segmenter, read_volume
from unetpp_monai.interactive import Point, Scribble

pytestmark = pytest.mark.server

AFFINE = np.array([[0.0, -1, 0, 10], [-1.0, 0, 0, 20], [0, 0, 1.0, -5], [0, 0, 0, 1]])  # axes L, P swapped, and S
FRONT, BACK = "anterior hippocampus", "posterior hippocampus"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    label_python()
    folder = tmp_path_factory.mktemp("studies")
    for seed, name in enumerate(("a", "b")):
        save_nifti(folder / f"{name}.nii.gz", phantom((24, 30, 20), seed=seed)[0], AFFINE)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_interactive(tmp_path_factory.mktemp("bundle") / "made")


@pytest.fixture(scope="module")
def server(studies, root, tmp_path_factory):
    options = ("--bundle", root, "--runtime", "eager")
    with serving(studies, tmp_path_factory.mktemp("server"), *options) as running:
        yield running


@pytest.fixture(scope="module")
def model(server):
    (name,) = server.call("info")["models"]
    return name


def by_session(root, path, prompts, depth):
    volume = read_volume(path)
    session = Segmenter.from_bundle(root, device="cpu", runtime="eager").session(volume)
    for label, voxels, scribbled in prompts:
        positions = [session.position(voxel) for voxel in voxels]
        if scribbled:
            session.add(Scribble(np.array(positions), label, connected=False))
        for position in [] if scribbled else positions:
            session.add(Point(position, label))
    return session.labels(depth)


def equal(path, expected):
    found = read_volume(path, labels=True)
    return found.same_grid(expected) and np.array_equal(found.array, expected.array)


def test_the_client_sees_a_deepedit_model_with_a_background_to_click(server, model):
    shown = server.call("info")
    assert shown["models"][model]["type"] == "deepedit"
    assert shown["models"][model]["labels"] == {"background": 0, FRONT: 1, BACK: 2}
    assert sorted(shown["labels"]) == sorted(["background", FRONT, BACK])


def test_points_of_several_labels_and_of_one_give_what_the_session_gives(server, model, root, studies):
    some, more, void = [[5, 6, 7], [18, 20, 9]], [[11, 15, 10]], [[2, 27, 3]]
    asked = [
        (
            {FRONT: some, BACK: more, "background": void, "label": FRONT},
            [("background", void, 0), (FRONT, some, 0), (BACK, more, 0)],
        ),
        ({"foreground": some, "background": void, "label": BACK}, [("background", void, 0), (BACK, some, 0)]),
        ({"scribbles": {BACK: more + some}, "background": void}, [("background", void, 0), (BACK, more + some, 1)]),
        ({FRONT: [], BACK: [], "background": [], "label": FRONT}, []),
    ]
    steps = [["infer", model, "a", {**params, "depth": "1"}] for params, _ in asked]
    results = []
    for answer, (_, prompts) in zip(server.calls(steps), asked, strict=True):
        file, report = answer["result"]
        expected = by_session(root, studies / "a.nii.gz", prompts, 1)
        assert equal(file, expected) and report["depth"] == 1 and report["label_names"] == {FRONT: 1, BACK: 2}
        said = {(one["label"], one["kind"]): one["positions"] for one in report.get("prompts", [])}
        kinds = ("clicks", "scribbles")
        assert said == {(label, kinds[scribbled]): len(voxels) for label, voxels, scribbled in prompts}
        assert report["ml"][BACK] == pytest.approx((expected.array == 2).sum() / 1000)
        results.append(expected.array.tobytes())
    assert len(set(results)) == len(results)
    file, _ = server.call("infer", model, "b", {FRONT: some, "depth": "full"})
    assert equal(file, by_session(root, studies / "b.nii.gz", [(FRONT, some, 0)], "full"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({FRONT: [[90, 2, 3]]}, "positions must be within the image of (24, 30, 20) voxels"),
        ({FRONT: [["x", 2, 3]]}, f"points of '{FRONT}' must be a list of voxels [i, j, k]"),
        ({FRONT: 3}, "must be a list of voxels"),
        ({"foreground": [[1, 2, 3]], "label": "liver"}, f"label of the points must be one of {FRONT}, {BACK}"),
        ({"scribbles": {"liver": [[1, 2, 3]]}}, "scribbles must be voxels by label, of background"),
        ({FRONT: [[1, 2, 3]] * 1001}, "a session takes at most 1000 prompts, got one more"),
        ({FRONT: [[1, 2, 3]], "uncertainty": True}, "a corrected result has no uncertainty"),
    ],
)
def test_what_is_no_point_is_told_in_a_line_and_the_next_is_answered(server, model, params, message):
    status, answer = server.request(f"/infer/{model}?image=a", method="POST", form={"params": json.dumps(params)})
    assert status == 400 and message in json.loads(answer)["detail"] and b"\n" not in answer
    assert server.call("infer", model, "a", {FRONT: [[5, 6, 7]], "depth": "1"})


def test_an_empty_background_segment_does_not_change_what_is_submitted(server, studies, tmp_path):
    labels = np.zeros((24, 30, 20), np.uint8)
    labels[4:9, 5:9, 6:10], labels[10:14, 5:9, 6:10], labels[0, 0, 0] = 3, 2, 1
    path = save_nifti(tmp_path / "label.nii.gz", labels, AFFINE)
    info = [{"name": "background", "idx": 1}, {"name": BACK, "idx": 2}, {"name": FRONT, "idx": 3}]
    server.call("save_label", "b", str(path), "final", {"label_info": info})
    kept = read_volume(studies / "labels" / "final" / "b.nii.gz", labels=True).array[0]
    assert (kept[4:9, 5:9, 6:10] == 1).all() and (kept[10:14, 5:9, 6:10] == 2).all() and kept[0, 0, 0] == 0
