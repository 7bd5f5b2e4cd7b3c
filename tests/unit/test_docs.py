"""What docs/ makes of committed files."""

import importlib.util

import pytest
from helpers import ROOT


def script(name):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_shows_the_committed_numbers():
    assert (ROOT / "docs" / "unetpp.svg").read_text() == script("figures").made()


@pytest.mark.parametrize("levels", [2, 5])
def test_every_node_and_depth_is_drawn(levels):
    row = {"Dice anterior": 0.5, "Dice posterior": 0.5, "relative time": 1.0}
    drawn = script("figures").network_svg([16] * levels, {str(depth): row for depth in range(1, levels)})
    assert drawn.count("r='22'") == levels * (levels + 1) // 2
    assert drawn.count("Dice 0.500") == levels - 1
