"""Stored results as the OHIF viewer shows them: every pixel of an overlay lies on what it names, in its colour."""

import pytest
from helpers import ohif
from helpers.orthanc import orthanc
from helpers.viewer_phantom import LETTER, SQUARE, coloured, drawn, likeness, mirrored, shapes, write_phantom

pytestmark = [pytest.mark.server, pytest.mark.browser]

PLACES = (3, 11)  # in the stack; the shapes lie elsewhere in every slice


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Segments of the panel, and of each place its instance number, and the picture without and with the overlay."""
    folder = tmp_path_factory.mktemp("ohif")
    _, series, segmentation = write_phantom(folder)
    with orthanc(folder / "orthanc") as server, ohif.ohif(server.dicomweb_url) as url:
        study = ohif.store(server.dicomweb_url, [*series.iterdir(), segmentation])
        with ohif.viewer(url, study) as view:
            bare = {place: (view.go_to(place), view.picture()) for place in PLACES}
            view.open_segmentation()
            overlaid = {}
            for place in PLACES:
                assert view.go_to(place) == bare[place][0]
                view.wait_for(lambda: coloured(view.picture(), LETTER).any(), "the overlay")
                overlaid[place] = view.picture()
            yield view.segments(), {place: (*bare[place], overlaid[place]) for place in PLACES}


def test_names_and_colours_are_in_the_panel(pictures):
    assert pictures[0] == [[label.name, "rgb({}, {}, {})".format(*label.colour)] for label in (LETTER, SQUARE)]


@pytest.mark.parametrize("place", PLACES)
def test_overlays_lie_on_what_they_name(pictures, place):
    instance, bare, overlaid = pictures[1][place]
    for label, shape in zip((LETTER, SQUARE), shapes(bare), strict=True):
        overlay = coloured(overlaid, label)
        assert likeness(overlay, shape) > 0.93, label.name
        assert likeness(overlay, drawn(label, instance - 1, bare)) > 0.9, label.name
        assert not coloured(bare, label).any()
        for other in mirrored(shape, bare):
            assert likeness(overlay, other) < 0.6, "the measure would not see a mirrored overlay"


def test_each_slice_has_its_own_overlay(pictures):
    (_, first, _), (_, _, last) = (pictures[1][place] for place in PLACES)
    for label, shape in zip((LETTER, SQUARE), shapes(first), strict=True):
        assert likeness(coloured(last, label), shape) < 0.6
