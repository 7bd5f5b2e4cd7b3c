"""DICOM series of a pseudo patient, valid to dciodvfy, made with pydicom, and label maps to go with them."""

import itertools

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from unetpp_monai.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique_affine(spacing=(0.8, 1.1, 2.5), origin=(12.5, -40.25, 7.0)):
    """Index (column, row, slice) -> mm, LPS, turned about two axes."""
    turn, tip = np.deg2rad(25), np.deg2rad(-10)
    one = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    two = np.array([[1, 0, 0], [0, np.cos(tip), -np.sin(tip)], [0, np.sin(tip), np.cos(tip)]])
    affine = np.eye(4)
    affine[:3, :3] = one @ two @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def axial_affine(spacing=(0.8, 1.1, 2.5), origin=(-20.0, -30.5, 40.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def tilted_affine(degrees=15.0):
    """A gantry tilted by some degrees: slices shifted along their rows' direction."""
    affine = axial_affine()
    affine[1, 2] = affine[2, 2] * np.tan(np.deg2rad(degrees))
    return affine


def make_series(folder, affine_lps, shape=(24, 20, 9), *, modality="MR", change=lambda dataset, index: None):
    """Write a series and return its headers without pixels, slice by slice.

    Args:
        affine_lps: index (column, row, slice) -> mm.
        shape: columns, rows, slices.
        change: spoils each dataset before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(0, 1000, shape, dtype=np.uint16)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for index in range(shape[2]):
        dataset = _header(study, series, frame, MRImageStorage if modality == "MR" else CTImageStorage, modality)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = decimals(affine_lps[:3, 3] + index * affine_lps[:3, 2])
        dataset.ImageOrientationPatient, dataset.PixelSpacing = in_plane(affine_lps)
        dataset.SliceThickness = decimals([np.linalg.norm(affine_lps[:3, 2])])[0]
        add_pixels(dataset, voxels[:, :, index].T)
        change(dataset, index)
        paths.append(folder / f"{index:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def make_enhanced(path, affine_lps, shape=(24, 20, 9), *, shared=True):
    """Write one enhanced MR object (geometry shared by the frames or repeated in each); return its header.

    It has what places it, not all that its standard demands.
    """
    dataset = _header(generate_uid(), generate_uid(), generate_uid(), EnhancedMRImageStorage, "MR")
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, shape[2]
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = in_plane(affine_lps)
    measures.SliceThickness = measures.SpacingBetweenSlices = 99.0  # wrong on purpose
    groups = [Dataset() for _ in range(shape[2] + 1)]
    for group in groups[-1:] if shared else groups[:-1]:
        group.PlaneOrientationSequence, group.PixelMeasuresSequence = [orientation], [measures]
    for index, group in enumerate(groups[:-1]):
        place = Dataset()
        place.ImagePositionPatient = decimals(affine_lps[:3, 3] + index * affine_lps[:3, 2])
        group.PlanePositionSequence = [place]
    dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence = groups[:-1], groups[-1:]
    add_pixels(dataset, np.random.default_rng(0).integers(0, 1000, shape, dtype=np.uint16).T)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return pydicom.dcmread(path, stop_before_pixels=True)


def label_phantom(shape, affine_lps, count=3, seed=0):
    """Boxes of labels 1 ... count that look the same from no two sides, as a RAS volume `(1, X, Y, Z)` uint8."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint8)
    for value in range(1, count + 1):
        low = [int(rng.integers(1, max(2, size // 2))) for size in shape]
        high = [min(size - 1, start + 1 + int(rng.integers(1, size))) for start, size in zip(low, shape, strict=True)]
        labels[tuple(slice(start, max(start + 1, end)) for start, end in zip(low, high, strict=True))] = value
    labels[1, 2 % shape[1], shape[2] // 2] = 1
    return Volume(labels[None], LPS_TO_RAS @ affine_lps)


def turned(volume, order, flips):
    """The same label map with its axes in another order and direction."""
    array = np.transpose(volume.array, (0, *(axis + 1 for axis in order)))
    affine = volume.affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis + 1)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis + 1] - 1)
            affine[:3, axis] *= -1
    return Volume(np.ascontiguousarray(array), affine)


TURNS = [(order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((0, 1), repeat=3)]


def sampled_at(array, affine, points):
    """Values of `array` (X, Y, Z) at points (n, 3) in mm, nearest voxel, 0 outside."""
    indices = np.rint((points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    inside = ((indices >= 0) & (indices < array.shape)).all(axis=1)
    values = np.zeros(len(points), dtype=array.dtype)
    values[inside] = array[tuple(indices[inside].T)]
    return values


def voxel_places(volume):
    """Centres of all voxels (n, 3), mm, RAS, in C order of X, Y, Z."""
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def with_delimiters(path):
    """Write a DICOM file again with sequences that end with a delimiter instead of stating their length."""

    def change(dataset):
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = True
                for item in element.value:
                    item.is_undefined_length_sequence_item = True
                    change(item)

    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def decimals(values):
    return [round(float(value), 9) for value in values]


def in_plane(affine_lps):
    spacing = np.linalg.norm(affine_lps[:3, :2], axis=0)
    return decimals((affine_lps[:3, :2] / spacing).T.ravel()), decimals(spacing[::-1])


def add_pixels(dataset, array):
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = np.ascontiguousarray(array).tobytes()


def _header(study, series, frame_of_reference, sop_class, modality):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = "Phantom^Zoë", "PHANTOM-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20240102", "030405", "1", "A1"
    dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.InstitutionName = "", "Phantom Works", "Nowhere"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame_of_reference, ""
    dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription = modality, 3, "phantom"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "OTHER"]
    dataset.PatientPosition, dataset.Laterality = "HFS", ""
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.KVP, dataset.AcquisitionNumber = 1, -1024, 120, 1
    elif sop_class == MRImageStorage:
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = "3D", 3, 9, 1
    return dataset
