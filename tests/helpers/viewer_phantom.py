"""A series made for viewers, a white F and a black square on grey, elsewhere in every slice, and its label map."""

import numpy as np

from helpers import dicom_pieces as make
from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.labels import Code, Label
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume

SHAPE = (96, 80, 16)  # columns, rows, slices
GREY, WHITE, BLACK = 1000, 2000, 0
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LETTER = Label(1, "letter F", ANATOMY, Code("10200004", "SCT", "Liver"), (), (220, 40, 40))
SQUARE = Label(2, "square", ANATOMY, Code("78961009", "SCT", "Spleen"), (), (40, 200, 40))


def draw():
    """Stored values `(columns, rows, slices)` and their label map; no slice equals another or its mirror image."""
    stored, labels = np.full(SHAPE, GREY, np.uint16), np.zeros(SHAPE, np.uint8)
    for k in range(SHAPE[2]):
        x, y = 12 + 2 * k, 10 + k  # upper left corner of the letter
        for columns, rows in (((0, 8), (0, 36)), ((8, 28), (0, 8)), ((8, 20), (14, 22))):
            place = slice(x + columns[0], x + columns[1]), slice(y + rows[0], y + rows[1]), k
            stored[place], labels[place] = WHITE, LETTER.index
        place = slice(70 - 2 * k, 82 - 2 * k), slice(58 + k // 2, 70 + k // 2), k
        stored[place], labels[place] = BLACK, SQUARE.index
    return stored, labels


def write_phantom(folder):
    """Write the oblique series into `folder/series`, and its SEG; return the label volume, series folder and SEG."""
    stored, array = draw()
    slices = make.make_slices(stored, make.OBLIQUE, intercept=("0",))
    make.each(WindowCenter="1000", WindowWidth="2000")(slices)
    make.write_files(folder / "series", slices)
    series = read_dicom_series(folder / "series")
    labels = Volume(array[None], series.volume.affine)
    write_dicom_seg(
        labels,
        folder / "seg.dcm",
        structures=(LETTER, SQUARE),
        sources=series.sources,
        algorithm=Algorithm("phantom", "1", kind="MANUAL"),
    )
    return labels, folder / "series", folder / "seg.dcm"


def coloured(picture, label):
    """Pixels of `(rows, columns, RGB)` that have the hue of a label, however thinly it is laid over grey."""
    tint = picture.astype(float) - picture.mean(axis=2, keepdims=True)
    wanted = np.array(label.colour) - np.mean(label.colour)
    strength = np.linalg.norm(tint, axis=2)
    return (strength > 30) & (tint @ wanted > 0.95 * strength * np.linalg.norm(wanted))


def image_box(picture):
    """Where the series lies in a picture: rows and columns with anything on black."""
    bright = picture.max(axis=2) > 40
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def shapes(picture):
    """Pixels of the letter and of the square in a picture without overlays."""
    grey, inside = picture.mean(axis=2), np.zeros(picture.shape[:2], bool)
    inside[image_box(picture)] = True
    return grey > 192, inside & (grey < 64)


def drawn(label, index, picture):
    """Where a label of slice `index` must be in a picture that shows all of the image, columns to the right."""
    box = image_box(picture)
    _, labels = draw()
    mask = np.equal(labels[:, :, index].T, label.index)
    rows, columns = (
        np.minimum((np.arange(side.stop - side.start) + 0.5) / (side.stop - side.start) * size, size - 1).astype(int)
        for side, size in zip(box, mask.shape, strict=True)
    )
    result = np.zeros(picture.shape[:2], bool)
    result[box] = mask[np.ix_(rows, columns)]
    return result


def mirrored(mask, picture):
    """A mask of a picture mirrored within the image: left to right, top to bottom, both."""
    box = image_box(picture)
    for axes in (0, 1, (0, 1)):
        flipped = np.zeros_like(mask)
        flipped[box] = np.flip(mask[box], axes)
        yield flipped


def likeness(one, other):
    """Shared pixels over all pixels of two masks; 1: equal."""
    return (one & other).sum() / (one | other).sum()
