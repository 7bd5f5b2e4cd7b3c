"""How deep: one value, however it is said."""

import doctest

import pytest

from unetpp_monai import depth as module
from unetpp_monai.depth import Depth
from unetpp_monai.errors import InputError


@pytest.mark.parametrize(
    ("said", "meant", "text", "scored"),
    [
        (None, Depth(), "full", True),
        ("full", Depth(), "full", True),
        ("all", Depth(), "full", True),
        ("auto", Depth(adaptive=True), "auto", False),
        (1, Depth(1), "1", False),
        ("3", Depth(3), "3", True),
        (Depth(2), Depth(2), "2", True),
    ],
)
def test_every_way_to_say_it(said, meant, text, scored):
    depth = Depth.parse(said)
    assert (depth, str(depth), depth.has_score) == (meant, text, scored)
    assert Depth.parse(depth.value) == depth


@pytest.mark.parametrize("said", ["deep", "", "0", 0, -1, "-1", 1.5, "1.0", True, "²", "Auto"])
def test_what_is_no_depth(said):
    with pytest.raises(InputError, match=f"depth must be a number >= 1, auto or full, got {said}"):
        Depth.parse(said)


def test_a_network_has_some_depths():
    assert Depth().resolve(1, 3) == Depth(3) == Depth().resolve(3, 3)
    assert Depth(2).resolve(1, 3) == Depth(2)
    assert Depth(adaptive=True).resolve(1, 3) == Depth(adaptive=True)
    for depth in (Depth(4), Depth(0)):
        with pytest.raises(InputError, match="depth must be from 1 to 3, auto or full, got"):
            depth.resolve(1, 3)
    for depth in (Depth(1), Depth(adaptive=True)):
        with pytest.raises(InputError, match="depth must be from 3 to 3 or full, got"):
            depth.resolve(3, 3)


def test_the_example():
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted
