"""DICOM series: made slice by slice with pydicom, right ones and wrong ones."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from unetpp_monai.errors import AmbiguityError, GeometryError, InputError
from unetpp_monai.io import find_cases, read_volume

SHAPE = (5, 6, 7)  # columns, rows, slices


def voxels():
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def slice_of(index, array, affine_lps, series):
    """Make one MR slice; `affine_lps` maps (column, row, slice) to mm."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["study"]), series
    dataset.Modality, dataset.SeriesDescription, dataset.InstanceNumber = "MR", "phantom", index + 1
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    cosines = affine_lps[:3, :2] / spacing[:2]
    dataset.ImageOrientationPatient = [round(float(value), 9) for value in cosines.T.ravel()]
    dataset.ImagePositionPatient = [round(float(value), 6) for value in affine_lps[:3, 3] + index * affine_lps[:3, 2]]
    dataset.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    dataset.SliceThickness = float(spacing[2])
    dataset.Columns, dataset.Rows = array.shape[0], array.shape[1]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = array[:, :, index].T.copy().tobytes()
    return dataset


def save(dataset, path):
    if int(pydicom.__version__.split(".")[0]) >= 3:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path, write_like_original=False)


def write_series(folder, *, affine_lps=None, change=lambda slices: slices, series=None):
    """Write a series in an order of files that is not that of positions; `change` spoils the datasets."""
    folder.mkdir(exist_ok=True)
    affine_lps = np.diag([0.8, 1.1, 2.5, 1.0]) if affine_lps is None else affine_lps
    series = series or generate_uid()
    slices = [slice_of(index, voxels(), affine_lps, series) for index in range(SHAPE[2])]
    for number, dataset in enumerate(reversed(change(slices))):
        save(dataset, folder / f"{(number * 3) % 7}_{number}.dcm")
    return folder


def oblique():
    turn, tip = np.deg2rad(25), np.deg2rad(-10)
    one = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    two = np.array([[1, 0, 0], [0, np.cos(tip), -np.sin(tip)], [0, np.sin(tip), np.cos(tip)]])
    affine = np.eye(4)
    affine[:3, :3] = one @ two @ np.diag([0.8, 1.1, 2.5])
    affine[:3, 3] = (12.5, -40.25, 7)
    return affine


def sagittal():
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.5], [0.8, 0, 0], [0, -1.1, 0]])
    return affine


@pytest.mark.parametrize(
    "affine_lps", [np.diag([0.8, 1.1, 2.5, 1.0]), oblique(), sagittal()], ids=["axial", "oblique", "sagittal"]
)
def test_a_series_lies_where_its_headers_say(tmp_path, affine_lps):
    volume = read_volume(write_series(tmp_path / "series", affine_lps=affine_lps))
    expected, affine = voxels(), np.diag([-1, -1, 1, 1]) @ affine_lps
    if np.dot(np.cross(affine_lps[:3, 0], affine_lps[:3, 1]), affine_lps[:3, 2]) < 0:
        expected = expected[:, :, ::-1]  # sorted along the normal
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(volume.array[0], expected)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)


def test_each_slice_has_its_own_rescale(tmp_path):
    def rescale(slices):
        for index, dataset in enumerate(slices):
            dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + index), "-3"
        return slices

    volume = read_volume(write_series(tmp_path / "series", change=rescale))
    np.testing.assert_allclose(volume.array[0], voxels() * (1.0 + np.arange(SHAPE[2])) - 3)


def test_compressed_pixels(tmp_path):
    def compress(slices):
        for dataset in slices:
            dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
        return slices

    np.testing.assert_array_equal(read_volume(write_series(tmp_path / "series", change=compress)).array[0], voxels())


def test_scanner_jitter_is_tolerated_and_other_objects_are_ignored(tmp_path):
    def jitter(slices):
        slices[3].ImagePositionPatient[2] += 0.05
        return slices

    folder = write_series(tmp_path / "series", change=jitter)
    (folder / "notes.txt").write_text("no DICOM")
    report = slice_of(0, voxels(), np.eye(4), generate_uid())
    for tag in ("Rows", "Columns", "PixelData"):
        delattr(report, tag)
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    save(report, folder / "report.dcm")
    assert read_volume(folder).array.shape == (1, *SHAPE)


def test_thickness_is_not_needed_where_positions_tell(tmp_path):
    def thin(slices):
        for dataset in slices:
            del dataset.SliceThickness
        return slices

    assert read_volume(write_series(tmp_path / "series", change=thin)).spacing == pytest.approx((0.8, 1.1, 2.5))


def one_slice(slices):
    return slices[:1]


def test_a_single_slice_needs_its_thickness(tmp_path):
    assert read_volume(write_series(tmp_path / "a", change=one_slice)).spacing == pytest.approx((0.8, 1.1, 2.5))

    def thin(slices):
        del slices[0].SliceThickness
        return slices[:1]

    with pytest.raises(GeometryError, match="SliceThickness"):
        read_volume(write_series(tmp_path / "b", change=thin))


def missing(slices):
    return slices[:3] + slices[4:]


def duplicate(slices):
    slices[4].ImagePositionPatient = slices[3].ImagePositionPatient
    return slices


def sheared(slices):
    for index, dataset in enumerate(slices):
        dataset.ImagePositionPatient[1] += index * 0.7
    return slices


def leaning(slices):
    for index, dataset in enumerate(slices):
        dataset.ImagePositionPatient[0] += index * 0.05
    return slices


def turned(slices):
    slices[2].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    return slices


def resized(slices):
    slices[2].Rows, slices[2].Columns = slices[2].Columns, slices[2].Rows
    return slices


def nowhere(slices):
    del slices[2].ImagePositionPatient
    return slices


def sizeless(slices):
    del slices[2].Columns
    return slices


def colour(slices):
    for dataset in slices:
        dataset.PhotometricInterpretation = "RGB"
        dataset.SamplesPerPixel = 3
    return slices


def multiframe(slices):
    slices[0].NumberOfFrames = 4
    return slices


def short(slices):
    slices[2].PixelData = slices[2].PixelData[:10]
    return slices


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (missing, GeometryError, "evenly spaced, got 5.00 mm between .* elsewhere 2.50 mm"),
        (duplicate, GeometryError, "its own position"),
        (turned, GeometryError, "same spacing and orientation"),
        (resized, GeometryError, "same Rows, got"),
        (nowhere, GeometryError, "every image must have ImagePositionPatient"),
        (sizeless, GeometryError, "every image must have Columns"),
        (colour, InputError, "must be MONOCHROME2"),
        (multiframe, InputError, "multi-frame objects are not supported"),
        (short, InputError, "no readable pixels"),
    ],
)
def test_wrong_series_are_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        read_volume(write_series(tmp_path / "series", change=change))


def test_two_series_are_listed_with_their_uids(tmp_path):
    uids = [generate_uid(), generate_uid()]
    for number, uid in enumerate(uids):
        write_series(tmp_path / str(number), series=uid)
    for path in (tmp_path / "1").iterdir():
        path.rename(tmp_path / "0" / f"other_{path.name}")
    with pytest.raises(AmbiguityError) as caught:
        read_volume(tmp_path / "0")
    assert all(uid in str(caught.value) for uid in uids)


def test_a_single_file_points_to_its_series(tmp_path):
    folder = write_series(tmp_path / "series")
    with pytest.raises(AmbiguityError, match=f"give the folder of its series, {folder}"):
        (copy := tmp_path / "series" / "IM0001").write_bytes(next(folder.glob("*.dcm")).read_bytes())
        read_volume(copy)


def test_a_truncated_header(tmp_path):
    folder = write_series(tmp_path / "series")
    path = next(folder.glob("*.dcm"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="without its pixels"):
        read_volume(folder)


def test_folders_of_series_are_cases(tmp_path):
    for name in ("1.2.3", "b"):
        write_series(tmp_path / name)
    assert [case.name for case in find_cases(tmp_path)] == ["1.2.3", "b"]
    assert find_cases(tmp_path / "b") == [(tmp_path / "b").resolve()]


@pytest.mark.parametrize("name", ["Study1_13_HCropVolume", "Study3_11_HCropVolume", "Study3_26401-T1prereg-52906"])
def test_real_series_agree_with_itk(shared_data, name):
    import SimpleITK

    folder = shared_data / "dicom" / name
    volume = read_volume(folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image).T)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-1, -1, 1]) @ direction, atol=1e-3)
    np.testing.assert_allclose(volume.affine[:3, 3], np.diag([-1, -1, 1]) @ image.GetOrigin(), atol=1e-3)


def test_preamble_is_enough_to_look_like_dicom(tmp_path):
    (tmp_path / "fake.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"garbage")
    with pytest.raises(InputError):
        read_volume(Path(tmp_path))
