"""Convert between nodes and files: write a volume; read segmentation, uncertainty and volumes."""

from __future__ import annotations  # Slicer's Python may be 3.9

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk

from .process import SegmentationError
from .words import _

UNCERTAINTY_COLOURS = "vtkMRMLColorTableNodeIron"  # black, red, yellow, white
SURE = 0.2  # below it the map is transparent
OPACITY = 0.5  # of the map over the image
BESIDE = ("UNetPlusPlus.uncertainty", "UNetPlusPlus.table")  # references of a segmentation to its other results
MISSING = _("the volume must be in the scene, got none; it was removed while it was segmented")


@dataclass(frozen=True)
class Results:
    """Nodes that a segmentation left in the scene."""

    segmentation: Any  # vtkMRMLSegmentationNode: names, colours and terminology of the bundle's labels
    uncertainty: Any  # vtkMRMLScalarVolumeNode, 0 sure to 1; or None
    table: Any  # vtkMRMLTableNode: a row per label, in mL, then one per remark
    review: bool | None  # whether a person should look; None: not known
    remarks: tuple[str, ...] = ()  # values outside of the bundle's training range or gates


def write_volume(volume: Any, path: Path) -> None:
    """Write a volume node as `.nrrd`, without its transform, which applies to the results too.

    Raises:
        SegmentationError: it has no voxels, or cannot be written.
    """
    if volume.GetImageData() is None:
        raise SegmentationError(_("a volume must have voxels, got none in {name!r}").format(name=volume.GetName()))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(False)  # it is deleted soon
    if not storage.WriteData(volume):
        reason = _("{name!r} must be writable to {folder}; is the disk full?")
        raise SegmentationError(reason.format(name=volume.GetName(), folder=path.parent))


def dicom_files(volume: Any) -> list[Path]:
    """Find the files of the series from which a volume was loaded, in Slicer's DICOM database.

    Raises:
        SegmentationError: it was not loaded from DICOM, or the database lacks a file.
    """
    name, uids = volume.GetName(), (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not uids:
        reason = _("a DICOM SEG needs a volume loaded from DICOM, got {name!r}; leave its folder empty")
        raise SegmentationError(reason.format(name=name))
    files = [slicer.dicomDatabase.fileForInstance(uid) for uid in uids]
    missing = sum(not (file and Path(file).is_file()) for file in files)
    if missing:
        reason = _("all {count} files of {name!r} must be there, {missing} are not; import them again")
        raise SegmentationError(reason.format(count=len(uids), name=name, missing=missing))
    return [Path(file) for file in files]


def show_3d(segmentation: Any, *, shown: bool = True) -> None:
    """Show segments as surfaces in 3-D views, or hide them."""
    if shown:
        segmentation.CreateClosedSurfaceRepresentation()
    segmentation.CreateDefaultDisplayNodes()
    segmentation.GetDisplayNode().SetVisibility3D(shown)


def _place(volume: Any, node: Any) -> None:
    """Put a node beside the volume in the subject hierarchy: under its study, if it has one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volume.GetScene())
    beside = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    if not beside:
        return
    parent, item = hierarchy.GetItemParent(beside), hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def add_results(volume: Any, folder: Path, report: Mapping[str, Any], target: Any = None) -> Results:
    """Create nodes from the results of `unetpp segment`.

    Args:
        volume: what was segmented; the nodes take its name and its transform.
        folder: with `.seg.nrrd` and, perhaps, `_uncertainty.nii.gz`.
        report: the `.json`.
        target: segmentation node whose segments are replaced, with what came with them; None: a new one.

    Raises:
        SegmentationError: Slicer cannot read the files, or the volume is gone; then the scene is as before.
    """
    scene = volume.GetScene()
    if scene is None:
        raise SegmentationError(MISSING)
    name, maps = volume.GetName(), sorted(folder.glob("*_uncertainty.nii.gz"))
    segmentation = _read(
        volume,
        "Segmentation",
        folder / report["outputs"]["segnrrd"]["file"],
        _("{name} segmentation").format(name=name),
    )
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    uncertainty = None
    if maps:
        try:
            uncertainty = _read(volume, "ScalarVolume", maps[0], _("{name} uncertainty").format(name=name))
        except SegmentationError:
            scene.RemoveNode(segmentation)
            raise
        _show_over(volume, uncertainty)
    table = _table(scene, report, _("{name} volumes").format(name=name))
    if target is not None:
        segmentation = _replace(target, segmentation)
    for node in (segmentation, uncertainty, table):
        if node is not None:
            _place(volume, node)
    _keep_beside(segmentation, (uncertainty, table))
    return Results(segmentation, uncertainty, table, report.get("review"), tuple(report.get("plausibility") or ()))


def _read(volume: Any, kind: str, path: Path, name: str) -> Any:
    scene = volume.GetScene()
    storage = getattr(slicer, f"vtkMRML{'VolumeArchetype' if kind == 'ScalarVolume' else kind}StorageNode")()
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass(f"vtkMRML{kind}Node", scene.GenerateUniqueName(name))
    if not storage.ReadData(node):
        scene.RemoveNode(node)
        raise SegmentationError(_("Slicer must be able to read {file}, and is not; see its log").format(file=path.name))
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return node


def _replace(target: Any, segmentation: Any) -> Any:
    """Move the segments of a node into another, and remove the empty one."""
    target.GetSegmentation().DeepCopy(segmentation.GetSegmentation())
    target.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
    target.CreateDefaultDisplayNodes()
    segmentation.GetScene().RemoveNode(segmentation)
    return target


def _keep_beside(segmentation: Any, nodes: Sequence[Any]) -> None:
    """Reference the other results of a segmentation, and remove older ones."""
    for name, node in zip(BESIDE, nodes):  # noqa: B905 - Python 3.9
        before = segmentation.GetNodeReference(name)
        segmentation.SetNodeReferenceID(name, node.GetID() if node is not None else None)
        if before is not None:
            segmentation.GetScene().RemoveNode(before)


def _show_over(volume: Any, uncertainty: Any) -> None:
    """Overlay the map on the volume, in the views that show it."""
    scene = volume.GetScene()
    display = scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAndObserveColorNodeID(UNCERTAINTY_COLOURS)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 1)
    display.AutoThresholdOff()
    display.SetThreshold(SURE, 1)
    display.ApplyThresholdOn()
    uncertainty.SetAndObserveDisplayNodeID(display.GetID())
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        view = scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        if view.GetBackgroundVolumeID() == volume.GetID():
            view.SetForegroundVolumeID(uncertainty.GetID())
            view.SetForegroundOpacity(OPACITY)


def _table(scene: Any, report: Mapping[str, Any], name: str) -> Any:
    remarks = [_("Check: {remark}").format(remark=remark) for remark in report.get("plausibility") or ()]
    none = [float("nan")] * len(remarks)
    volumes = _("Volume (mL)")
    columns: list[tuple[str, Any, list[Any]]] = [
        (_("Label"), vtk.vtkStringArray(), [*report["ml"], *remarks]),
        (volumes, vtk.vtkDoubleArray(), [*report["ml"].values(), *none]),
    ]
    if report.get("scores"):
        scores = [_number(report["scores"].get(label)) for label in report["ml"]]
        columns.append((_("Uncertainty score"), vtk.vtkDoubleArray(), scores + none))
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    for title, array, values in columns:
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    table.SetUseColumnTitleAsColumnHeader(True)
    table.SetColumnUnitLabel(volumes, "mL")
    table.SetLocked(True)
    return table


def _number(value: float | None) -> float:
    """A label without voxels has no score."""
    return float("nan") if value is None else float(value)
