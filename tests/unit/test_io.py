"""Files to volumes and back, bad files included."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import phantom, save_nifti
from helpers.dicom_phantoms import make_series
from helpers.files import broken_files
from monai.transforms import LoadImage
from PIL import Image

from unetpp_monai.dicom.reading import look, seen_before
from unetpp_monai.errors import AmbiguityError, CorruptFileError, GeometryError, InputError, OutputError
from unetpp_monai.files import complete_file, sha256
from unetpp_monai.io import case_name, find_cases, image_format, read_image, read_volume, write_nifti
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.io.monai_reader import VolumeReader
from unetpp_monai.io.nifti import is_nifti
from unetpp_monai.volume import Volume


def all_orientations():
    """48 axis permutations and flips as affines with an offset."""
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in np.ndindex(2, 2, 2):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[:, list(order)] * (1 - 2 * np.array(signs)) * (0.5, 1.5, 2.0)
            affine[:3, 3] = (-10, 20, 5)
            yield affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_round_trip_keeps_grid_and_voxels(tmp_path, suffix):
    labels = phantom((6, 7, 8))[1][None]
    for affine in all_orientations():
        write_nifti(Volume(labels, affine), tmp_path / f"a{suffix}")
        back = read_volume(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(back.array, labels)
        assert back.array.dtype == np.uint8
        np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001), (0, 1.0)])
def test_nifti_units_are_read_as_mm_and_kept_when_written(tmp_path, unit, mm):
    affine = np.diag([1.5, 2.0, 2.5, 1.0])
    source = save_nifti(tmp_path / "source.nii.gz", phantom((5, 6, 7))[0], affine, unit)
    volume = read_volume(source)
    np.testing.assert_allclose(volume.spacing, np.array([1.5, 2.0, 2.5]) * mm)
    labels = Volume(np.ones(volume.array.shape, np.uint8), volume.affine)
    write_nifti(labels, tmp_path / "seg.nii.gz", like=source)
    written, original = nib.load(tmp_path / "seg.nii.gz"), nib.load(source)
    np.testing.assert_array_equal(written.affine, original.affine)
    assert written.header.get_xyzt_units()[0] == original.header.get_xyzt_units()[0]
    for form in ("qform_code", "sform_code"):
        assert written.header[form] == original.header[form]


@pytest.mark.parametrize("sizes", [(0.5, 2.0, 3.0), (0.5, 2.0)], ids=["volume", "plane"])
def test_labels_of_a_file_without_forms_lie_on_it_in_other_programs(tmp_path, sizes):
    image = nib.Nifti1Image(np.zeros((5, 6, 7)[: len(sizes)], np.float32), None)
    image.header.set_zooms(sizes)
    nib.save(image, tmp_path / "source.nii")
    volume = read_volume(tmp_path / "source.nii")
    labels = Volume(np.ones(volume.array.shape, np.uint8), volume.affine)
    write_nifti(labels, tmp_path / "seg.nii", like=tmp_path / "source.nii")
    header = nib.load(tmp_path / "seg.nii").header
    assert (header["qform_code"], header["sform_code"]) == (0, 0)
    source, written = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("source.nii", "seg.nii"))
    for index in np.ndindex(*(2,) * len(sizes)):
        there, here = (
            source.TransformIndexToPhysicalPoint(index),
            written.TransformIndexToPhysicalPoint((*index, *(0,) * (written.GetDimension() - len(index)))),
        )
        np.testing.assert_allclose(here[: len(there)], there)


@pytest.mark.parametrize("code", [4, 7, 12])
def test_units_that_are_none_are_refused(tmp_path, code):
    source = save_nifti(tmp_path / "source.nii", phantom((5, 6, 7))[0])
    data = bytearray(source.read_bytes())
    data[123] = code  # xyzt_units
    source.write_bytes(data)
    with pytest.raises(InputError, match=r"unit of length must be m, mm or micron .* got [47] in"):
        read_volume(source)
    data[123] = 56 + 2  # mm and a unit of time that there is not, which is none of our business
    source.write_bytes(data)
    assert read_volume(source).spacing == (1, 1, 1)


def test_nothing_but_geometry_is_taken_from_the_source(tmp_path):
    image = nib.Nifti1Image(phantom((5, 6, 7))[0], np.eye(4))
    image.header["descrip"] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(image, tmp_path / "source.nii")
    write_nifti(Volume(np.ones((1, 5, 6, 7), np.uint8), np.eye(4)), tmp_path / "seg.nii", like=tmp_path / "source.nii")
    assert b"DOE" not in (tmp_path / "seg.nii").read_bytes()


def test_labels_of_another_grid_are_refused(tmp_path):
    source = save_nifti(tmp_path / "source.nii", phantom((5, 6, 7))[0], np.diag([1, 1, 2.0, 1]))
    with pytest.raises(GeometryError, match="grid of its source"):
        write_nifti(Volume(np.ones((1, 5, 6, 7), np.uint8), np.eye(4)), tmp_path / "seg.nii", like=source)
    assert not (tmp_path / "seg.nii").exists()


def test_scaled_four_dimensional_and_flat_nifti(tmp_path):
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(2.0, -5.0)
    nib.save(image, tmp_path / "scaled.nii")
    np.testing.assert_allclose(
        read_volume(tmp_path / "scaled.nii").array[0], nib.load(tmp_path / "scaled.nii").get_fdata()
    )
    assert read_volume(save_nifti(tmp_path / "4d.nii", np.zeros((2, 3, 4, 5), np.float32))).array.shape == (5, 2, 3, 4)
    assert read_volume(save_nifti(tmp_path / "one.nii", np.zeros((2, 3, 4, 1, 1), np.float32))).array.shape == (
        1,
        2,
        3,
        4,
    )
    assert read_volume(save_nifti(tmp_path / "flat.nii", np.zeros((2, 3), np.float32))).array.shape == (1, 2, 3, 1)


def test_itk_formats_have_the_same_geometry_as_nifti(tmp_path):
    image = SimpleITK.GetImageFromArray(phantom((5, 6, 7))[0].T)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10, -20, 30))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    for name in ("a.nrrd", "a.mha", "a.nii"):
        SimpleITK.WriteImage(image, tmp_path / name)
    nifti = read_volume(tmp_path / "a.nii")
    for name in ("a.nrrd", "a.mha"):
        volume = read_volume(tmp_path / name)
        assert volume.same_grid(nifti)
        np.testing.assert_array_equal(volume.array, nifti.array)


def test_every_format_is_a_source_image(tmp_path):
    """What was read, of which format, and from which instances; the volume is that of `read_volume`."""
    save_nifti(tmp_path / "a.nii.gz", phantom((5, 6, 7))[0])
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(phantom((5, 6, 7))[0].T), tmp_path / "a.nrrd")
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6)).save(tmp_path / "a.PNG")
    make_series(tmp_path / "series", np.eye(4), (5, 6, 7))
    kinds = {"a.nii.gz": "nifti", "a.nrrd": "itk", "a.PNG": "picture", "series": "dicom"}
    for name, kind in kinds.items():
        image = read_image(tmp_path / name)
        assert (image.format, image.path, image_format(tmp_path / name)) == (kind, tmp_path / name, kind)
        assert len(image.instances) == (7 if kind == "dicom" else 0) and image.remarks == image.warnings == ()
        np.testing.assert_array_equal(image.volume.array, read_volume(tmp_path / name).array)
        assert image.volume.same_grid(read_volume(tmp_path / name))
        if kind != "dicom":
            with pytest.raises(InputError, match="only DICOM has series to choose from"):
                read_image(tmp_path / name, series="3")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.nii", "input must exist"),
        ("truncated.nii.gz", "not a readable image .*truncated"),
        ("text.nii.gz", "not a readable image .*damaged"),
        ("empty.nii", "got an empty file"),
        ("broken.nrrd", "not a readable image"),
        ("notes.txt", "input must be one of"),
        ("folder", "must hold one DICOM series"),
        ("nan.nii", "voxels must be finite, got 1 NaN or infinite"),
        ("inf.nii", "voxels must be finite"),
        ("complex.nii", "voxels must be real numbers"),
        ("zero.nii", "at least 1 voxel"),
        ("singular.nii", "affine must not be singular"),
    ],
)
def test_bad_input_is_named_once(tmp_path, name, message):
    broken_files(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_monai_reader_gives_the_same_volume_and_never_falls_back(image_file):
    load = LoadImage(reader=VolumeReader)
    image = load(image_file)
    volume = read_volume(image_file)
    np.testing.assert_array_equal(image.numpy(), volume.array)
    np.testing.assert_allclose(image.affine.numpy(), volume.affine)
    array = phantom((5, 6, 7))[0]
    array[0, 0, 0] = np.nan  # stock readers load this without a word
    with pytest.raises(InputError, match="voxels must be finite"):
        load(save_nifti(image_file.parent / "nan.nii", array))
    with pytest.raises(InputError, match="channels of a case must be different files"):
        load([image_file, image_file])


def test_cases_of_files_and_folders(tmp_path):
    for name in ("b.nii.gz", "a.nii", "a_seg.nii.gz", "lonely_seg.nii", ".hidden.nii", "notes.txt", "c.NRRD"):
        (tmp_path / name).touch()
    assert [case.name for case in find_cases(tmp_path)] == ["a.nii", "b.nii.gz", "c.NRRD", "lonely_seg.nii"]
    assert find_cases(tmp_path / "b.nii.gz") == [tmp_path / "b.nii.gz"]
    assert len(find_cases([tmp_path / "b.nii.gz", tmp_path])) == 4  # named twice, once by its folder
    for name in ("b.seg.nrrd", "b_uncertainty.nii.gz", "d_seg.nii.gz"):  # ours, as our results may be for folders
        (tmp_path / name).touch()
    make_series(tmp_path / "d", np.diag([1.0, 1.0, 1.0, 1.0]), (3, 4, 2))
    assert [case.name for case in find_cases(tmp_path)] == ["a.nii", "b.nii.gz", "c.NRRD", "lonely_seg.nii", "d"]
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "x.nii.gz").touch()
    assert [case.name for case in find_cases(tmp_path)] == ["x.nii.gz"]


def test_cases_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="input must exist"):
        find_cases(tmp_path / "nothing")
    with pytest.raises(InputError, match="found none in"):
        find_cases(tmp_path)
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(AmbiguityError, match="results are named after cases"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"), [("x/case.nii.gz", "case"), ("1.2.840.3", "1.2.840.3"), ("a.b.nii", "a.b"), ("C.MHA", "C")]
)
def test_case_names(path, name):
    assert case_name(path) == name


def test_a_file_is_complete_or_absent(tmp_path):
    target = tmp_path / "result.txt"
    with pytest.raises(KeyError), complete_file(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with complete_file(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    with pytest.raises(OutputError, match="must be writable"), complete_file(tmp_path / "no" / "folder"):
        pass
    assert sha256(target) == "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099"  # of b"whole"


def test_folders_with_series_in_them_or_below_are_cases(tmp_path):
    for name in ("1.2.3", "b/study/series"):
        make_series(tmp_path / "cohort" / name, np.diag([1.0, 1.0, 1.0, 1.0]), (3, 4, 2))
    assert [case.name for case in find_cases(tmp_path / "cohort")] == ["1.2.3", "b"]
    assert find_cases(tmp_path / "cohort", whole=True) == [(tmp_path / "cohort").resolve()]
    assert read_volume(tmp_path / "cohort" / "b").shape == (3, 4, 2)
    assert case_name(tmp_path / "cohort" / "DICOMDIR") == "cohort" and case_name("a/b.zip") == "b"


def test_files_of_a_series_are_an_image_for_monai(tmp_path):
    make_series(tmp_path / "series", np.diag([1.0, 1.0, 1.0, 1.0]), (3, 4, 2))
    image = LoadImage(reader=VolumeReader, image_only=True)(sorted((tmp_path / "series").iterdir()))
    np.testing.assert_array_equal(image.numpy(), read_volume(tmp_path / "series").array)


@pytest.mark.parametrize(("name", "nifti"), [("a.nii", 1), ("a.nii.gz", 1), ("A.NII.GZ", 1), ("a.gz", 0), ("nii", 0)])
def test_names_of_nifti_files_in_any_case(name, nifti):
    assert is_nifti(Path(name)) == bool(nifti)


def test_a_file_that_changed_is_looked_at_again(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM")
    assert look(path).dicom
    path.write_text("another file")
    assert seen_before(path) is None
    assert not look(path).dicom and seen_before(path) == look(path)


def test_a_hash_that_is_known_is_not_taken_again(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    known = {(tmp_path / name).resolve(): sha256(tmp_path / name) for name in ("a", "b")}
    whole = sha256(tmp_path)
    (tmp_path / "a").chmod(0)
    (tmp_path / "b").write_text("read before it was changed")
    assert sha256(tmp_path, known=known) == whole


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.png", "a.dcm", "a.zip"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(CorruptFileError, match="must contain an image, got an empty file; export or copy it again"):
        read_image(tmp_path / name)
    with pytest.raises(CorruptFileError, match="got an empty file"):
        read_label_file(tmp_path / name)
