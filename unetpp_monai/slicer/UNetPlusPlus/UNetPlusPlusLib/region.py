"""A region in mm, from an ROI box or the slice views, and the part of an image inside it."""

from __future__ import annotations  # Slicer's Python may be 3.9

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .process import SegmentationError
from .words import _

ENDLESS = float("inf")


@dataclass(frozen=True)
class Slab:
    """Points with local coordinates from -half to half on every axis."""

    to_local: Any  # 4x4 numpy array, from the world (RAS, mm)
    half: tuple[float, float, float]  # mm; infinite: no bound


def matrix_of(matrix: Any) -> Any:
    """Read a vtkMatrix4x4 as a 4x4 array."""
    return numpy.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def transform_between(source: Any, target: Any) -> Any:
    """Return the 4x4 array between two transform nodes; None: the world.

    Raises:
        SegmentationError: it is no matrix.
    """
    matrix = vtk.vtkMatrix4x4()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix):
        raise SegmentationError(_("transforms of volume and segmentation must be linear, got another; harden it first"))
    return matrix_of(matrix)


def roi_region(roi: Any) -> tuple[Slab, ...]:
    """Return the region of an ROI node."""
    size = [0.0] * 3
    roi.GetSizeWorld(size)
    axes = matrix_of(roi.GetObjectToWorldMatrix())
    axes[:3, :3] /= numpy.linalg.norm(axes[:3, :3], axis=0)  # a transform may scale them; the size includes that
    return (Slab(numpy.linalg.inv(axes), (size[0] / 2, size[1] / 2, size[2] / 2)),)


def view_region(views: Sequence[Any]) -> tuple[Slab, ...]:
    """Return the region that all slice views show; each view is bounded by the views across it.

    Args:
        views: vtkMRMLSliceNode.
    """
    slabs = []
    for view in views:
        width, height, _ = view.GetFieldOfView()
        slabs.append(Slab(numpy.linalg.inv(matrix_of(view.GetSliceToRAS())), (width / 2, height / 2, ENDLESS)))
    return tuple(slabs)


def inside(region: Sequence[Slab], extent: Sequence[int], to_world: Any) -> Any:
    """Mark the voxels whose centres are in a region.

    Args:
        region: all its slabs count.
        extent: first and last index of I, J and K, as VTK says it.
        to_world: 4x4 array from index to world.

    Returns:
        Boolean array (K, J, I).
    """
    sizes = [max(0, extent[2 * axis + 1] - extent[2 * axis] + 1) for axis in range(3)]
    found = numpy.ones(sizes[::-1], bool)
    steps = [numpy.arange(sizes[axis], dtype=float) + extent[2 * axis] for axis in range(3)]
    i, j, k = steps[0][None, None, :], steps[1][None, :, None], steps[2][:, None, None]
    for slab in region:
        local = slab.to_local @ to_world
        for axis, half in enumerate(slab.half):
            if half != ENDLESS:
                place = local[axis, 0] * i + local[axis, 1] * j + local[axis, 2] * k + local[axis, 3]
                found &= numpy.abs(place) <= half
    return found


def crop(volume: Any, region: Sequence[Slab]) -> Any:
    """Cut the smallest box of voxels around a region out of a volume.

    Args:
        volume: node, under a linear transform or none.
        region: what is wanted.

    Returns:
        A volume node outside any scene, in the place of that part within the volume's own coordinates.

    Raises:
        SegmentationError: the volume has no voxels, or none in the region.
    """
    name, image = volume.GetName(), volume.GetImageData()
    if image is None:
        raise SegmentationError(_("a volume must have voxels, got none in {name!r}").format(name=name))
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_ras, to_world = matrix_of(matrix), transform_between(volume.GetParentTransformNode(), None)
    places = numpy.nonzero(inside(region, image.GetExtent(), to_world @ to_ras))
    if not len(places[0]):
        reason = _("the region must hold a part of {name!r}, got none; move the box or the views")
        raise SegmentationError(reason.format(name=name))
    low, high = ([int(edge(axis)) for axis in reversed(places)] for edge in (numpy.min, numpy.max))
    part = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    part = part[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    node = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(node, numpy.ascontiguousarray(part))
    node.SetName(name)
    begin = to_ras @ [*(at + first for at, first in zip(low, image.GetExtent()[::2])), 1]  # noqa: B905 - Python 3.9
    for axis in range(3):
        matrix.SetElement(axis, 3, begin[axis])
    node.SetIJKToRASMatrix(matrix)
    return node
