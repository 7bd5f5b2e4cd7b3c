"""Run apart from the tests: read segmentations with 3D Slicer's own classes and say what is in them.

python slicer_segmentations.py OUT.npz [--crop FOLDER] FILE...: names, colours, terminology and voxels' places (RAS) by
file; with --crop, Slicer also saves each file cut to its minimal extent under the same name.
"""

import json
import sys
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy


def places(image, value):
    """Centres of the voxels of a value, (n, 3), mm, RAS."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    low_x, high_x, low_y, high_y, low_z, high_z = image.GetExtent()
    if high_x < low_x:
        return np.zeros((0, 3))
    shape = (high_z - low_z + 1, high_y - low_y + 1, high_x - low_x + 1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape).T
    return np.add(np.argwhere(voxels == value), (low_x, low_y, low_z)) @ affine[:3, :3].T + affine[:3, 3]


def read(path, crop):
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise SystemExit(f"Slicer cannot read {path}")
    segmentation, found, voxels = node.GetSegmentation(), [], []
    for index in range(segmentation.GetNumberOfSegments()):
        segment, terms = segmentation.GetNthSegment(index), vtk.mutable("")
        segment.GetTag("TerminologyEntry", terms)
        entry = {"name": segment.GetName(), "colour": segment.GetColor(), "value": segment.GetLabelValue()}
        found.append({**entry, "terms": str(terms)})
        voxels.append(places(segment.GetRepresentation("Binary labelmap"), segment.GetLabelValue()))
    if crop:
        storage.SetFileName(str(Path(crop) / path.name))
        storage.CropToMinimumExtentOn()
        if not storage.WriteData(node):
            raise SystemExit(f"Slicer cannot write {path}")
    return found, voxels


if __name__ == "__main__":
    out, files, crop = sys.argv[1], sys.argv[2:], None
    if files[0] == "--crop":
        crop, files = files[1], files[2:]
    arrays, found = {}, {}
    for file in files:
        found[Path(file).name], voxels = read(Path(file), crop)
        arrays.update({f"{Path(file).name}:{index}": array for index, array in enumerate(voxels)})
    np.savez(out, found=json.dumps(found), **arrays)
