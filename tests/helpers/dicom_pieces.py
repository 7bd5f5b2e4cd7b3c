"""Pieces of which dicom_cases.py makes its series with pydicom: datasets, changes of them, changes of their files."""

import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

STORED = (np.arange(10 * 8 * 12) * 7 % 4001).astype(np.uint16).reshape(10, 8, 12)  # columns, rows, slices; all differ
Slices = list[Dataset]


def uid(*names) -> UID:
    return generate_uid(entropy_srcs=["torture", *map(str, names)])


STRAIGHT = np.eye(3)


def lps(axes=STRAIGHT, spacing=(0.8, 1.1, 2.5), origin=(-12.5, -40.25, 7.0)) -> np.ndarray:
    """Voxel index (column, row, slice) to mm, LPS; `axes` has the direction of each index in its columns."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.asarray(axes, float) * spacing, origin
    return affine


def turned(around_z: float, around_x: float) -> np.ndarray:
    a, b = np.deg2rad((around_z, around_x))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return about_z @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])


AXIAL = lps()
OBLIQUE = lps(turned(25, -10))


def make_slices(stored, affine=AXIAL, slope=("1",), intercept=("-1024",), *, key="a") -> Slices:
    """CT slices with everything that strict readers want; `key` makes the UIDs of a series."""
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    normal = np.cross(affine[:3, 0], affine[:3, 1]) / spacing.prod()
    common = Dataset()
    common.SOPClassUID, common.Modality, common.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    for tag in (
        *("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "Manufacturer"),
        *("PositionReferenceIndicator", "KVP", "AcquisitionNumber"),
    ):
        setattr(common, tag, None)
    common.StudyDate, common.StudyTime, common.StudyID = "20240102", "101500", "1"
    common.PatientName, common.PatientID, common.SeriesNumber = "Phantom^Torture", "P1", 4
    common.SeriesDescription, common.RescaleType, common.PatientPosition = "phantom", "HU", "HFS"
    common.BodyPartExamined = "ABDOMEN"
    common.StudyInstanceUID, common.SeriesInstanceUID = uid("study"), uid("series", key)
    common.FrameOfReferenceUID = uid("frame of reference")
    common.ImageOrientationPatient = [round(float(v), 9) for v in (affine[:3, :2] / spacing).T.ravel()]
    common.PixelSpacing = [float(spacing[1]), float(spacing[0])]  # between rows, then between columns
    common.SliceThickness = round(abs(float(affine[:3, 2] @ normal)), 6)
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    slices = []
    for k in range(stored.shape[2]):
        ds = deepcopy(common)
        ds.SOPInstanceUID, ds.InstanceNumber = uid("instance", key, k), k + 1
        ds.ImagePositionPatient = [round(float(v), 6) for v in affine[:3, 3] + k * affine[:3, 2]]
        ds.RescaleSlope, ds.RescaleIntercept = slope[k % len(slope)], intercept[k % len(intercept)]
        set_pixels(ds, stored[:, :, k])
        slices.append(ds)
    return slices


def set_pixels(ds: Dataset, array: np.ndarray, bits: int | None = None) -> None:
    """Store `(columns, rows[, frames])` without compression."""
    ds.Columns, ds.Rows = array.shape[:2]
    ds.BitsAllocated = 8 * array.dtype.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(array.dtype.kind == "i")
    if array.dtype.kind == "i":  # the sign lies in the highest stored bit, the bits above are unused
        array = array.view(f"u{array.dtype.itemsize}") & ((1 << ds.BitsStored) - 1)
    data = array.T.astype(array.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OB" if ds.BitsAllocated == 8 else "OW", data + b"\0" * (len(data) % 2))


def save(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a file with preamble and meta information."""
    if not hasattr(ds, "file_meta"):
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def shuffled(k: int) -> str:
    return f"IM{(k * 5 + 3) % 97:03d}_{k}.dcm"


def write_files(folder: Path, slices: Slices, name: Callable[[int], str] = shuffled) -> None:
    for k, ds in enumerate(slices):
        save(ds, folder / name(k))


# Changes of datasets: a function from the list of slices to the changed list, or None if changed in place.


def each(**tags):
    """Set tags of every slice; a callable gets the slice's index."""

    def change(slices):
        for k, ds in enumerate(slices):
            for tag, value in tags.items():
                setattr(ds, tag, value(k) if callable(value) else value)

    return change


def one(k, **tags):
    """Set tags of slice `k`."""

    def change(slices):
        for tag, value in tags.items():
            setattr(slices[k], tag, value)

    return change


def without(*tags, only: int | None = None):
    """Delete tags of every slice, or only of one."""

    def change(slices):
        for ds in slices if only is None else [slices[only]]:
            for tag in tags:
                delattr(ds, tag)

    return change


def drop(*gone):
    return lambda slices: [ds for k, ds in enumerate(slices) if k not in gone]


def moved(*offsets_mm):
    """Move slice k along z by offsets_mm[k % n]."""

    def change(slices):
        for k, ds in enumerate(slices):
            x, y, z = map(float, ds.ImagePositionPatient)
            ds.ImagePositionPatient = [x, y, round(z + offsets_mm[k % len(offsets_mm)], 6)]

    return change


def pixels(array, bits=None, *, frames=slice(None)):
    """Replace the stored pixels of some slices."""

    def change(slices):
        for k in range(len(slices))[frames]:
            set_pixels(slices[k], array[:, :, k], bits)

    return change


def again(slices, key, **tags):
    """Copies with new instance UIDs and other tags."""
    copies = deepcopy(slices)
    for k, ds in enumerate(copies):
        ds.SOPInstanceUID = uid("again", key, k)
    each(**tags)(copies)
    return copies


def plus(*keys, **tags):
    """The slices once more for each key; a callable tag gets the key."""
    return lambda slices: [
        *slices,
        *(
            ds
            for key in keys
            for ds in again(slices, key, **{t: v(key) if callable(v) else v for t, v in tags.items()})
        ),
    ]


def chain(*changes):
    def change(slices):
        for step in changes:
            changed = step(slices)
            slices = slices if changed is None else changed
        return slices

    return change


def compressed(syntax: UID, **options):
    def change(slices):
        for ds in slices:
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(syntax, generate_instance_uid=False, **options)

    return change


def syntax(value: UID):
    return lambda folder, slices: [save(ds, folder / shuffled(k), value) for k, ds in enumerate(slices)] and None


def big_endian(folder: Path, slices: Slices) -> None:
    for k, ds in enumerate(slices):
        words = np.frombuffer(ds.PixelData, f"<u{ds.BitsAllocated // 8}")
        ds["PixelData"].value = words.byteswap().tobytes()
        save(ds, folder / shuffled(k), pydicom.uid.ExplicitVRBigEndian)


# Objects other than single slices


def enhanced(slices: Slices, *, order=None, shared=True, sop_class=pydicom.uid.EnhancedCTImageStorage) -> Dataset:
    """One multi-frame object of the slices, frame f = slice order[f]; geometry and rescale shared or in every frame."""
    order = list(range(len(slices))) if order is None else order
    ds = deepcopy(slices[0])
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleType"):
        delattr(ds, tag)
    del ds.RescaleSlope, ds.RescaleIntercept, ds.KVP
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = sop_class, uid("enhanced"), len(order)
    ds.PixelData = b"".join(slices[k].PixelData for k in order)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [Dataset()], []
    ds.DimensionOrganizationSequence, ds.DimensionIndexSequence = [Dataset()], [Dataset(), Dataset()]
    ds.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid("dimensions")
    for item, pointer in zip(ds.DimensionIndexSequence, ("StackID", "InStackPositionNumber"), strict=True):
        item.DimensionOrganizationUID, item.FunctionalGroupPointer = (
            uid("dimensions"),
            tag_for_keyword("FrameContentSequence"),
        )
        item.DimensionIndexPointer = tag_for_keyword(pointer)
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = slices[k].ImagePositionPatient
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].StackID = "1"
        frame.FrameContentSequence[0].InStackPositionNumber = k + 1
        frame.FrameContentSequence[0].DimensionIndexValues = [1, k + 1]
        for group in [ds.SharedFunctionalGroupsSequence[0]] if shared else [frame]:
            _add_groups(group, slices[k])
        ds.PerFrameFunctionalGroupsSequence.append(frame)
    return ds


def _add_groups(group: Dataset, source: Dataset) -> None:
    for name, tags in {
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    }.items():
        item = Dataset()
        for tag in tags:
            setattr(item, tag, source[tag].value)
        setattr(group, name, [item])
    group.PixelValueTransformationSequence[0].RescaleType = "US"


def as_enhanced(**options):
    return lambda slices: [enhanced(slices, **options)]


def other_object(sop_class: str, modality: str, **tags):
    """A file that is no image: a report, a plan, a presentation state."""

    def then(folder):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, uid(sop_class), modality
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series", modality)
        for tag, value in tags.items():
            setattr(ds, tag, value)
        save(ds, folder / f"{modality}.dcm")

    return then


def segmentation(folder: Path) -> None:
    """A real SEG of the folder's series, made by highdicom."""
    import highdicom

    sources = [pydicom.dcmread(path) for path in sorted(folder.glob("IM*.dcm"))]
    codes = pydicom.sr.codedict.codes.SCT
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "test", pydicom.sr.codedict.codes.DCM.ArtificialIntelligence, "1"
    )
    segment = highdicom.seg.SegmentDescription(1, "organ", codes.Organ, codes.Liver, "AUTOMATIC", algorithm)
    mask = np.ones((len(sources), sources[0].Rows, sources[0].Columns), np.uint8)
    args = (sources, mask, "BINARY", [segment], uid("seg series"), 9, uid("seg"), 1, "m", "m", "1", "n")
    save(highdicom.seg.Segmentation(*args), folder / "SEG.dcm")


# Changes of files


def tool(*command: str):
    """Run a dcmtk converter on every file, in place."""

    def then(folder):
        if not shutil.which(command[0]):
            pytest.skip(f"needs {command[0]} (dcmtk)")
        for path in sorted(folder.glob("*.dcm")):
            done = subprocess.run([*command, path, path.with_suffix(".new")], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            path.with_suffix(".new").replace(path)

    return then


def nth_file(folder: Path, k: int = 4) -> Path:
    """The file that holds slice `k`, not at an end of the stack."""
    return next(folder.glob(f"*_{k}.dcm"))


def cut(keep: float | int):
    """Keep so many bytes (int) or such a fraction (float) of a file."""

    def then(folder):
        data = nth_file(folder).read_bytes()
        nth_file(folder).write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])

    return then


def patch(old: bytes, new: bytes, *, everywhere=False):
    """Replace bytes in a file, or in every file, by as many others: what pydicom would not write."""

    def then(folder):
        assert len(old) == len(new)
        for path in sorted(folder.glob("*.dcm")) if everywhere else [nth_file(folder)]:
            data = path.read_bytes()
            assert old in data, path
            path.write_bytes(data.replace(old, new))

    return then


def put(**files: bytes):
    """Add files; two underscores in a name stand for a dot, so that `a__txt` is a.txt."""
    return lambda folder: [(folder / name.replace("__", ".")).write_bytes(data) for name, data in files.items()]


def zipped(name="series.zip"):
    """Move everything into a zip file."""

    def then(folder):
        made = shutil.make_archive(str(folder.parent / f"{folder.name}_zip"), "zip", folder)
        shutil.rmtree(folder)
        folder.mkdir()
        Path(made).rename(folder / name)

    return then


def dicomdir(folder: Path) -> None:
    """Move everything into a file set with a DICOMDIR."""
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(folder.glob("*.dcm")):
        files.add(path)
    files.write(folder / "disc")
    files._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, with a ResourceWarning
    for path in folder.glob("*.dcm"):
        path.unlink()


def steps(*thens):
    return lambda folder: [then(folder) for then in thens]
