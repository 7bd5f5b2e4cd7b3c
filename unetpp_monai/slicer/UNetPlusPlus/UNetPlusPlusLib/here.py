"""Segment a region and put the result into a segmentation that is being edited."""

from __future__ import annotations  # Slicer's Python may be 3.9

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .logic import SegmentationLogic
from .process import Options, SegmentationError
from .region import Slab, crop, inside, matrix_of, transform_between
from .words import _

TERMS = "TerminologyEntry"  # tag of a segment


class Editor(Protocol):
    """Interface of Slicer's Segment Editor, which respects the user's masking and overwrite mode."""

    def save(self) -> None:
        """Save the segmentation for undo."""

    def blank(self) -> Any:
        """Return an empty labelmap on the edited grid, or None."""

    def add(self, segment: str, labels: Any) -> None:
        """Add voxels to a segment."""

    def remove(self, segment: str, labels: Any) -> None:
        """Remove voxels from a segment."""


class RegionLogic(SegmentationLogic):
    """Segments a region: `begin`, then `update` until it returns True; `cancel` ends it early."""

    def begin(
        self, volume: Any, options: Options, target: Any, region: Sequence[Slab], editor: Editor, *, whole: bool = False
    ) -> None:
        """Start to segment a region of a volume.

        Args:
            volume: what is segmented.
            options: how.
            target: the segmentation that is edited.
            region: only there it changes.
            editor: changes it.
            whole: give the network the whole volume, as tasks for whole heads need, not only the region.

        Raises:
            SegmentationError: one is running, or it cannot be started.
        """
        if volume is None or target is None:
            raise SegmentationError(_("the editor must have a segmentation and a source volume; choose both"))
        part = crop(volume, region)  # fails if the region is outside
        self.apply(volume if whole else part, options, target)
        self._parent, self._region, self._editor = volume.GetParentTransformNode(), tuple(region), editor

    def _add(self, folder: Path, report: Mapping[str, Any]) -> None:
        if self._target is None or self._target.GetScene() is None:
            raise SegmentationError(_("the segmentation must be in the scene, got none; it was removed meanwhile"))
        scene, storage = slicer.vtkMRMLScene(), slicer.vtkMRMLSegmentationStorageNode()  # no node in the user's scene
        found = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        path = folder / report["outputs"]["segnrrd"]["file"]
        storage.SetFileName(str(path))
        if not storage.ReadData(found):
            raise SegmentationError(
                _("Slicer must be able to read {file}, and is not; see its log").format(file=path.name)
            )
        merge(found, self._target, transform_between(self._parent, None), self._region, self._editor)


def merge(found: Any, target: Any, found_to_world: Any, region: Sequence[Slab], editor: Editor) -> None:
    """Replace segments within a region by those of a result with the same names.

    Args:
        found: segmentation node with the result.
        target: segmentation node that is edited.
        found_to_world: 4x4 array.
        region: only there segments change.
        editor: changes them.

    Raises:
        SegmentationError: the editor has no grid.
    """
    grid = editor.blank()
    if grid is None:
        raise SegmentationError(_("the segmentation must have a geometry, got none; choose a source volume"))
    to_world = transform_between(target.GetParentTransformNode(), None)
    to_target, matrix = vtk.vtkTransform(), vtk.vtkMatrix4x4()
    matrix.DeepCopy((numpy.linalg.inv(to_world) @ found_to_world).ravel())
    to_target.SetMatrix(matrix)
    grid.GetImageToWorldMatrix(matrix)
    wanted = inside(region, grid.GetExtent(), to_world @ matrix_of(matrix))
    editor.save()
    segments = found.GetSegmentation()
    for index in range(segments.GetNumberOfSegments()):
        segment_id = segments.GetNthSegmentID(index)
        labels = _on_grid(found, segment_id, grid, to_target)
        own = _own(target.GetSegmentation(), segments.GetSegment(segment_id), add=bool((wanted & labels).any()))
        if own is not None:
            editor.remove(own, _image(grid, wanted & ~labels))
            editor.add(own, _image(grid, wanted & labels))


def _own(segmentation: Any, like: Any, *, add: bool) -> str | None:
    """Find the segment of the same name; optionally add an empty one."""
    for index in range(segmentation.GetNumberOfSegments()):
        if segmentation.GetNthSegment(index).GetName() == like.GetName():
            return str(segmentation.GetNthSegmentID(index))
    if not add:
        return None
    own = str(segmentation.AddEmptySegment("", like.GetName(), like.GetColor()))
    terms = vtk.mutable("")
    if like.GetTag(TERMS, terms):
        segmentation.GetSegment(own).SetTag(TERMS, str(terms))
    return own


def _on_grid(found: Any, segment_id: str, grid: Any, transform: Any) -> Any:
    """Read a segment as a boolean array on another grid, by the nearest voxel."""
    image, placed = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    found.GetBinaryLabelmapRepresentation(segment_id, image)
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if image.IsEmpty() or not resample(image, grid, placed, False, False, transform):
        return numpy.zeros(grid.GetDimensions()[::-1], bool)
    return vtk_to_numpy(placed.GetPointData().GetScalars()).reshape(grid.GetDimensions()[::-1]) != 0


def _image(grid: Any, labels: Any) -> Any:
    """Write a boolean array as a labelmap."""
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(grid)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = labels.ravel()
    return image
