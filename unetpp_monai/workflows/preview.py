"""Pictures to look at: a label map on its image, and how metrics are spread over cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..errors import OutputError
from ..files import complete_file
from ..io.overview import CONVENTION, edge_letters
from ..labels import Label, label_colour
from ..volume import Volume

PLANES = ("sagittal", "coronal", "axial")  # normal to X, Y, Z of RAS
AROUND = 12.0  # mm beside a structure that is shown close up


def write_preview(
    image: Volume,
    labels: Volume,
    names: Sequence[Label],
    path: Path,
    *,
    reference: Volume | None = None,
    structures: Sequence[Sequence[int]] = (),
) -> None:
    """Draw sagittal, coronal and axial sections, outlines of the labels on the image, and their names.

    Letters name the patient's directions at the edges of a section; left is at the left. The sections pass through
    the median of all labels; with `structures`, each has a row of its own, close up.

    Args:
        image: `(1, X, Y, Z)`; a single slice or picture, `(1 or 3, X, Y, 1)`, is one panel, y down.
        labels: `(1, X, Y, Z)` label indices on the same grid.
        names: of the labels, with colours.
        path: PNG to write.
        reference: `(1, X, Y, Z)` label indices on the same grid, whose outlines are dashed.
        structures: label indices of each, such as those of the left and of the right.

    Raises:
        OutputError: matplotlib is not installed, or the file cannot be written.
    """
    figure_class = _figure_class()
    from matplotlib.lines import Line2D

    voxels, mask, spacing = _to_ras(image), _to_ras(labels)[0], _ras_spacing(image)
    masks = {"solid": mask} if reference is None else {"solid": mask, "dashed": _to_ras(reference)[0]}
    flat = mask.shape[2] == 1
    axes = (2,) if flat else (0, 1, 2)
    rows = [] if flat else [np.argwhere(np.isin(mask, own)) for own in structures]
    close = [near for near in rows if len(near)]
    figure = figure_class(
        figsize=(4 * len(axes), 0.6 + 4 * max(len(close), 1)), layout="constrained", facecolor="black"
    )
    panels = figure.subplots(max(len(close), 1), len(axes), squeeze=False)
    for row, found in zip(panels, close or [np.argwhere(mask > 0)], strict=True):
        centre = np.median(found, axis=0).astype(int) if len(found) else np.array(mask.shape) // 2
        box = _around(found, spacing, mask.shape) if close else tuple(map(slice, mask.shape))
        for axis, panel in zip(axes, row, strict=True):
            plane = (*box[:axis], centre[axis], *box[axis + 1 :])
            across, up = (other for other in range(3) if other != axis)
            _draw_section(panel, voxels[(slice(None), *plane)], spacing[up] / spacing[across], flat)
            for style, drawn in masks.items():
                _draw_outlines(panel, drawn[plane].T, names, style)
            if not flat:
                panel.set_title(_title(axis, _ras_mm(image, centre, axis)), color="white")
                _draw_letters(panel, axis)
            panel.axis("off")
    if not flat:
        figure.suptitle(CONVENTION, color="white", fontsize=11)
    handles = [Line2D([], [], color=_colour(label), label=label.name) for label in names]
    if reference is not None:
        handles += [Line2D([], [], color="white", linestyle="dashed", label="reference")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, facecolor="black", labelcolor="white")
    with complete_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _around(found: np.ndarray, spacing: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    """A cube around a structure, so that its three sections have one scale."""
    low, high = found.min(0), found.max(0) + 1
    half = ((high - low) * spacing).max() / 2 + AROUND
    middle = (low + high) / 2
    starts, stops = np.floor(middle - half / spacing).astype(int), np.ceil(middle + half / spacing).astype(int)
    return tuple(slice(max(start, 0), min(stop, size)) for start, stop, size in zip(starts, stops, shape, strict=True))


def _draw_section(panel: Any, section: np.ndarray, aspect: float, flat: bool) -> None:
    """Show `(C, across, up)` as grey or RGB, contrast from the 1st to the 99th percentile."""
    low, high = np.percentile(section, (1, 99))
    shown = np.clip((section.astype(np.float64) - low) / max(high - low, 1e-6), 0, 1).transpose(2, 1, 0)
    shown = shown if shown.shape[2] == 3 else shown[..., 0]
    panel.imshow(shown, cmap="gray", origin="upper" if flat else "lower", vmin=0, vmax=1, aspect=aspect)


def _title(axis: int, place: float) -> str:
    """Name a plane and its distance from the origin on the side where it is, such as "sagittal, L 27 mm"."""
    return f"{PLANES[axis]}, {('LPI' if place < 0 else 'RAS')[axis]} {abs(place):.0f} mm"


def _draw_letters(panel: Any, axis: int) -> None:
    """Write the patient's directions at the edges of a section."""
    sides = [(0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")]
    places = [*sides, (0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top")]
    behind = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
    for letter, (across, up, side, height) in zip(edge_letters(axis), places, strict=True):
        shown = {"transform": panel.transAxes, "color": "white", "bbox": behind, "fontsize": 12}
        panel.text(across, up, letter, horizontalalignment=side, verticalalignment=height, **shown)


def _draw_outlines(panel: Any, cut: np.ndarray, names: Sequence[Label], style: str) -> None:
    for label in names:
        if (cut == label.index).any() and not (cut == label.index).all():
            panel.contour(cut == label.index, [0.5], colors=[_colour(label)], linewidths=1.5, linestyles=style)


def write_distribution(metrics: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw one panel per metric: a box per label, and a dot per case.

    Args:
        metrics: name of the metric -> label -> value of each case.
        path: picture to write, `.svg` or `.png`.

    Raises:
        OutputError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _figure_class()(figsize=(4 * len(metrics), 4), layout="constrained")
    jitter = np.random.default_rng(0)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, (metric, labels) in zip(panels, metrics.items(), strict=True):
        panel.boxplot(list(labels.values()), tick_labels=list(labels), showfliers=False)
        for place, values in enumerate(labels.values(), start=1):
            panel.plot(place + jitter.uniform(-0.15, 0.15, len(values)), values, ".", alpha=0.4, markersize=5)
        panel.set_title(metric)
    with complete_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("a picture needs matplotlib; pip install 'unetpp_monai[train]'") from error
    return Figure


def _to_ras(volume: Volume) -> np.ndarray:
    """Voxels `(C, X, Y, Z)`, axes permuted and flipped to the nearest RAS."""
    orientation = nib.orientations.io_orientation(volume.affine)
    return np.stack([nib.orientations.apply_orientation(channel, orientation) for channel in volume.array])


def _ras_spacing(volume: Volume) -> np.ndarray:
    order = nib.orientations.io_orientation(volume.affine)[:, 0].astype(int)
    spacing = np.empty(3)
    spacing[order] = volume.spacing
    return spacing


def _ras_mm(volume: Volume, index: np.ndarray, axis: int) -> float:
    """Position of a voxel of the RAS array along one axis, mm."""
    orientation = nib.orientations.io_orientation(volume.affine)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)
    return float((affine @ [*index, 1])[axis])


def _colour(label: Label) -> tuple[float, float, float]:
    red, green, blue = label_colour(label)
    return red / 255, green / 255, blue / 255
