"""Ranges of what was located and segmented in a whole image."""

import doctest
from dataclasses import replace

import pytest

from unetpp_monai import gates as gates_module
from unetpp_monai import label_rules
from unetpp_monai.errors import BundleError
from unetpp_monai.gates import Gates
from unetpp_monai.labels import read_labels
from unetpp_monai.located import Found, Located
from unetpp_monai.task import Task, check_task, read_task

LEFT = Found(
    name="left hippocampus",
    labels=(1, 2),
    start=(30, 40, 50),
    stop=(60, 90, 80),
    centre=(-25.0, -20.0, -10.0),
    size=(24.0, 39.0, 24.0),
    ml=3.2,
    uncertainty=0.05,
    cut=False,
)
RIGHT = replace(LEFT, name="right hippocampus", labels=(3, 4), start=(100, 40, 50), stop=(130, 90, 80))
SOUND = Located((LEFT, RIGHT), 1500.0)
ML = {1: 1.8, 2: 1.6, 3: 1.9, 4: 1.7}


@pytest.fixture(scope="module")
def gates():
    return Gates.from_json(read_task("hippocampus_head").metadata["gates"])


def test_a_sound_head_passes(gates):
    assert gates.implausible(SOUND, ML) == () and "17 label maps" in gates.source


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"size": (50.0, 39.0, 24.0)}, "size of left hippocampus to the right is 50 mm, expected 14.4 to 37.5"),
        ({"size": (24.0, 39.0, 9.0)}, "size of left hippocampus to the superior is 9 mm, expected 14.4 to 45"),
        ({"ml": 0.9}, "volume of left hippocampus as located is 0.9 mL, expected 1.84 to 9.99"),
        ({"cut": True}, "left hippocampus reaches the end of the image, where some of it may be missing"),
    ],
)
def test_what_was_located_is_judged(gates, left, said):
    assert gates.implausible(replace(SOUND, found=(replace(LEFT, **left), RIGHT)), ML) == (said,)


@pytest.mark.parametrize(
    ("ml", "said"),
    [
        ({1: 4.73, 2: 0.0, 3: 5.05, 4: 0.0}, 2 * ("volume of the first label of {} is inf",)),  # as on a whole head
        ({1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5}, 2 * ("volume of {} is 1 mL, expected 1.5 to 5.5",)),
        (ML | {1: 1.0, 2: 0.8}, ("volume of left hippocampus over right hippocampus is 0.5, expected 0.702 to 1.42",)),
        (ML | {2: 0.8}, ("volume of the first label of left hippocampus over the second is 2.25, expected 0.5 to 2",)),
    ],
)
def test_volumes_and_their_ratios_are_judged(gates, ml, said):
    found = gates.implausible(SOUND, ml)
    names = ["left hippocampus", "right hippocampus"]
    starts = [text.format(name).split(" is ")[0] for text, name in zip(said, names, strict=False)]
    assert len(found) == len(said) and all(any(one.startswith(start) for one in found) for start in starts)
    assert len(said) > 1 or found == said


def test_brain_doubt_and_contradictions_are_judged():
    gates = Gates.from_json({"doubt": [0, 0.1], "brain": [1100, 2200]})
    odd = Located((replace(LEFT, uncertainty=0.4), RIGHT), 310.0, ("right lies left",))
    assert gates.implausible(odd, {}) == (
        "right lies left",
        "brain is 310 mL, expected 1100 to 2200",
        "the locator's uncertainty of left hippocampus is 0.4, expected 0 to 0.1",
    )


@pytest.mark.parametrize(
    "stated", [{"colour": [1, 2]}, {"brain": [2, 1]}, {"brain": 5}, {"size": [1, 2]}, {"sides": "x"}]
)
def test_other_gates_are_refused(stated):
    with pytest.raises(BundleError, match="gates must hold lower and upper bounds for any of source, size, located"):
        Gates.from_json(stated)
    task = read_task("hippocampus_head")
    with pytest.raises(BundleError, match=r"metadata.json: gates must hold"):
        check_task(Task(task.folder, task.values, {**task.metadata, "gates": stated}))


def test_sides_are_named_and_coded():
    """Each label has its side in its name and as a code, which DICOM knows as laterality."""
    metadata = read_task("hippocampus_head").metadata
    for label, side, part in zip(
        read_labels(metadata), ("Left", "Left", "Right", "Right"), 2 * ("anterior", "posterior"), strict=True
    ):
        assert label.name == f"{side.lower()} {part} hippocampus" and [code.meaning for code in label.modifiers] == [
            side,
            part.capitalize(),
        ]
    assert len({label.colour for label in read_labels(metadata)}) == 4


@pytest.mark.parametrize("module", [gates_module, label_rules], ids=lambda module: module.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted
