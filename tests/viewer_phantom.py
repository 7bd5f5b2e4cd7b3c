"""A series made for viewers, a white F and a black square on grey, elsewhere in every slice, and its label map."""

import dicom_pieces as make
import numpy as np

from unetpp_monai.io.dicom_seg import write_dicom_seg
from unetpp_monai.io.dicom_series import read_dicom_series
from unetpp_monai.io.provenance import Algorithm
from unetpp_monai.labels import Code, Label
from unetpp_monai.volume import Volume

SHAPE = (96, 80, 16)  # columns, rows, slices
GREY, WHITE, BLACK = 1000, 2000, 0
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LETTER = Label(1, "letter F", ANATOMY, Code("10200004", "SCT", "Liver"), None, (220, 40, 40))
SQUARE = Label(2, "square", ANATOMY, Code("78961009", "SCT", "Spleen"), None, (40, 200, 40))


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
