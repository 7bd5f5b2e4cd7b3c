"""The picture shows the labels where they are."""

import numpy as np
import pytest
from helpers import phantom

from unetpp_monai.errors import OutputError
from unetpp_monai.labels import Label
from unetpp_monai.volume import Volume
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
