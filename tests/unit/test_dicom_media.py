"""Limits before work: nothing large is unpacked unasked, and names on a medium lead nowhere else."""

import shutil
import zipfile
import zlib

import pydicom
import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.dicom_pieces import dicomdir

from unetpp_monai.dicom import media, reading
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.errors import CorruptFileError, InputError

SHAPE = (12, 10, 5)


@pytest.fixture
def packed(tmp_path):
    """A series in a zip, and a large member that is packed small."""
    make_series(tmp_path / "series", axial_affine(), SHAPE)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "series").iterdir()):
            archive.write(path, path.name)
        archive.writestr("zeros.bin", bytes(1 << 22))
    return tmp_path / "bomb.zip"


def never(*arguments, **options):
    raise AssertionError("nothing may be unpacked")


def test_a_zip_that_grows_beyond_measure_is_refused_before_it_is_unpacked(packed, monkeypatch):
    assert read_dicom_series(packed).volume.shape == SHAPE  # 4 MiB are no harm
    monkeypatch.setattr(reading, "UNPACKED_FREELY", 1 << 20)
    monkeypatch.setattr(shutil, "copyfileobj", never)
    with pytest.raises(InputError, match=r"bomb\.zip must contain at most 64 GiB and grow at most 100-fold"):
        read_dicom_series(packed)
    monkeypatch.setattr(reading, "MOST_GROWTH", 10**6)
    monkeypatch.setattr(reading, "MOST_UNPACKED", 1 << 21)
    with pytest.raises(InputError, match="MiB that become 4 MiB or more"):
        read_dicom_series(packed)


def test_a_zip_of_too_many_members_or_for_too_small_a_disk_is_refused(packed, monkeypatch):
    monkeypatch.setattr(shutil, "copyfileobj", never)
    usage = shutil.disk_usage(packed)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1 << 20))
    with pytest.raises(InputError, match="needs 4 MiB to be unpacked, got 1 MiB free"):
        read_dicom_series(packed)
    monkeypatch.setattr(media, "MOST_MEMBERS", 5)
    with pytest.raises(InputError, match="at most 5 members, got 6"):
        read_dicom_series(packed)


def test_a_deflated_file_that_grows_beyond_measure_is_refused_in_small_pieces(tmp_path, monkeypatch):
    make_series(tmp_path / "series", axial_affine(), SHAPE)
    path = sorted((tmp_path / "series").iterdir())[2]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00420011, "OB", bytes(1 << 22))
    dataset.save_as(path)
    assert path.stat().st_size < 1 << 16
    assert read_dicom_series(tmp_path / "series").volume.shape == SHAPE
    monkeypatch.setattr(reading, "UNPACKED_FREELY", 1 << 20)
    monkeypatch.setattr(zlib, "decompress", never)
    with pytest.raises(InputError, match="a deflated data set must contain"):
        read_dicom_series(tmp_path / "series")


@pytest.mark.filterwarnings("ignore:.*(Invalid value|exceeds the maximum)")  # pydicom, of names that are so on purpose
@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_a_dicomdir_names_nothing_outside_its_folder(tmp_path, way):
    make_series(tmp_path / "case", axial_affine(), SHAPE)
    dicomdir(tmp_path / "case")
    medium = tmp_path / "case" / "disc"
    content = pydicom.dcmread(medium / "DICOMDIR")
    record = next(item for item in content.DirectoryRecordSequence if item.get("ReferencedFileID"))
    named = medium.joinpath(*record.ReferencedFileID)
    named.rename(tmp_path / "SECRET")
    if way == "link":
        named.symlink_to(tmp_path / "SECRET")
    else:
        record.ReferencedFileID = ["..", "..", "SECRET"] if way == "up" else str(tmp_path / "SECRET")
        content.save_as(medium / "DICOMDIR")
    with pytest.raises(InputError, match="must list files in its own folder"):
        read_dicom_series(medium / "DICOMDIR")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make_series(tmp_path / "series", axial_affine(), SHAPE)
    target = sorted((tmp_path / "series").iterdir())[2]
    real = type(target).open

    def refused(self, *arguments, **options):
        if self == target:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(type(target), "open", refused)
    with pytest.raises(CorruptFileError, match=rf"{target.name}.*Permission denied"):
        read_dicom_series(tmp_path / "series")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_is_no_damage(tmp_path, stop):
    with pytest.raises(stop), reading.guarded(tmp_path):
        raise stop
    with pytest.raises(CorruptFileError, match="is damaged"), reading.guarded(tmp_path, "is damaged"):
        raise type("PanicException", (BaseException,), {})("index out of bounds")
