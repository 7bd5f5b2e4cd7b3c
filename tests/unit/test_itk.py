"""NRRD and MetaImage: units, missing geometry, damaged streams, headers that lie, voxels in other files."""

import bz2
import zlib

import numpy as np
import pytest
import SimpleITK
from helpers import phantom

from unetpp_monai.errors import CorruptFileError, GeometryError, InputError, MissingGeometryError
from unetpp_monai.io import read_volume

ARRAY = (phantom((5, 6, 7))[0] * 10).astype(np.int16)
FIELDS = {
    "type": "short",
    "dimension": "3",
    "sizes": "5 6 7",
    "endian": "little",
    "encoding": "raw",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "space origin": "(10,20,30)",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "DimSize": "5 6 7",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "1 2 3",
    "Offset": "10 20 30",
}
AFFINE = np.array([[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def save_nrrd(path, data=None, **fields):
    fields = {**FIELDS, **{name.replace("_", " "): value for name, value in fields.items()}}
    lines = ["NRRD0005", *(f"{name}: {value}" for name, value in fields.items() if value is not None), "", ""]
    path.write_bytes("\n".join(lines).encode() + (ARRAY.tobytes("F") if data is None else data))
    return path


def save_meta(path, data=None, file="LOCAL", **fields):
    fields = {**META, **fields, "ElementDataFile": file}
    lines = [*(f"{name} = {value}" for name, value in fields.items() if value is not None), ""]
    path.write_bytes("\n".join(lines).encode() + (ARRAY.tobytes("F") if data is None else data))
    return path


def save_both(folder, unit, scale):
    directions = " ".join(f"({x * scale},{y * scale},{z * scale})" for x, y, z in np.diag([1, 2, 3]))
    origin = f"({10 * scale},{20 * scale},{30 * scale})"
    yield save_nrrd(
        folder / "a.nrrd", space_directions=directions, space_origin=origin, space_units=" ".join([f'"{unit}"'] * 3)
    )
    yield save_meta(
        folder / "a.mha",
        DistanceUnits=unit,
        ElementSpacing=f"{scale} {2 * scale} {3 * scale}",
        Offset=f"{10 * scale} {20 * scale} {30 * scale}",
    )


@pytest.mark.parametrize(
    ("unit", "scale"), [("mm", 1), ("um", 1e3), ("microns", 1e3), ("cm", 0.1), ("m", 1e-3), ("?", 1)]
)
def test_lengths_are_read_as_mm(tmp_path, unit, scale):
    for path in save_both(tmp_path, unit, scale):
        volume = read_volume(path)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-9)
        np.testing.assert_array_equal(volume.array[0], ARRAY)


def test_units_that_are_none_are_refused(tmp_path):
    for path in save_both(tmp_path, "inch", 1):
        with pytest.raises(InputError, match="unit of length must be m, cm, mm, um or nm, got 'inch'"):
            read_volume(path)


@pytest.mark.parametrize("space", ["RAS", "right-anterior-superior", "left-anterior-superior", "LPS"])
def test_spaces_that_say_where_left_is(tmp_path, space):
    signs = {"r": (1, 1), "l": (-1, 1), "lp": (-1, -1)}
    x, y = signs["lp" if space == "LPS" else space[0].lower()]
    volume = read_volume(save_nrrd(tmp_path / "a.nrrd", space=space))
    np.testing.assert_allclose(volume.affine, np.diag([x, y, 1, 1]) @ np.abs(AFFINE))


@pytest.mark.parametrize(
    "fields",
    [
        {"space": None, "space directions": None, "space origin": None, "spacings": "1 2 3"},
        {"space": None, "space directions": None, "space origin": None},
        {"space": None, "space dimension": "3"},
        {"space": "scanner-xyz"},
        {"space directions": None},
    ],
)
def test_a_nrrd_must_say_where_left_is(tmp_path, fields):
    with pytest.raises(MissingGeometryError, match="must state its orientation and spacing"):
        read_volume(save_nrrd(tmp_path / "a.nrrd", **fields))


@pytest.mark.parametrize("spacing", ["0 2 3", "-1 2 3", "nan 2 3", "inf 2 3"])
def test_spacings_that_are_none(tmp_path, spacing):
    with pytest.raises(GeometryError, match="spacing must be > 0"):
        read_volume(save_meta(tmp_path / "a.mha", ElementSpacing=spacing))
    if spacing[0] != "-":
        with pytest.raises(GeometryError, match="spacing must be > 0"):
            read_volume(save_nrrd(tmp_path / "a.nrrd", space_directions=f"({spacing.split()[0]},0,0) (0,2,0) (0,0,3)"))


def test_spacing_is_not_size(tmp_path):
    path = tmp_path / "a.mha"
    assert read_volume(save_meta(path, ElementSize="0.5 0.5 0.5")).spacing == (1, 2, 3)
    assert read_volume(save_meta(path, ElementSpacing=None, ElementSize="4 5 6")).spacing == (
        4,
        5,
        6,
    )  # as MetaIO has it
    with pytest.raises(MissingGeometryError, match="must state its spacing"):
        read_volume(save_meta(path, ElementSpacing=None))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
def test_every_flipped_bit_of_compressed_voxels_is_seen(tmp_path, name):
    image = SimpleITK.GetImageFromArray(ARRAY.T)
    SimpleITK.WriteImage(image, str(tmp_path / name), useCompression=True)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], ARRAY)
    file = tmp_path / (name if name != "a.mhd" else "a.zraw")
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    start = len(whole) - 250
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.integers(start, len(whole))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=name):
            read_volume(tmp_path / name)
    file.write_bytes(whole[:-1])
    with pytest.raises(CorruptFileError, match="truncated"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed_voxels_of_several_channels_and_byte_orders(tmp_path, order):
    channels = np.stack([ARRAY, -ARRAY]).astype(f"{order}i2")
    nrrd, meta = {"little": "<", "big": ">"}, {"False": "<", "True": ">"}
    endian, high = (next(name for name, value in names.items() if value == order) for names in (nrrd, meta))
    fields = {"sizes": "2 5 6 7", "dimension": "4", "endian": endian, "kinds": "list domain domain domain"}
    directions = "none (1,0,0) (0,2,0) (0,0,3)"
    for encoding, data in (("raw", channels.tobytes("F")), ("gzip", gzipped(channels.tobytes("F")))):
        path = save_nrrd(tmp_path / "a.nrrd", data, **fields, space_directions=directions, encoding=encoding)
        np.testing.assert_array_equal(read_volume(path).array, channels)
        packed = zlib.compress(channels.tobytes("F")) if encoding == "gzip" else data
        options = {"CompressedData": "True", "CompressedDataSize": str(len(packed))} if encoding == "gzip" else {}
        options |= {"ElementNumberOfChannels": "2", "BinaryDataByteOrderMSB": high}
        path = save_meta(tmp_path / "a.mha", packed, **options)
        np.testing.assert_array_equal(read_volume(path).array, channels)
        np.testing.assert_allclose(read_volume(path).affine, AFFINE)
    last = channels.transpose(1, 2, 3, 0).tobytes("F")
    options = {"sizes": "5 6 7 2", "space directions": "(1,0,0) (0,2,0) (0,0,3) none", "encoding": "gzip"}
    options["kinds"] = "domain domain domain list"
    path = save_nrrd(tmp_path / "a.nrrd", gzipped(last), dimension="4", endian=endian, **options)
    np.testing.assert_array_equal(read_volume(path).array, channels)


def gzipped(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def test_other_encodings(tmp_path):
    text = " ".join(map(str, ARRAY.ravel("F"))).encode()
    np.testing.assert_array_equal(read_volume(save_nrrd(tmp_path / "a.nrrd", text, encoding="ascii")).array[0], ARRAY)
    with pytest.raises(InputError, match="raw, gzip or text"):
        read_volume(save_nrrd(tmp_path / "a.nrrd", bz2.compress(ARRAY.tobytes()), encoding="bzip2"))
    with pytest.raises(InputError, match="raw, gzip or text"):
        read_volume(save_nrrd(tmp_path / "a.nrrd", type="block"))


@pytest.mark.parametrize(("encoding", "compressed"), [("raw", "False"), ("gzip", "True"), ("ascii", "False")])
def test_headers_that_promise_gigabytes_take_no_memory(tmp_path, encoding, compressed):
    with pytest.raises(CorruptFileError, match="states"):
        read_volume(save_nrrd(tmp_path / "a.nrrd", sizes="1500 1500 1500", encoding=encoding))
    with pytest.raises(CorruptFileError, match="states"):
        read_volume(save_meta(tmp_path / "a.mha", DimSize="1500 1500 1500", CompressedData=compressed))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.raw", "sub/../../x.raw", "../%d.raw 1 7 1", "LIST"])
def test_voxels_outside_the_folder_are_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    for target in ("x.raw", *(f"{number}.raw" for number in range(1, 8))):
        (tmp_path / target).write_bytes(ARRAY.tobytes("F"))
    data = b"\n../x.raw\n" if name == "LIST" else b""
    for path in (
        save_nrrd(folder / "a.nrrd", data, data_file=name) if name != "LIST" else None,
        save_meta(folder / "a.mhd", data, file=name),
    ):
        if path is not None:
            with pytest.raises(InputError, match="must be in the folder of their header"):
                read_volume(path)


def test_voxels_in_files_beside_are_read(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.raw").write_bytes(ARRAY.tobytes("F"))
    for number in range(7):
        (tmp_path / f"{number:03d}.raw").write_bytes(ARRAY[..., number].tobytes("F"))
    names = [f"{number:03d}.raw" for number in range(7)]
    for name, data in (("sub/x.raw", b""), ("%03d.raw 0 6 1", b""), ("LIST", ("\n".join(names) + "\n").encode())):
        volume = read_volume(save_meta(tmp_path / "a.mhd", data, file=name))
        np.testing.assert_array_equal(volume.array[0], ARRAY)
        if name != "LIST":
            np.testing.assert_array_equal(
                read_volume(save_nrrd(tmp_path / "a.nrrd", b"", data_file=name)).array[0], ARRAY
            )
    (tmp_path / "003.raw").unlink()
    with pytest.raises(InputError, match=r"must exist, got '003.raw'"):
        read_volume(save_meta(tmp_path / "a.mhd", b"", file="%03d.raw 0 6 1"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": "5 6 0"}, "at least 1 voxel"),
        ({"sizes": "5 6 x"}, "numbers expected"),
        ({"sizes": None}, "has no 'sizes'"),
        ({"endian": None}, "has no 'endian'"),
        ({"space directions": "(1,0,0) (0,2,0)"}, "3 axes"),
        ({"byte skip": "3", "encoding": "gzip"}, "at the first byte of one file"),
        ({"space units": '"mm" "mm"'}, "space units must be 3"),
    ],
)
def test_nrrd_headers_that_lie_are_named(tmp_path, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        read_volume(save_nrrd(tmp_path / "a.nrrd", **fields))
    assert "a.nrrd" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"DimSize": "5 6"}, "3 axes"),
        ({"DimSize": "5 6 1e400"}, "at least 1 voxel"),
        ({"DimSize": None}, "has no 'DimSize'"),
        ({"ElementType": "MET_FLOAT_ARRAY"}, "real numbers"),
        ({"HeaderSize": "x"}, "numbers expected"),
    ],
)
def test_meta_headers_that_lie_are_named(tmp_path, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        read_volume(save_meta(tmp_path / "a.mha", **fields))
    assert "a.mha" in str(caught.value)


def test_a_file_is_what_its_name_says(tmp_path):
    save_meta(tmp_path / "a.nrrd")
    save_nrrd(tmp_path / "a.mha")
    for name in ("a.nrrd", "a.mha"):
        with pytest.raises(CorruptFileError, match="not a readable image"):
            read_volume(tmp_path / name)


def test_a_number_of_axes_that_itk_would_die_of(tmp_path):
    path = tmp_path / "a.mha"
    header = "ObjectType = Image\nNDims = 999999\nBinaryData = True\nDimSize = 2 2 2\nElementSpacing = 1 1 1\n"
    path.write_bytes(f"{header}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode() + bytes(8))
    with pytest.raises(InputError, match="must have 3 axes, got 999999 and 3 sizes"):
        read_volume(path)
    path.write_bytes(path.read_bytes().replace(b"999999", b"3"))
    assert read_volume(path).shape == (2, 2, 2)


def test_text_that_is_no_utf8_is_no_matter_to_an_image(tmp_path):
    path = tmp_path / "a.mha"
    header = b"ObjectType = Image\nNDims = 3\nBinaryData = True\nComment = \xff\xfe\nDimSize = 2 2 2\n"
    path.write_bytes(header + b"ElementSpacing = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + bytes(8))
    assert read_volume(path).shape == (2, 2, 2)
