"""The picture shows the labels where they are."""

import numpy as np
import pytest
from helpers import phantom

from unetpp_monai.errors import OutputError
from unetpp_monai.io.overview import CONVENTION
from unetpp_monai.labels import Label
from unetpp_monai.volume import Volume
from unetpp_monai.workflows import preview
from unetpp_monai.workflows.preview import write_preview

image_module = pytest.importorskip("matplotlib.image")
RED = Label(1, "red", None, None, (), (255, 0, 0))
PLAIN = Label(2, "no colour", None, None, (), None)


def red_pixels(path):
    pixels = image_module.imread(path)[..., :3]
    return (pixels[..., 0] > 0.8) & (pixels[..., 1:].max(axis=-1) < 0.2)


def test_outlines_follow_the_labels(tmp_path):
    image, labels = phantom((30, 40, 50))
    for affine in (
        np.eye(4),
        np.diag([-1.0, -2.0, 1.0, 1.0]),
        np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]),
    ):
        volume = Volume(image[None], affine)
        write_preview(volume, Volume(labels[None], affine), [RED, PLAIN], tmp_path / "with.png")
        write_preview(volume, Volume(np.zeros_like(labels)[None], affine), [RED, PLAIN], tmp_path / "without.png")
        assert (
            red_pixels(tmp_path / "with.png").sum() > 3 * red_pixels(tmp_path / "without.png").sum() > 0
        )  # the legend


def test_each_structure_has_a_row_close_up(tmp_path):
    image, labels = phantom((60, 40, 50))
    both = np.where(np.arange(60)[:, None, None] < 30, labels, 0)
    volume, found = Volume(image[None], np.eye(4)), Volume(both[None].astype(np.uint8), np.eye(4))
    sizes = []
    for structures in ((), [(1,)], [(1,), (2,)], [(1,), (7,)]):
        write_preview(volume, found, [RED, PLAIN], tmp_path / "rows.png", structures=structures)
        sizes.append(image_module.imread(tmp_path / "rows.png").shape[0])
        assert red_pixels(tmp_path / "rows.png").any()
    assert sizes[0] == sizes[1] == sizes[3] and sizes[2] > 1.5 * sizes[1]  # what was not found has no row


def test_a_picture_that_cannot_be_written(tmp_path):
    volume = Volume(phantom((8, 8, 8))[0][None], np.eye(4))
    with pytest.raises(OutputError, match="must be writable"):
        write_preview(volume, volume, [RED], tmp_path / "no" / "folder.png")


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, -1)])
@pytest.mark.parametrize("letter", "LAS")
def test_the_half_beside_a_letter_is_on_that_side_of_the_patient(tmp_path, monkeypatch, signs, letter):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(preview, "_figure_class", lambda: lambda **more: drawn.append(Figure(**more)) or drawn[0])
    affine = np.diag([*signs, 1.0])
    affine[:3, 3] = [-15 * sign for sign in signs]
    mm = np.moveaxis(np.indices((30, 30, 30)), 0, -1) * signs + affine[:3, 3]
    side = mm[..., "RAS".index(letter)] > 0 if letter in "RAS" else mm[..., "LPI".index(letter)] < 0
    labels = np.zeros((1, 30, 30, 30), np.uint8)
    labels[:, 10:20, 10:20, 10:20] = 1
    write_preview(Volume(side[None] * 1.0, affine), Volume(labels, affine), [RED], tmp_path / "a.png")
    assert drawn[0].get_suptitle() == CONVENTION
    found = 0
    for panel in drawn[0].axes:
        shown = np.asarray(panel.images[0].get_array())
        for text in (text for text in panel.texts if text.get_text() == letter):
            across, up = text.get_position()
            near = shown[int(up * 29), int(across * 29)]
            assert near == 1 and shown[int((1 - up) * 29), int((1 - across) * 29)] == 0, panel.get_title()
            found += 1
    assert found == 2  # of three planes


def test_a_section_names_the_side_where_it_is():
    assert preview._title(0, -27.4) == "sagittal, L 27 mm" and preview._title(2, 3.0) == "axial, S 3 mm"
