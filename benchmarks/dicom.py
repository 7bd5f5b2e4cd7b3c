"""What each format costs: `python -m benchmarks.dicom --slices 200 --structures 12`.

A made-up CT and label map are written in every format into a temporary folder; each file is read back and compared
on the way, as always. Prints a Markdown table.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.tables import write_rows
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.labels import Label
from unetpp_monai.provenance import Algorithm
from unetpp_monai.volume import Volume
from unetpp_monai.workflows.outputs import FORMATS, Findings, write_outputs

PIXELS = 512  # rows and columns


def write_ct(folder: Path, slices: int) -> None:
    """Write a series of noise, 0.7 x 0.7 x 1.5 mm."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    rng = np.random.default_rng(0)
    for index in range(slices):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 1, index + 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 1.5 * index], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1.5
        dataset.Rows = dataset.Columns = PIXELS
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelData = rng.integers(0, 4096, (PIXELS, PIXELS), dtype=np.uint16).tobytes()
        dataset.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


def ellipsoids(volume: Volume, count: int) -> Volume:
    """Label map of ellipsoids on the volume's grid, some of them overlapping: later ones win."""
    rng = np.random.default_rng(1)
    labels = np.zeros(volume.shape, dtype=np.uint8)
    axes = [np.linspace(0, 1, size, dtype=np.float32) for size in volume.shape]
    for index in range(1, count + 1):
        centre, radius = rng.uniform(0.2, 0.8, 3), rng.uniform(0.05, 0.15, 3)
        x, y, z = (((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True))
        labels[x[:, None, None] + y[None, :, None] + z < 1] = index
    return Volume(labels[None], volume.affine)


def main() -> None:
    """Write and read every format once; print seconds and sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--structures", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "ct").mkdir()
        write_ct(folder / "ct", options.slices)
        start = time.perf_counter()
        image = read_dicom_series(folder / "ct")
        print(
            f"pydicom {pydicom.__version__}: {options.slices} slices of {PIXELS}x{PIXELS}, {options.structures} labels"
        )
        print(f"series read and checked in {time.perf_counter() - start:.1f} s\n")
        labels = ellipsoids(image.volume, options.structures)
        structures = tuple(Label(i, f"structure {i}", None, None, (), None) for i in range(1, options.structures + 1))
        counts = np.bincount(labels.array.ravel(), minlength=options.structures + 1)
        ml = {label.name: float(counts[label.index] * labels.voxel_ml) for label in structures}
        rows = []
        for name, kinds, encoding in (
            ("nifti", ["nifti"], "binary"),
            ("segnrrd", ["segnrrd"], "binary"),
            ("dicomseg, labelmap", ["dicomseg"], "labelmap"),
            ("dicomseg, binary", ["dicomseg"], "binary"),
            ("rtstruct", ["rtstruct"], "binary"),
        ):
            findings = Findings(labels, structures, ml, Algorithm("made up", "1"), image.sources, None, encoding)
            start = time.perf_counter()
            write_outputs(findings, folder, "case", formats=kinds)
            written, path = time.perf_counter() - start, folder / f"case{FORMATS[kinds[0]][0]}"
            start = time.perf_counter()
            read_label_file(path, grid=image.volume)
            read = time.perf_counter() - start
            size = round(path.stat().st_size / 1e6, 2)
            row = {"format": name, "written and read back, s": round(written, 1), "MB": size, "read, s": round(read, 1)}
            rows.append(row)
        write_rows(rows, options.output)


if __name__ == "__main__":
    main()
