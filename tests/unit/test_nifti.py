"""NIfTI headers that say where voxels are in every way there is, and files that are damaged or lie."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import phantom, save_nifti
from helpers.files import geometry_fields, save_forms

from unetpp_monai.errors import CorruptFileError, GeometryError, InputError, OutputError
from unetpp_monai.io import read_image, read_volume, write_nifti
from unetpp_monai.io.compressed import PADDING
from unetpp_monai.volume import Volume

ARRAY = phantom((5, 6, 7))[0]
TURN = nib.eulerangles.euler2mat(0.1, -0.2, 0.3)
OBLIQUE = nib.affines.from_matvec(TURN @ np.diag([1.0, 2.0, 3.0]), (10, -20, 30))
UPSIDE_DOWN = (0.70711, 0.70711, 0.001)  # b, c, d of a half turn, rounded: a squared is -1.0e-5


def save(path, affine=OBLIQUE, *, sform=1, qform=1, kind=nib.Nifti1Image, **fields):
    """A file with both forms, and then with other fields."""
    header = kind.header_class()
    header.set_data_shape(ARRAY.shape)
    header.set_data_dtype(ARRAY.dtype)
    header.set_qform(affine)  # sets pixdim
    if sform:
        header.set_sform(affine)
    if not qform:
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[name] = 0
    header["vox_offset"] = header.sizeof_hdr + 4
    header["magic"] = kind.header_class.single_magic
    for name, value in {"sform_code": sform, "qform_code": qform, **fields}.items():
        header[name] = value
    whole = header.binaryblock + bytes(4) + ARRAY.tobytes("F")
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)
    return path


def result_of(source, path, **options):
    """The header of labels written on an image's grid."""
    volume = read_volume(source)
    write_nifti(Volume(np.ones(volume.array.shape, np.uint8), volume.affine), path, like=source, **options)
    assert read_volume(path).same_grid(volume)
    return nib.load(path).header


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 0), (0, 1), (4, 1), (0, 5)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_either_form_says_where_voxels_are(tmp_path, sform, qform, kind):
    source = save(tmp_path / "a.nii.gz", sform=sform, qform=qform, kind=kind)
    np.testing.assert_allclose(read_volume(source).affine, OBLIQUE, atol=1e-5)
    np.testing.assert_array_equal(read_volume(source).array[0], ARRAY)
    written = result_of(source, tmp_path / "seg.nii.gz")
    assert geometry_fields(written) == geometry_fields(nib.load(source).header) and type(written) is kind.header_class


@pytest.mark.parametrize("mirror", [1, -1])
def test_all_readers_agree_on_a_qform_alone(tmp_path, mirror):
    affine = OBLIQUE @ np.diag([1, 1, mirror, 1])
    source = save(tmp_path / "a.nii", affine, sform=0)
    np.testing.assert_allclose(read_volume(source).affine, nib.load(source).affine, atol=1e-6)
    image = SimpleITK.ReadImage(str(source))
    for index in ((0, 0, 0), (4, 5, 6)):
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((read_volume(source).affine @ (*index, 1))[:3], place, atol=1e-4)


@pytest.mark.parametrize("sform", [0, 1])
def test_a_quaternion_off_by_rounding_is_one(tmp_path, sform):
    """Exports of SPM and scanners have it; nibabel alone fails when it is asked for the qform."""
    half_turn = nib.affines.from_matvec(nib.quaternions.quat2mat((0, *UPSIDE_DOWN)) @ np.diag([1.0, 2, 3]), (1, 2, 3))
    quaternion = dict(zip(("quatern_b", "quatern_c", "quatern_d"), UPSIDE_DOWN, strict=True))
    source = save(tmp_path / "a.nii", half_turn, sform=sform, **quaternion)
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(source).header.get_qform()
    np.testing.assert_allclose(read_volume(source).affine, half_turn, atol=1e-4)
    header = result_of(source, tmp_path / "seg.nii")
    assert (header["sform_code"], header["qform_code"]) == (sform, 1)
    np.testing.assert_allclose(header.get_qform(), half_turn, atol=1e-4)


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_quaternion_of_no_rotation(tmp_path, value):
    source = save(tmp_path / "a.nii", quatern_b=value)
    header = result_of(source, tmp_path / "seg.nii")
    assert header["qform_code"] == 0 and b"no qform" in header["descrip"].item()
    with pytest.raises(GeometryError, match="a qform must have a quaternion of length 1"):
        read_volume(save(tmp_path / "b.nii", sform=0, quatern_b=value))


@pytest.mark.parametrize("wrong", [(0.5, 1, 1.5), (1, 2, 3.1), (1, 2.03, 3)])
def test_spacings_that_contradict_each_other_are_refused(tmp_path, wrong):
    source = save(tmp_path / "a.nii", pixdim=[1, *wrong, 1, 1, 1, 1])
    with pytest.raises(GeometryError, match=r"one spacing, within 1%, got 1 x 2 x 3 mm by the sform and .* by pixdim"):
        read_volume(source)
    with pytest.raises(GeometryError, match="one spacing"):
        read_volume(save(tmp_path / "b.nii", qform=0, pixdim=[1, *wrong, 1, 1, 1, 1]))
    spacing = read_volume(save(tmp_path / "c.nii", sform=0, pixdim=[1, *wrong, 1, 1, 1, 1])).spacing  # the only one
    np.testing.assert_allclose(spacing, wrong, rtol=1e-6)


@pytest.mark.parametrize("rounded", [(1.001, 2, 3), (1, 1.99, 3), (-1, 2, 3), (0, 0, 0), (np.nan, 2, 3)])
def test_a_pixdim_that_is_rounded_or_says_nothing_is_none_beside_a_sform(tmp_path, rounded):
    source = save(tmp_path / "a.nii", qform=0, pixdim=[1, *rounded, 1, 1, 1, 1])
    np.testing.assert_allclose(read_volume(source).spacing, (1, 2, 3), rtol=1e-6)
    assert (result_of(source, tmp_path / "seg.nii")["pixdim"][1:4] > 0).all()  # other programs need it


def test_a_pixdim_that_says_nothing_is_none_beside_a_sform_with_a_qform_either(tmp_path):
    source = save(tmp_path / "a.nii", pixdim=[1, 0, 0, 0, 1, 1, 1, 1])
    assert read_image(source).remarks == ()


@pytest.mark.parametrize("forms", [{"sform": 0}, {"sform": 0, "qform": 0}])
@pytest.mark.parametrize("wrong", [(-1, 2, 3), (0, 2, 3), (1, np.nan, 3), (1, 2, np.inf)])
def test_a_pixdim_that_says_nothing_is_refused_without_a_sform(tmp_path, forms, wrong):
    source = save(tmp_path / "a.nii", **forms, pixdim=[1, *wrong, 1, 1, 1, 1])
    with pytest.raises(GeometryError, match="pixdim must be > 0 on every axis"):
        read_volume(source)


@pytest.mark.parametrize("code", [-1, 6, 77])
def test_codes_that_do_not_exist_are_refused(tmp_path, code):
    for name in ("sform", "qform"):
        with pytest.raises(GeometryError, match="must be 0 to 5"):
            read_volume(save(tmp_path / "a.nii", **{name: code}))


@pytest.mark.parametrize("kind", ["bare", "metre", "micron", "turned"])
def test_unusual_forms_are_kept(tmp_path, kind):
    source = save_forms(tmp_path / "a.nii", kind, ARRAY)
    assert geometry_fields(result_of(source, tmp_path / "seg.nii")) == geometry_fields(nib.load(source).header)
    np.testing.assert_allclose(read_volume(source).spacing, (1, 1, 1), rtol=1e-6)


def test_sheared_axes_have_no_qform(tmp_path):
    sheared = OBLIQUE.copy()
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    for affine, code in ((OBLIQUE, 1), (sheared, 0)):
        write_nifti(Volume(ARRAY[None], affine), tmp_path / "a.nii")
        header = nib.load(tmp_path / "a.nii").header
        assert (header["sform_code"], header["qform_code"], header.get_xyzt_units()[0]) == (1, code, "mm")
        np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
        np.testing.assert_allclose(header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)
        assert bool(header["descrip"].item()) == (code == 0)
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, sheared, atol=1e-5)


def test_pairs_and_other_byte_orders(tmp_path):
    image = nib.Nifti1Pair(ARRAY, OBLIQUE)
    for name in ("a.img", "b.img.gz"):
        nib.save(image, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdr", "a.img", "b.hdr.gz", "b.img.gz"]
    big = nib.Nifti1Image(ARRAY, OBLIQUE, nib.Nifti1Header(endianness=">"))
    big.set_data_dtype(">f4")
    nib.save(big, tmp_path / "c.nii")
    for name in ("a.hdr", "b.hdr.gz", "c.nii"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], ARRAY)
        np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
        assert volume.array.dtype.isnative
        result_of(tmp_path / name, tmp_path / "seg.nii")
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match="must have its voxels beside it"):
        read_volume(tmp_path / "a.hdr")
    nib.save(nib.Spm99AnalyzeImage(ARRAY, OBLIQUE), tmp_path / "d.img")
    with pytest.raises(InputError, match="Analyze, which does not say which side is left"):
        read_volume(tmp_path / "d.hdr")


def test_every_flipped_bit_of_a_gzip_is_seen(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", ARRAY)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    original = read_volume(path)
    seen = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_volume(path).array, original.array)  # a bit of its name or time
        except InputError as error:
            seen += 1
            assert "a.nii.gz" in str(error)
    assert seen > 190


def test_what_follows_the_voxels(tmp_path):
    path = save_nifti(tmp_path / "a.nii", ARRAY)
    raw = path.read_bytes()
    good = tmp_path / "a.nii.gz"
    members = gzip.compress(raw[:500]) + gzip.compress(raw[500:])
    for content in (members, members + bytes(100), gzip.compress(raw + bytes(1000))):
        good.write_bytes(content)
        np.testing.assert_array_equal(read_volume(good).array[0], ARRAY)
    for content, reason in (
        (members + b"garbage", "damaged"),
        (members[:-1], "truncated"),
        (gzip.compress(raw[:-1]), "truncated"),
        (gzip.compress(raw + bytes(2 * PADDING)), "more voxels than its header states"),
    ):
        good.write_bytes(content)
        with pytest.raises(CorruptFileError, match=reason):
            read_volume(good)
    path.write_bytes(raw[:-1])
    with pytest.raises(CorruptFileError, match="truncated"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_terabytes_takes_no_memory(tmp_path, suffix):
    path = save_nifti(tmp_path / "a.nii", np.zeros((1, 1, 1), np.float64))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<4h", raw, 40, 3, 10000, 10000, 10000)
    (tmp_path / f"b{suffix}").write_bytes(gzip.compress(raw) if suffix == ".nii.gz" else raw)
    with pytest.raises(CorruptFileError, match="states 8000000000"):
        read_volume(tmp_path / f"b{suffix}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vox_offset": -np.inf}, "must begin at byte 352"),
        ({"vox_offset": 8}, "must begin at byte 352"),
        ({"vox_offset": 1e30}, "truncated"),
        ({"dim": [3, 5, 6, -7, 1, 1, 1, 1]}, "at least 1 voxel"),
        ({"dim": [0, 5, 6, 7, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [9, 5, 6, 7, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"datatype": 0}, "real numbers, got type 0"),
        ({"datatype": 1}, "real numbers, got type 1"),
        ({"datatype": 3}, "not a readable NIfTI file"),
        ({"datatype": 128}, "real numbers, got colours"),
        ({"datatype": 32}, "real numbers, got complex64"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "scaling of intensities must be finite"),
        ({"magic": b""}, "Analyze"),
        ({"sizeof_hdr": 1}, "no header"),
    ],
)
def test_headers_that_lie_are_named(tmp_path, fields, message):
    path = save(tmp_path / "a.nii", **fields)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    assert "a.nii" in str(caught.value)


@pytest.mark.parametrize(("slope", "inter", "factor"), [(0, 5, 1), (np.nan, 5, 1), (2, 0, 2), (-1, 0, -1)])
def test_scaling_is_applied_where_there_is_one(tmp_path, slope, inter, factor):
    path = save(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter)
    np.testing.assert_allclose(read_volume(path).array[0], factor * ARRAY)


def test_types_that_nifti_lacks_are_named(tmp_path):
    with pytest.raises(OutputError, match="a type that NIfTI has, got float16"):
        write_nifti(Volume(ARRAY[None].astype(np.float16), OBLIQUE), tmp_path / "a.nii")
    write_nifti(Volume(np.ones((1, 40000, 1, 1), np.int64), OBLIQUE), tmp_path / "long.nii")
    assert read_volume(tmp_path / "long.nii").shape == (40000, 1, 1)
