"""What validators and readers of others say about DICOM files that we wrote."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import SimpleITK
from matplotlib.path import Path as Polygon

from helpers.dicom_phantoms import LPS_TO_RAS


def run(tool, *arguments):
    """Run an external program; skip the test where it is not installed."""
    if not (program := shutil.which(tool)):
        pytest.skip(f"needs {tool}")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, errors="replace")


def errors_of(tool, *arguments):
    """Lines in which dicom3tools complain; their exit status tells nothing."""
    done = run(tool, *arguments)
    said = (done.stdout + done.stderr).splitlines()
    assert said or tool != "dciodvfy"  # which begins with the kind of object
    return [line for line in said if line.startswith(("Error", "Abort"))]


def array_and_affine(path):
    """What SimpleITK reads: array `(X, Y, Z)`, affine RAS."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, LPS_TO_RAS @ affine


def through_dcmqi(path, folder):
    """What dcmqi makes of a SEG file: array, affine RAS, and its JSON."""
    folder.mkdir()
    options = ("--outputDirectory", folder, "--outputType", "nrrd", "--mergeSegments")
    done = run("segimage2itkimage", "--inputDICOM", path, *options)
    assert done.returncode == 0, done.stderr
    meta = json.loads(next(folder.glob("*.json")).read_text())
    return *array_and_affine(next(folder.glob("*.nrrd"))), meta


def contours_of(dataset, number):
    """Points (N, 3) in mm, LPS, and the reference, of each contour of a structure."""
    item = next(item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    for contour in item.get("ContourSequence", ()):
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert contour.NumberOfContourPoints == len(points)
        yield points, contour.ContourImageSequence[0]


def masks_by_matplotlib(dataset, number, sources):
    """Mask `(columns, rows, instances)` of a structure by the headers that its contours refer to."""
    rows, columns = sources[0].Rows, sources[0].Columns
    mask = np.zeros((columns, rows, len(sources)), int)
    order = [source.SOPInstanceUID for source in sources]
    centres = np.argwhere(np.ones((columns, rows)))
    for points, reference in contours_of(dataset, number):
        image = order.index(reference.ReferencedSOPInstanceUID)
        along, down = np.array(sources[image].ImageOrientationPatient, float).reshape(2, 3)
        offsets = points - np.array(sources[image].ImagePositionPatient, float)
        assert np.abs(offsets @ np.cross(along, down)).max() < 2e-4  # in the plane of the image
        down_mm, along_mm = sources[image].PixelSpacing
        flat = np.stack([offsets @ along / along_mm, offsets @ down / down_mm], axis=1)
        mask[:, :, image] += Polygon(np.vstack([flat, flat[:1]])).contains_points(centres).reshape(columns, rows)
    return mask


def check_report(path):
    """Let dciodvfy, DCMTK and dcmqi read a report; return what dcmqi finds: its measurement groups."""
    assert errors_of("dciodvfy", path) == []
    dump = run("dsrdump", path)
    assert dump.returncode == 0, dump.stderr
    found = path.with_suffix(".json")
    done = run("tid1500reader", "--inputDICOM", path, "--outputMetadata", found)
    assert done.returncode == 0, done.stderr
    return json.loads(found.read_text())["Measurements"]


def volumes_of(groups):
    """Millilitres by tracking identifier of dcmqi's measurement groups that have a volume."""
    return {
        group["TrackingIdentifier"]: float(item["value"])
        for group in groups
        for item in group.get("measurementItems", [])
        if (item["quantity"]["CodeValue"], item["units"]["CodeValue"]) == ("118565006", "mL")
    }
