"""The Segment Editor effect of 3D Slicer, with Slicer's own editor logic and real Qt: what changes, masking, undo."""

import pytest
from helpers.slicer_cases import SAMPLE
from test_slicer_extension import in_slicer

pytestmark = pytest.mark.slow
SCRIPT = "slicer_effect_run.py"


def test_only_the_region_changes_and_masking_is_kept_to(tmp_path):
    found = in_slicer("merge", "none", tmp_path, script=SCRIPT)
    assert found.pop("shown") == []
    assert list(found) == [
        "EditAllowedEverywhere OverwriteAllSegments",
        "EditAllowedOutsideAllSegments OverwriteAllSegments",  # nothing of others is taken
        "EditAllowedEverywhere OverwriteNone",  # others stay, and overlap
    ]
    for row in found.values():
        assert row == {
            **{"label": True, "new": True, "locked": True, "undone": True},  # voxels as expected, undone in one step
            **{"colour": [0.2, 0.4, 0.6], "terms": "terms"},
        }


def test_region_of_the_views_is_what_all_show(tmp_path):
    found = in_slicer("views", SAMPLE, tmp_path, script=SCRIPT)
    for size, field, spacing in zip(found["sizes"], (20, 16, 16), found["spacing"], strict=True):
        assert abs(size - field) <= spacing
    assert found["same"], "the volume's own voxels, at their place"


@pytest.mark.long
def test_effect_segments_a_box_by_the_real_command(tmp_path):
    found = in_slicer("network", SAMPLE, tmp_path, script=SCRIPT)
    assert found["running"] == [False, True]
    assert found["depths"][:2] == ["full (time x 1.00)", "1 (time x 0.29)"]
    assert found["kept"] == ["2", "cpu", "hippocampus", "0"]
    assert (found["again"], found["chosen"]) == (["2", "cpu"], "2"), "the editor's node keeps depth and device"
    assert found["asked"] == [[True, "hippocampus_head"], [True, "hippocampus"]]
    assert found["after"] == [True, False, "done"]
    assert found["counts"]["posterior hippocampus"] > 500
    assert (found["far"], found["undone"], found["volumes"]) == (0, 0, 1)
    message, nothing = found["shown"]
    assert nothing == "the editor must have a segmentation and a source volume; choose both"
    assert message.startswith("the region must hold a part of 'MR größer', got none; move the box")
