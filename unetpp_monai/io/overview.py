"""Draw a small overview of a label map on its image: three sections through the labels' bounding box."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..files import complete_file
from ..volume import Volume

MARGIN_MM = 8.0  # around the labels; of pictures, pixels
HEIGHT = 150  # most pixels of a panel; its width may be twice that
GAP = 4  # pixels between panels
LETTER = 3  # pixels between a letter and the edge of its panel
# arrays are RAS, and their first voxel is drawn at the left and at the bottom
CONVENTION = "Neurological order: the patient's left (L) is at the left; A/P front/back, S/I top/bottom"
# Okabe and Ito's colours, distinct for all kinds of colour blindness, without black and grey
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def colour_of(index: int) -> tuple[int, int, int]:
    """Return the sRGB colour of a label in overviews; index >= 1."""
    return COLOURS[(index - 1) % len(COLOURS)]


def edge_letters(axis: int) -> str:
    """Return the patient's directions at the left, right, lower and upper edge of a section; its normal is an axis."""
    across, up = (other for other in range(3) if other != axis)
    return "LPI"[across] + "RAS"[across] + "LPI"[up] + "RAS"[up]


def write_overview(image: Volume, labels: Volume, path: Path, *, indices: Sequence[int]) -> bool:
    """Draw sagittal, coronal and axial sections through the labels' box, or the only slice.

    Sections have letters at their edges: left, right, anterior, posterior, superior, inferior of the patient.

    Args:
        image: `(C, X, Y, Z)`; the first channel is drawn, or RGB for a picture.
        labels: `(1, X, Y, Z)` on the same grid.
        path: `.webp`.
        indices: labels to draw.

    Returns:
        Whether a picture was written: there is none without labels.

    Raises:
        OutputError: the file cannot be written.
    """
    from PIL import Image

    voxels, mask, spacing = _upright(image), _upright(labels)[0], _spacing(image)
    mask = np.where(np.isin(mask, indices), mask, 0)
    if not mask.any():
        return False
    box = tuple(_extent(mask, axis, spacing[axis]) for axis in range(3))
    voxels, mask = voxels[(slice(None), *box)], mask[box]
    centre = [int(np.median(places)) for places in np.nonzero(mask)]
    axes = (2,) if image.shape[2] == 1 else (0, 1, 2)
    panels = [_panel(voxels, mask, spacing, axis, centre[axis]) for axis in axes]
    if len(axes) > 1:
        panels = [_lettered(panel, edge_letters(axis)) for panel, axis in zip(panels, axes, strict=True)]
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + GAP * (len(panels) - 1)
    canvas, left = np.zeros((height, width, 3), np.uint8), 0
    for panel in panels:
        top = (height - panel.shape[0]) // 2
        canvas[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + GAP
    with complete_file(path) as temporary:
        Image.fromarray(canvas).save(temporary, quality=70, method=2)
    return True


def _upright(volume: Volume) -> NDArray[Any]:
    """Return the voxels `(C, X, Y, Z)`, permuted and flipped to the nearest RAS; pictures unchanged."""
    if volume.shape[2] == 1:
        return volume.array
    orientation = nib.orientations.io_orientation(volume.affine)
    return np.stack([nib.orientations.apply_orientation(channel, orientation) for channel in volume.array])


def _spacing(volume: Volume) -> list[float]:
    """Return the spacing of `_upright` in mm."""
    if volume.shape[2] == 1:
        return list(volume.spacing)
    order = nib.orientations.io_orientation(volume.affine)[:, 0].astype(int).tolist()
    return [volume.spacing[order.index(axis)] for axis in range(3)]


def _extent(mask: NDArray[Any], axis: int, spacing: float) -> slice:
    found = np.nonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))[0]
    margin = int(np.ceil(MARGIN_MM / spacing))
    return slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + margin + 1, mask.shape[axis]))


def _panel(
    voxels: NDArray[Any], mask: NDArray[Any], spacing: Sequence[float], axis: int, place: int
) -> NDArray[np.uint8]:
    """Draw a section `(rows, columns, 3)` with outlines, first row on top."""
    from PIL import Image

    across, up = (other for other in range(3) if other != axis)
    length, height = voxels.shape[across + 1] * spacing[across], voxels.shape[up + 1] * spacing[up]
    scale = min(HEIGHT / height, 2 * HEIGHT / length)
    size = max(round(length * scale), 1), max(round(height * scale), 1)
    shown, cut = _grey(np.take(voxels, place, axis=axis + 1)), np.take(mask, place, axis=axis)
    flip = slice(None) if mask.shape[2] == 1 and axis == 2 else slice(None, None, -1)  # a picture's y runs down
    picture = Image.fromarray(shown.transpose(2, 1, 0)[flip].copy()).resize(size, Image.Resampling.BILINEAR)
    large = np.asarray(Image.fromarray(cut.T[flip].astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    drawn = np.array(picture)
    for index in np.unique(large[large > 0]).tolist():
        drawn[_edge(large == index)] = colour_of(index)
    return drawn


def _lettered(panel: NDArray[np.uint8], letters: str) -> NDArray[np.uint8]:
    """Write a letter at the left, right, lower and upper edge of a panel."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(panel)
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    sides = [(LETTER, height // 2, "lm"), (width - LETTER, height // 2, "rm")]
    places = [*sides, (width // 2, height - LETTER, "mb"), (width // 2, LETTER, "mt")]
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        draw.text((x, y), letter, fill="white", anchor=anchor, stroke_width=1, stroke_fill="black")
    return np.array(picture)


def _grey(section: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert `(C, across, up)` to `(3, across, up)`, windowed from the 1st to the 99th percentile."""
    section = (section if len(section) == 3 else section[:1]).astype(np.float64)
    low, high = np.percentile(section, (1, 99))
    shown = np.clip((section - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.broadcast_to(shown, (3, *shown.shape[1:])).astype(np.uint8)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the border pixels of a mask."""
    inner = np.pad(mask, 1)
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~inside
    return edge


def alt_text(name: str, ml: Mapping[str, float]) -> str:
    """Describe an overview for screen readers."""
    found = ", ".join(f"{label} {value:.2f} mL" for label, value in ml.items() if value) or "no label"
    return f"{name}: sections through the box of the labels, with outlines of {found}"
