"""Pictures to look at: a label map on its image, and how metrics are spread over cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from .errors import OutputError
from .io.files import complete_file
from .labels import Label, label_colour
from .volume import Volume

PLANES = ("sagittal", "coronal", "axial")  # normal to X, Y, Z of RAS


def write_preview(image: Volume, labels: Volume, names: Sequence[Label], path: Path) -> None:
    """Draw sagittal, coronal and axial sections, outlines of the labels on the image, and their names.

    Args:
        image: `(1, X, Y, Z)`.
        labels: `(1, X, Y, Z)` label indices on the same grid.
        names: of the labels, with colours.
        path: PNG to write.

    Raises:
        OutputError: matplotlib is not installed, or the file cannot be written.
    """
    Figure = _figure_class()  # noqa: N806 - a class
    from matplotlib.lines import Line2D

    voxels, mask, spacing = (_to_ras(image), _to_ras(labels), _ras_spacing(image))
    found = np.argwhere(mask > 0)
    centre = np.median(found, axis=0).astype(int) if len(found) else np.array(mask.shape) // 2
    low, high = np.percentile(voxels, (1, 99))
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="black")
    for axis, (plane, panel) in enumerate(zip(PLANES, figure.subplots(1, 3), strict=True)):
        across, up = (other for other in range(3) if other != axis)
        section, cut = (np.take(array, centre[axis], axis=axis).T for array in (voxels, mask))
        panel.imshow(section, cmap="gray", origin="lower", vmin=low, vmax=high, aspect=spacing[up] / spacing[across])
        for label in names:
            if (cut == label.index).any():
                panel.contour(cut == label.index, [0.5], colors=[_colour(label)], linewidths=1.5)
        panel.set_title(f"{plane}, {'RAS'[axis]} {_ras_mm(image, centre, axis):.0f} mm", color="white")
        panel.axis("off")
    handles = [Line2D([], [], color=_colour(label), label=label.name) for label in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), facecolor="black", labelcolor="white")
    with complete_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_distribution(metrics: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw one panel per metric: a box per label, and a dot per case.

    Args:
        metrics: name of the metric -> label -> value of each case.
        path: PNG to write.

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
        raise OutputError("a picture needs matplotlib; pip install 'unetpp_monai[preview]'") from error
    return Figure


def _to_ras(volume: Volume) -> np.ndarray:
    """Voxels of the first channel, axes permuted and flipped to the nearest RAS."""
    orientation = nib.orientations.io_orientation(volume.affine)
    return np.asarray(nib.orientations.apply_orientation(volume.array[0], orientation))


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
