"""Every torture case is read right, or refused with the error that names what is wrong."""

import re
import tempfile
import zipfile

import numpy as np
import pydicom
import pytest
from helpers.dicom_cases import RIGHT, TILTED, linear_field
from helpers.dicom_phantoms import axial_affine, make_enhanced, make_series, with_delimiters
from helpers.dicom_pieces import dicomdir
from helpers.dicom_wrong_cases import WRONG

from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import AmbiguityError, CorruptFileError, InputError

LPS_RAS = np.diag([-1.0, -1, 1, 1])


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Reading leaves no temporary files and changes none of its input."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_read(case, series):
    """The truth, in the direction of Z in which the slices were stacked on reading."""
    values, affine = case.values, LPS_RAS @ case.affine
    if series.volume.affine[:3, 2] @ affine[:3, 2] < 0:
        values, flip = values[:, :, ::-1], np.diag([1.0, 1, -1, 1])
        flip[2, 3] = values.shape[2] - 1
        affine = affine @ flip
    return values, affine


def check(case, series):
    values, affine = as_read(case, series)
    volume = series.volume
    assert volume.array.shape == (1, *values.shape)
    assert volume.array.dtype == np.float32
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (
        *np.subtract(volume.shape, 1),
        1,
    )
    assert np.linalg.norm(corners @ (volume.affine - affine).T, axis=1).max() <= case.mm
    np.testing.assert_allclose(volume.array[0], values, rtol=1e-6, atol=case.atol + 1e-6 * np.abs(values).max())
    check_sources(series, case.mm)
    if case.remark:
        assert any(re.search(case.remark, remark) for remark in series.remarks), series.remarks


def check_sources(series, mm):
    assert all("PixelData" not in source for source in series.sources)
    if "NumberOfFrames" in series.sources[0] and series.volume.shape[2] != len(series.sources):
        assert len(series.sources) == 1
        return
    assert len(series.sources) == series.volume.shape[2]
    for k, source in enumerate(series.sources):
        if "ImagePositionPatient" in source:
            place = (LPS_RAS @ series.volume.affine)[:3] @ (0, 0, k, 1)
            assert np.linalg.norm(place - np.array(source.ImagePositionPatient, float)) <= mm


SYNTAXES = {
    "implicit little endian": "1.2.840.10008.1.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big endian": "1.2.840.10008.1.2.2",
    "big endian by dcmtk, 8 bits": "1.2.840.10008.1.2.2",
    "RLELossless": "1.2.840.10008.1.2.5",
    "RLE by dcmtk": "1.2.840.10008.1.2.5",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG lossless, predictor 6": "1.2.840.10008.1.2.4.57",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80",
    "JPEG-LS by dcmtk": "1.2.840.10008.1.2.4.80",
    "JPEG-LS near lossless": "1.2.840.10008.1.2.4.81",
    "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "JPEG 2000 lossy": "1.2.840.10008.1.2.4.91",
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_cases_are_coded_as_they_say(name, tmp_path):
    files = [pydicom.dcmread(path) for path in RIGHT[name].build(tmp_path / "case").iterdir()]
    assert {ds.file_meta.TransferSyntaxUID for ds in files} == {SYNTAXES[name]}


@pytest.mark.parametrize("name", RIGHT)
def test_right(name, tmp_path):
    case = RIGHT[name]
    path = case.build(tmp_path / "case")
    before = contents(tmp_path / "case")
    try:
        series = read_dicom_series(path, series=case.series)
    except InputError:
        if not case.may_refuse:
            raise
    else:
        check(case, series)
    assert contents(tmp_path / "case") == before


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.slow
def test_wrong(name, tmp_path):
    case = WRONG[name]
    path = case.build(tmp_path / "case")
    with pytest.raises(case.error, match=case.match or None) as caught:
        read_dicom_series(path, series=case.series)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TILTED)
def test_a_tilted_gantry_is_made_upright(name, tmp_path):
    """Every voxel has the value of its place, and every place of the tilted stack is still there."""
    case = TILTED[name]
    series = read_dicom_series(case.build(tmp_path / "case"))
    to_lps = LPS_RAS @ series.volume.affine
    np.testing.assert_allclose(to_lps[:3, :3].T @ to_lps[:3, :3], np.diag(np.square(series.volume.spacing)), atol=1e-3)
    index = np.stack(np.meshgrid(*map(np.arange, series.volume.shape), [1], indexing="ij"))[..., 0]
    places = np.einsum("ij,jxyz->ixyz", to_lps, index)
    stacked = np.einsum("ij,jxyz->ixyz", np.linalg.inv(case.affine), places)[:3]  # index in the tilted stack
    size = np.array(case.stored.shape)[:, None, None, None]
    inside = ((stacked > -1e-3) & (stacked < size - 1 + 1e-3)).all(axis=0)
    assert inside.sum() > 0.9 * np.prod(np.array(case.stored.shape) - (1, 1, 0))
    error = np.abs(series.volume.array[0] - (linear_field(places) - 1024))[inside]
    assert error.max() <= 1.0  # two roundings of half a unit; 1 mm is 25 units and more
    assert any(re.search(case.remark, remark) for remark in series.remarks), series.remarks
    for k, source in enumerate(series.sources if len(series.sources) > 1 else ()):
        offset = to_lps[:3] @ (0, 0, k, 1) - np.array(source.ImagePositionPatient, float)
        assert abs(offset @ to_lps[:3, 2]) / series.volume.spacing[2] < 1e-3  # in the plane of its source


def test_a_list_of_files(tmp_path):
    case = RIGHT["plain, names shuffled"]
    files = sorted(case.build(tmp_path / "case").iterdir())
    check(case, read_dicom_series(files))
    files[3].unlink()
    with pytest.raises(InputError, match=files[3].name):
        read_dicom_series(files)
    with pytest.raises(InputError):
        read_dicom_series([])


def test_a_single_file_is_not_taken_for_its_series(tmp_path):
    path = RIGHT["plain, names shuffled"].build(tmp_path / "case")
    with pytest.raises(AmbiguityError, match=str(path)):
        read_dicom_series(next(path.iterdir()))


def test_a_multi_frame_file_is_a_series(tmp_path):
    case = RIGHT["enhanced CT, shared groups"]
    check(case, read_dicom_series(next(case.build(tmp_path / "case").iterdir())))


def test_names_in_a_zip_lead_nowhere_else(tmp_path):
    """Some of the slices are named as if they lay outside: nothing may be written there."""
    case = RIGHT["plain, names shuffled"]
    files = sorted(case.build(tmp_path / "plain").iterdir())
    (tmp_path / "a" / "b").mkdir(parents=True)
    outside = [f"../{files[0].name}", f"../../{files[1].name}", f"{tmp_path}/{files[2].name}", f"..\\{files[3].name}"]
    with zipfile.ZipFile(tmp_path / "a" / "b" / "slip.zip", "w") as archive:
        for name, file in zip([*outside, *(file.name for file in files[4:])], files, strict=True):
            archive.write(file, name)
    before = contents(tmp_path)
    check(case, read_dicom_series(tmp_path / "a" / "b" / "slip.zip"))
    assert contents(tmp_path) == before


def test_every_series_is_listed_with_what_tells_it_apart(tmp_path):
    case = WRONG["two series"]
    with pytest.raises(AmbiguityError) as caught:
        read_dicom_series(case.build(tmp_path / "case"))
    uids = {str(pydicom.dcmread(path).SeriesInstanceUID) for path in (tmp_path / "case").iterdir()}
    assert len(uids) == 2
    assert all(uid in str(caught.value) for uid in uids)


@pytest.mark.parametrize(
    ("numbers", "names", "alike"),
    [
        ((None, None), ("T1", "T1"), True),
        ((None, None), (None, None), True),
        ((None, None), ("T1", "T2"), False),
        ((3, 4), ("T1", "T1"), False),
    ],
)
def test_series_that_only_their_uids_tell_apart(tmp_path, numbers, names, alike):
    for place, (number, name) in enumerate(zip(numbers, names, strict=True)):
        make_series(tmp_path / str(place), axial_affine(), (4, 4, 3))
        uid = pydicom.uid.generate_uid()
        for path in (tmp_path / str(place)).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = uid, number, name
            dataset.save_as(path)
    with pytest.raises(AmbiguityError) as caught:
        read_dicom_series(tmp_path)
    assert "None" not in str(caught.value)
    assert ("number 3 of study" if numbers[0] else "without number, of study") in str(caught.value)
    assert ("by its UID, as nothing else tells all apart" in str(caught.value)) == alike


def test_a_damaged_zip_is_named(tmp_path):
    make_series(tmp_path / "series", axial_affine(), (12, 10, 5))
    with zipfile.ZipFile(tmp_path / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "series").iterdir()):
            archive.write(path, path.name)
    data = bytearray((tmp_path / "series.zip").read_bytes())
    data[data.index(b".dcm") + 4] = 0x07  # the first packed byte: a type of block that there is not
    (tmp_path / "series.zip").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"series\.zip must be a readable zip"):
        read_dicom_series(tmp_path / "series.zip")


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_a_cut_dicomdir_names_no_fewer_slices(tmp_path, undefined):
    make_series(tmp_path, axial_affine(), (12, 10, 5))
    dicomdir(tmp_path)
    path = tmp_path / "disc" / "DICOMDIR"
    if undefined:
        with_delimiters(path)
    assert read_dicom_series(path).volume.shape == (12, 10, 5)
    whole = path.read_bytes()
    for cut in range(140, len(whole), 13):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError):
            read_dicom_series(path)


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_a_cut_enhanced_file_is_named(tmp_path, undefined):
    path = tmp_path / "a.dcm"
    make_enhanced(path, axial_affine(), (12, 10, 5))
    if undefined:
        with_delimiters(path)
    whole = path.read_bytes()
    for cut in range(300, len(whole), 17):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"a\.dcm|image series"):
            read_dicom_series(path)
