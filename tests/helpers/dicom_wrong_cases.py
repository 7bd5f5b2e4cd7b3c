"""Torture cases for DICOM reading that must be refused, each with the error and what its message must say."""

import shutil
import struct
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from helpers import dicom_pieces as make
from helpers.dicom_cases import (
    BYTES,
    LARGE,
    REALS,
    SAGITTAL,
    SR,
    UIDS,
    WITH_ROWS,
    Case,
    Change,
    as_enhanced,
    extensionless,
    late,
    real_pixels,
    screenshot,
    tilted,
)
from helpers.dicom_pieces import (
    OBLIQUE,
    STORED,
    Slices,
    again,
    chain,
    compressed,
    cut,
    drop,
    each,
    lps,
    moved,
    one,
    other_object,
    patch,
    pixels,
    plus,
    put,
    steps,
    syntax,
    tool,
    turned,
    uid,
    without,
    zipped,
)
from unetpp_monai.errors import (
    AmbiguityError,
    CorruptFileError,
    DuplicatePositionError,
    GeometryError,
    InputError,
    IrregularSpacingError,
    MissingGeometryError,
    MissingSliceError,
    MixedGeometryError,
)

WRONG: dict[str, Case] = {}


def wrong(name: str, error: type[Exception], match: str = "", change: Change = lambda slices: None, **options) -> None:
    assert name not in WRONG
    WRONG[name] = Case(change=change, error=error, match=match, **options)


# Wrong: places

FIFTH = r"(?s)(?=.*\b5\.0\d* mm)(?=.*(14\.5|IM018_3|_3\.dcm))"  # how much is missing, and where
wrong("a missing slice", MissingSliceError, FIFTH, drop(4))
wrong("two missing slices", MissingSliceError, r"\b7\.5\d* mm", drop(4, 5))
wrong("two gaps", MissingSliceError, r"\b5\.0\d* mm", drop(3, 8))
wrong("a missing slice in an oblique jittering stack", MissingSliceError, r"\b(5\.0|4\.9)\d mm", chain(
    moved(0.02, -0.02), drop(4)
), affine=OBLIQUE)  # fmt: skip
wrong("a missing frame", MissingSliceError, r"\b5\.0\d* mm", as_enhanced(order=[0, 1, 2, 4, 5, 6, 7]))
wrong(
    "an empty slice after a gap of 10",
    MissingSliceError,
    r"\b25\.0\d* mm",
    drop(*range(2, 11)),
    stored=np.tile(STORED, 2),
)
same_place = lambda slices: [*slices, *again(slices[4:5], "copy")]  # noqa: E731
wrong("a copy with a new UID", DuplicatePositionError, r"\b2\b.*17\.0", same_place)
wrong("a copy with the same UID", DuplicatePositionError, r"\b2\b.*17\.0", lambda slices: [*slices, slices[4]])
wrong("a copy with other pixels", DuplicatePositionError, r"\b2\b.*17\.0", chain(same_place, pixels(
    np.repeat(STORED[..., :1], 13, 2), frames=slice(12, 13)
)))  # fmt: skip
wrong("every file twice", DuplicatePositionError, r"\b2\b", lambda slices: slices * 2)
wrong("a folder and its copy", DuplicatePositionError, r"\b2\b", then=lambda f: shutil.copytree(f, f / "copy"))
times = plus("2", "3", TemporalPositionIdentifier=int, AcquisitionNumber=int)
wrong("three time points", DuplicatePositionError, r"\b3\b", times)
wrong("time points, one incomplete", DuplicatePositionError, r"\b3\b", chain(times, drop(30)))
wrong("two echoes", DuplicatePositionError, r"\b2\b", chain(each(EchoTime=5), plus("echo", EchoTime=10)))
wrong("b-values", DuplicatePositionError, r"\b3\b", chain(
    each(DiffusionBValue=0.0), plus("500", "1000", DiffusionBValue=float)
))  # fmt: skip
wrong("enhanced, two time points", DuplicatePositionError, r"\b2\b", as_enhanced(order=[*range(12), *range(12)]))
wrong("all slices at one place", DuplicatePositionError, r"\b12\b", each(ImagePositionPatient=[0, 0, 0]))
wrong("tilted, a missing slice", MissingSliceError, r"\b5\.0\d* mm", drop(4), affine=tilted(15).affine)
wrong(
    "tilted half-way only",
    GeometryError,
    r"\d mm|degree",
    lambda s: s[:6] + make.make_slices(STORED, tilted(15).affine)[6:],
)
wrong("one slice 3 mm aside", GeometryError, r"\d mm|degree", one(4, ImagePositionPatient=[-9.5, -40.25, 17.0]))
wrong("gaps that grow", IrregularSpacingError, r"\d mm", moved(*(0.3 * k * k for k in range(12))))
wrong("one slice 0.2 mm off", GeometryError, r"\d mm", moved(*[0] * 5, 0.2, *[0] * 6))
wrong("one slice 0.9 mm off", IrregularSpacingError, r"(3\.4|1\.6)\d* mm", moved(*[0] * 5, 0.9, *[0] * 6))
wrong(
    "2.5 mm below, 3.75 mm above", IrregularSpacingError, r"3\.75|2\.5", moved(*[0] * 6, *(1.25 * k for k in range(6)))
)
wrong("2.5 mm below, 5 mm above", GeometryError, r"5\.0\d* mm", moved(*[0] * 6, *(2.5 * k for k in range(6))))
wrong("a localizer of the same size", MixedGeometryError, "", lambda slices: [
    *slices, *again(slices[:1], "scout", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
])  # fmt: skip
wrong("two orientations in a series", MixedGeometryError, "", lambda slices: [
    *slices, *again(make.make_slices(STORED, SAGITTAL), "sagittal", SeriesInstanceUID=uid("series", "a"))
])  # fmt: skip
wrong("turned by one degree half-way", MixedGeometryError, "", lambda slices: [
    *slices[:6], *make.make_slices(STORED, lps(turned(1, 0)))[6:]
])  # fmt: skip
wrong(
    "one slice of another size",
    MixedGeometryError,
    r"\b5\b",
    lambda slices: make.set_pixels(slices[4], STORED[:5, :, 4]),
)
wrong("rows and columns swapped", MixedGeometryError, r"\b10\b", lambda s: make.set_pixels(s[4], STORED[..., 4].T))
wrong("one slice of another spacing", MixedGeometryError, r"1\.2\b", one(4, PixelSpacing=[1.2, 0.8]))
wrong(
    "two frames of reference", MixedGeometryError, "FrameOfReference", each(FrameOfReferenceUID=lambda k: uid(k // 6))
)
wrong("enhanced, two orientations", MixedGeometryError, "", lambda s: [
    make.enhanced([*s[:6], *make.make_slices(STORED, SAGITTAL)[6:]], shared=False)
])  # fmt: skip
for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
    wrong(f"no {tag}", MissingGeometryError, tag, without(tag))
    wrong(f"no {tag} in one slice", MissingGeometryError, tag, without(tag, only=4))
    wrong(f"empty {tag}", MissingGeometryError, tag, each(**{tag: None}))
wrong("only ImagerPixelSpacing", MissingGeometryError, "PixelSpacing", chain(
    without("PixelSpacing"), each(ImagerPixelSpacing=[1.1, 0.8])
))  # fmt: skip
wrong("a position of two numbers", MissingGeometryError, "ImagePositionPatient", one(4, ImagePositionPatient=[1, 2]))
wrong("a cine without places", MissingGeometryError, "ImagePositionPatient", lambda s: [_cine(s)])
wrong(
    "one slice without thickness",
    MissingGeometryError,
    "SliceThickness",
    without("SliceThickness"),
    stored=STORED[..., :1],
)
wrong("one slice of thickness 0", GeometryError, "SliceThickness", each(SliceThickness=0), stored=STORED[..., :1])
wrong("spacing 0", GeometryError, "pacing", each(PixelSpacing=[0, 0.8]))
wrong("negative spacing", GeometryError, "pacing", each(PixelSpacing=[1.1, -0.8]))
for kind, cosines in {
    "not orthogonal": [1, 0, 0, 0.5, 0.8660254, 0],
    "not of unit length": [2, 0, 0, 0, 1, 0],
    "long and short": [2, 0, 0, 0, 0.5, 0],
    "zero": [0] * 6,
    "parallel": [1, 0, 0, 1, 0, 0],
}.items():
    wrong(
        f"direction cosines {kind}",
        GeometryError,
        r"irection|ImageOrientationPatient",
        each(ImageOrientationPatient=cosines),
    )
for kind, number in {"NaN": b"nan ", "infinite": b"inf ", "words": b"abc ", "two points": b"1..7"}.items():
    wrong(f"position {kind}", InputError, r"_4\.dcm", then=patch(b"40.25\\17.0", b"40.25\\" + number))
wrong("spacing in words", InputError, r"\.dcm", then=patch(b"1.1\\0.8", b"abc\\0.8"))
wrong("spacing NaN", GeometryError, r"\.dcm", then=patch(b"1.1\\0.8", b"nan\\nan", everywhere=True))
wrong("spacing with commas", InputError, r"\.dcm", then=patch(b"1.1\\0.8", b"1,1\\0,8", everywhere=True))

# Wrong: images that do not belong together


def between(**tags) -> Change:
    """The stack once more, half a step higher, with other tags."""

    def change(slices):
        return [*slices, *chain(lambda s: again(s, "half", **tags), moved(1.25))(slices)]

    return change


for name, first, second in (
    ("AcquisitionNumber", 1, 2),
    ("TemporalPositionIdentifier", 1, 2),
    ("EchoNumbers", 1, 2),
    ("EchoTime", 5, 10),
    ("DiffusionBValue", 0.0, 800.0),
    ("ConvolutionKernel", "B30f", "B70f"),
    ("InstanceNumber", lambda k: k + 1, lambda k: 13 + k),
    ("AcquisitionTime", "101500", "101700"),
    ("AcquisitionTime", lambda k: f"1015{k:02}.5", lambda k: f"1017{k:02}.5"),
    ("ContentTime", "101500", "101700"),
    ("AcquisitionDateTime", "20240102101500+0100", "20240102101700+0100"),
):
    where = f"{name}, one by one" if callable(first) else name
    wrong(f"half a step apart, other {where}", AmbiguityError, f"one acquisition.*{name}", chain(
        each(InstanceNumber=1), each(**{name: first}), between(**{name: second})
    ))  # fmt: skip
wrong("frames half a step apart, other b-value", AmbiguityError, "one acquisition.*DiffusionBValue", lambda s: [
    _diffusion(make.enhanced(between()(s)))
])  # fmt: skip
wrong("two patients", AmbiguityError, r"same PatientID.*\.dcm", each(PatientID=lambda k: f"P{k // 6}"))
wrong("two patients without ID", AmbiguityError, "same PatientID", each(
    PatientID=None, PatientName=lambda k: ("Doe^John", "Roe^Jane")[k // 6]
))  # fmt: skip
wrong("two birth dates", AmbiguityError, "PatientBirthDate", each(PatientBirthDate=lambda k: f"1960010{k // 6 + 1}"))
wrong("two modalities", AmbiguityError, "Modality", one(4, Modality="MR"))
wrong("one SOPInstanceUID for all", InputError, "12 images with one", each(SOPInstanceUID=uid("only")))
wrong("one SOPInstanceUID for two", InputError, "2 images with one", one(4, SOPInstanceUID=uid("instance", "a", 5)))
wrong("intercept in all but one", InputError, r"RescaleIntercept.*_4\.dcm", without("RescaleIntercept", only=4))


def _diffusion(ds: Dataset) -> Dataset:
    for k, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.MRDiffusionSequence = [Dataset()]
        frame.MRDiffusionSequence[0].DiffusionBValue = 800.0 * (k // 12)
    return ds


# Wrong: tiles


def mosaic(image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "ND"), **private) -> Change:
    """One image of 4 x 3 tiles; `private` elements are (group, creator, element, VR, value)."""

    def change(slices):
        ds, tiles = slices[0], np.zeros((40, 24), np.uint16)
        for k in range(12):
            column, row = k % 4 * 10, k // 4 * 8
            tiles[column : column + 10, row : row + 8] = STORED[:, :, k]
        make.set_pixels(ds, tiles)
        ds.ImageType, ds.Modality, ds.SOPClassUID = list(image_type), "MR", UIDS.MRImageStorage
        for group, creator, element, kind, value in private.values():
            ds.private_block(group, creator, create=True).add_new(element, kind, value)
        return [ds]

    return change


def csa(name: bytes, value: bytes) -> bytes:
    """A CSA header of version 2 with one element."""
    head = name.ljust(64, b"\0") + struct.pack("<i4siii", 1, b"US\0\0", 9, 6, 77)
    items = [struct.pack("<4i", len(item), len(item), 77, len(item)) + item for item in (value, *[b""] * 5)]
    return b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + head + b"".join(items)


COUNT = ("SIEMENS MR HEADER", 0x0A, "US", 12)
CSA = (0x0029, "SIEMENS CSA HEADER", 0x10, "OB")
wrong("a mosaic by its type", InputError, r"Siemens MOSAIC in .*\.dcm", mosaic(("ORIGINAL", "PRIMARY", "M", "MOSAIC")))
wrong("a mosaic by its count", InputError, "Siemens MOSAIC", mosaic(count=(0x0019, *COUNT)))
wrong("a mosaic, implicit", InputError, "MOSAIC", mosaic(count=(0x0019, *COUNT)), write=syntax(
    UIDS.ImplicitVRLittleEndian
))  # fmt: skip
wrong("a mosaic by its CSA", InputError, "MOSAIC", mosaic(csa=(*CSA, csa(b"NumberOfImagesInMosaic", b"12\0\0"))))
wrong("a mosaic, its block moved", InputError, "MOSAIC", mosaic(
    other=(0x0019, "SOMEBODY", 0x01, "US", 7), count=(0x0019, *COUNT)
))  # fmt: skip
wrong("tiles by their type", InputError, "United Imaging VFRAME", mosaic(("ORIGINAL", "PRIMARY", "VFRAME")))
wrong("tiles by their count", InputError, "United Imaging", mosaic(
    count=(0x0065, "Image Private Header", 0x50, "DS", "12")
))  # fmt: skip

# Wrong: values

for kind, value in {"0": b"0 ", "NaN": b"nan ", "text": b"one ", "two values": b"1\\2 ", "1e-50": b"1e-50 "}.items():
    wrong(f"slope {kind}", InputError, r"_4\.dcm.*RescaleSlope|RescaleSlope.*_4\.dcm|_4\.dcm", lambda s, value=value: (
        raw(s[4], "RescaleSlope", "DS", value)
    ))  # fmt: skip
wrong("slope 0 of all", InputError, "RescaleSlope", slope=("0",))
wrong("slope 0 of a frame", InputError, "frame|RescaleSlope", as_enhanced(shared=False), slope=("1", "1", "0"))
wrong("intercept NaN", InputError, "NaN|nan|finite|RescaleIntercept", then=patch(b"-1024 ", b"nan   "))
wrong("slope in words", InputError, r"_4\.dcm", slope=("1.000000",), then=patch(b"1.000000", b"identity"))
wrong("beyond float32", InputError, "NaN|finite|float32", slope=("1e38",))
wrong(
    "NaN in FloatPixelData",
    InputError,
    "NaN|finite",
    real_pixels(np.where(STORED == 7, np.nan, REALS), "FloatPixelData"),
)
RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
wrong(
    "colour", InputError, "RGB", chain(pixels(BYTES), lambda s: each(PixelData=lambda k: s[k].PixelData * 3, **RGB)(s))
)
wrong("palette", InputError, "PALETTE", each(PhotometricInterpretation="PALETTE COLOR"))
wrong("no PhotometricInterpretation", InputError, "Photometric|MONOCHROME", without("PhotometricInterpretation"))
wrong("no Rows", InputError, "Rows", without("Rows", only=4))
wrong("no Rows at all", InputError, "", without("Rows"))
wrong("Rows 0", InputError, "Rows", one(4, Rows=0))
wrong("no BitsAllocated", CorruptFileError, r"_4\.dcm", without("BitsAllocated", only=4))


def raw(ds: Dataset, keyword: str, kind: str, value: bytes) -> None:
    """Put bytes into a dataset that pydicom would not take."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    ds._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)


def _cine(slices: Slices) -> Dataset:
    ds = deepcopy(slices[0])
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    ds.SOPClassUID, ds.Modality, ds.NumberOfFrames = UIDS.UltrasoundMultiFrameImageStorage, "US", 12
    ds.PixelData = b"".join(one.PixelData for one in slices)
    return ds


# Wrong: files


def cut_stream(slices: Slices) -> None:
    """Half of a compressed frame, wrapped as if it were whole."""
    ds = slices[4]
    [frame] = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 4 * 2]])
    ds["PixelData"].is_undefined_length = True


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Change a byte of the packed data of the first file."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IM") + 40] ^= 0x55
    path.write_bytes(data)


def damaged_table(ds: Dataset) -> None:
    """Let the second segment of an RLE frame end beyond its pixels: pylibjpeg's decoder panics."""
    [frame] = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = pydicom.encaps.encapsulate([frame[:4] + struct.pack("<I", 65) + frame[8:]])
    ds["PixelData"].is_undefined_length = True


def cut_frame(slices: Slices) -> Slices:
    """A multi-frame object with half of the data of its fourth frame."""
    [ds] = chain(as_enhanced(), compressed(UIDS.JPEGLSLossless))(slices)
    frames = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=len(slices)))
    frames[3] = frames[3][: len(frames[3]) // 4 * 2]
    ds.PixelData = pydicom.encaps.encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    return [ds]


def _rewritten(path: Path) -> None:
    ds = pydicom.dcmread(path)
    cut_stream([ds] * 5)
    ds.save_as(path)


wrong("a file of 0 bytes", CorruptFileError, r"_4\.dcm", then=cut(0))
wrong("a file of 0 bytes without extension", CorruptFileError, "IM7", then=put(IM7=b""))
wrong("a file of 100 zeros without extension", CorruptFileError, "I95", write=extensionless, then=lambda folder: (
    (folder / "I95").write_bytes(b"\0" * 100)
))  # fmt: skip
wrong("a file of noise, named like the others", CorruptFileError, "I95", write=extensionless, then=lambda folder: (
    (folder / "I95").write_bytes(b"\x93noise" * 100)
))  # fmt: skip
wrong("a link that leads nowhere", CorruptFileError, "IM999_12", then=lambda folder: (
    (folder / "IM999_12.dcm").symlink_to("annexed")
))  # fmt: skip
for length in (140, 185, 210, 300, 340):
    wrong(f"cut to {length} bytes", CorruptFileError, r"_4\.dcm", then=cut(length))
    wrong(f"the only file cut to {length} bytes", CorruptFileError, r"_4\.dcm", lambda s: s[4:5], then=cut(length),
        write=lambda folder, s: make.write_files(folder, s, lambda k: "I_4.dcm"))  # fmt: skip
wrong("meta alone", CorruptFileError, r"_4\.dcm", then=lambda folder: (
    make.nth_file(folder).write_bytes(make.nth_file(folder).read_bytes()[: 144 + 200])
))  # fmt: skip
wrong("RLE with a damaged table", CorruptFileError, r"_4\.dcm", chain(compressed(UIDS.RLELossless), lambda s: (
    damaged_table(s[4])
)))  # fmt: skip
for keyword, kind, value in (
    ("NumberOfFrames", "IS", b"2000000000"),
    ("NumberOfFrames", "IS", b"-3"),
    ("Rows", "US", b"1"),
    ("Rows", "US", b"\x08\0\x08\0"),
):
    wrong(f"{keyword} as {kind} {value!r}", InputError, r"_4\.dcm", lambda s, *args, a=(keyword, kind, value): (
        raw(s[4], *a)
    ))  # fmt: skip
for keyword, old, new in (
    ("SliceThickness", b"\x18\0\x50\0DS", b"\x18\0\x50\0FD"),
    ("ImagePositionPatient", b"\x20\0\x32\0DS", b"\x20\0\x32\0FD"),
    ("AcquisitionNumber", b"\x20\0\x12\0IS\2", b"\x20\0\x12\0FL\2"),
    ("NumberOfFrames", b"IS\4\x002222", b"IS\4\0inf "),
    ("Rows", b"\x28\0\x10\0US\2", b"\x28\0\x10\0SQ\2"),
):
    wrong(f"{keyword} of another type", CorruptFileError, r"_4\.dcm", one(4, AcquisitionNumber=12, NumberOfFrames=2222),
        then=patch(old, new))  # fmt: skip
wrong("cut in the meta information", CorruptFileError, r"_4\.dcm", then=cut(200))
wrong("cut in the header", CorruptFileError, r"_4\.dcm", then=cut(0.6))
wrong("cut in the pixels", CorruptFileError, r"_4\.dcm", then=cut(-20))
wrong("half of the pixels", CorruptFileError, r"_4\.dcm", lambda s: one(4, PixelData=s[4].PixelData[:80])(s))
wrong("no pixels", CorruptFileError, r"_4\.dcm", without("PixelData", only=4))
wrong("empty pixels", CorruptFileError, r"_4\.dcm", one(4, PixelData=b""))
wrong("cut in RLE", CorruptFileError, r"_4\.dcm", compressed(UIDS.RLELossless), then=cut(-60))
wrong("cut in JPEG-LS", CorruptFileError, r"_4\.dcm", compressed(UIDS.JPEGLSLossless), then=cut(-60))
wrong("cut in JPEG 2000", CorruptFileError, r"_4\.dcm", compressed(UIDS.JPEG2000Lossless), stored=LARGE, then=cut(-60))
for coding in ("RLELossless", "JPEGLSLossless", "JPEG2000Lossless"):
    wrong(f"{coding}, its stream cut", CorruptFileError, r"_4\.dcm", chain(
        compressed(getattr(UIDS, coding)), cut_stream
    ), stored=LARGE)  # fmt: skip
wrong("JPEG lossless, its stream cut", CorruptFileError, r"_4\.dcm", stored=LARGE, then=steps(
    tool("dcmcjpeg", "+e1"), lambda folder: _rewritten(make.nth_file(folder))
))  # fmt: skip
wrong(
    "deflated and cut", CorruptFileError, r"_4\.dcm", write=syntax(UIDS.DeflatedExplicitVRLittleEndian), then=cut(0.5)
)
wrong(
    "big endian stated, little written",
    CorruptFileError,
    r"_4\.dcm",
    then=patch(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
)
wrong(
    "JPEG 2000 of noise",
    CorruptFileError,
    r"_4\.dcm",
    compressed(UIDS.JPEG2000Lossless),
    stored=LARGE,
    then=patch(b"\xff\x4f\xff\x51", b"\7\7\7\7"),
)
wrong(
    "unknown transfer syntax",
    CorruptFileError,
    r"_4\.dcm",
    then=patch(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.77"),
)
wrong("rubbish after DICM", CorruptFileError, r"bad\.dcm", then=put(bad__dcm=b"\0" * 128 + b"DICM" + b"rubbish" * 20))
wrong("enhanced, the stream of a frame cut", CorruptFileError, r"\.dcm", cut_frame, stored=LARGE)
wrong("fewer frames than stated", CorruptFileError, r"\.dcm", lambda s: [_shortened(make.enhanced(s))])
wrong("fewer groups than frames", InputError, r"\.dcm", lambda s: [_ungrouped(make.enhanced(s))])
wrong(
    "two series",
    AmbiguityError,
    r"(?s)4.*CT.*phantom.*12.*5.*CT.*late phase.*9|5.*CT.*late phase.*9.*4.*CT.*phantom.*12",
    late,
)
wrong("two series in sub-folders", AmbiguityError, "late phase", late, write=lambda folder, slices: make.write_files(
    folder, slices, lambda k: f"{k // 12}/I{k}"
))  # fmt: skip
wrong("two series in a zip", AmbiguityError, "late phase", late, then=zipped(), path="series.zip")
wrong("two series in a DICOMDIR", AmbiguityError, "late phase", late, then=make.dicomdir, path="disc/DICOMDIR")
wrong(
    "two series of one description",
    AmbiguityError,
    r"2\.25\.|\d{20}",
    chain(late, each(SeriesDescription="x")),
    series="x",
)
wrong("a series that is not there", InputError, "(?s)'liver'.*late phase", late, series="liver")
wrong("the only series has another name", InputError, "(?s)'liver'.*phantom", series="liver")
wrong("two studies", AmbiguityError, "", plus("b", StudyInstanceUID=uid("study b"), SeriesInstanceUID=uid("series b")))
wrong("two studies with one series UID", InputError, "", plus("b", StudyInstanceUID=uid("study b")))
wrong("with a dose screenshot", AmbiguityError, "(?s)999.*OT.*Dose Report.*1 image", screenshot)
wrong("the dose screenshot, chosen", InputError, "RGB", screenshot, series="999")
wrong("only an SR", InputError, "SR", lambda slices: [], then=other_object(SR, "SR"))
wrong(
    "only an RTSTRUCT", InputError, "Structure", lambda s: [], then=other_object(UIDS.RTStructureSetStorage, "RTSTRUCT")
)
wrong(
    "only spectra",
    InputError,
    "Spectroscopy",
    lambda s: [],
    then=other_object(UIDS.MRSpectroscopyStorage, "MR", **WITH_ROWS),
)
wrong(
    "only a SEG",
    InputError,
    "Segmentation",
    then=steps(make.segmentation, lambda f: [p.unlink() for p in f.glob("IM*")]),
)
wrong("an empty folder", InputError, "", lambda slices: [])
wrong("only text", InputError, "", lambda slices: [], then=put(notes__txt=b"no DICOM"))
wrong("a folder that is not there", InputError, "nowhere", path="nowhere")
wrong("a zip that is none", CorruptFileError, r"a\.zip", then=put(a__zip=b"PK\3\4 no zip"), path="a.zip")
wrong(
    "a zip without images",
    InputError,
    r"a\.zip",
    lambda s: [],
    then=steps(put(notes__txt=b"x"), zipped("a.zip")),
    path="a.zip",
)
wrong("a zip of zips", InputError, r"b\.zip", then=steps(zipped("a.zip"), zipped("b.zip")), path="b.zip")
wrong("a DICOMDIR whose files are gone", InputError, "", then=steps(
    make.dicomdir, lambda folder: [p.unlink() for p in (folder / "disc").rglob("IM*") if p.is_file()]
), path="disc/DICOMDIR")  # fmt: skip
wrong("a DICOMDIR of which one file is gone", InputError, "", then=steps(
    make.dicomdir, lambda folder: sorted(p for p in (folder / "disc").rglob("*") if p.is_file())[-1].unlink()
), path="disc/DICOMDIR")  # fmt: skip


def _shortened(ds: Dataset) -> Dataset:
    ds.PixelData = ds.PixelData[: -ds.Rows * ds.Columns * 2]
    return ds


def _ungrouped(ds: Dataset) -> Dataset:
    del ds.PerFrameFunctionalGroupsSequence[-3:]
    return ds
