"""Torture cases for DICOM reading that must be read right, each with its truth; dicom_wrong_cases.py has the others.

A case is made in four steps: datasets with a known array and affine, a change, writing to a folder, a change of files.
The truth is computed from what was put in, never by reading a file back.
"""

import io
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from helpers import dicom_pieces as make
from helpers.dicom_pieces import (
    AXIAL,
    OBLIQUE,
    STORED,
    Slices,
    again,
    chain,
    compressed,
    drop,
    each,
    lps,
    moved,
    other_object,
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

Change = Callable[[Slices], Slices | None]
RIGHT: dict[str, "Case"] = {}


@dataclass(frozen=True)
class Case:
    """A folder of files and what reading it must give: `values` on `affine`, or `error`."""

    stored: np.ndarray = field(default_factory=lambda: STORED)  # columns, rows, slices
    affine: np.ndarray = field(default_factory=lambda: AXIAL)  # LPS
    slope: Sequence[str] = ("1",)  # of each slice in turn
    intercept: Sequence[str] = ("-1024",)
    truth: np.ndarray | None = None  # values, where they are not stored * slope + intercept
    change: Change = lambda slices: None
    write: Callable[[Path, Slices], None] = make.write_files
    then: Callable[[Path], object] = lambda folder: None  # changes files
    path: str = ""  # what to read, relative to the folder
    series: str | None = None
    remark: str = ""  # pattern of a remark
    error: type[Exception] | None = None
    match: str = ""  # pattern of the error
    atol: float = 0.0  # largest difference of values that coding explains
    mm: float = 1e-3  # largest distance of a corner that jitter or rounding explains
    may_refuse: bool = False  # the contract is silent: right, or an error of ours; never wrong

    def build(self, folder: Path) -> Path:
        """Write the files; return what to read."""
        folder.mkdir(parents=True, exist_ok=True)
        slices = make.make_slices(self.stored, self.affine, self.slope, self.intercept)
        changed = self.change(slices)
        self.write(folder, slices if changed is None else changed)
        self.then(folder)
        return folder / self.path

    @property
    def values(self) -> np.ndarray:
        if self.truth is not None:
            return self.truth
        count = self.stored.shape[2]
        slope, intercept = ([float(v[k % len(v)]) for k in range(count)] for v in (self.slope, self.intercept))
        return self.stored.astype(np.float64) * slope + intercept


def right(name: str, change: Change = lambda slices: None, **options) -> None:
    assert name not in RIGHT
    RIGHT[name] = Case(change=change, **options)


# Right: places

NO_MOSAIC = b"SV10\4\3\2\1" + b"NumberOfImagesInMosaic".ljust(84, b"\0") + b"\0" * 96
SAGITTAL = lps([[0, 0, 1], [1, 0, 0], [0, -1, 0]])
CORONAL = lps([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
right("plain, names shuffled")
right("oblique", affine=OBLIQUE)
right("sagittal", affine=SAGITTAL)
right("coronal", affine=CORONAL)
right("slices stacked against their normal", affine=lps(np.diag([1, 1, -1])))
right("oblique, stacked against their normal", affine=lps(turned(-70, 35) @ np.diag([1, 1, -1])))
right("prone, rows to the right", affine=lps(np.diag([-1, -1, 1])), change=each(PatientPosition="HFP"))
right(
    "far from the origin, sixteen digits", affine=lps(turned(12.3456, 0), origin=(-1234.567891, 987.654321, -1500.125))
)
right("micro-CT, 0.05 mm", affine=lps(spacing=(0.05, 0.05, 0.05)))
right("slices thinner than pixels, 0.3 mm", affine=lps(spacing=(0.9, 0.9, 0.3)))
right("two slices", stored=STORED[..., :2], change=each(SliceThickness=1))
right("one slice with thickness", stored=STORED[..., :1], affine=OBLIQUE)
right("one column", stored=STORED[:1])
for kind, number in {"reversed": lambda k: 12 - k, "constant": 1, "empty": None, "negative": lambda k: k - 5}.items():
    right(f"{kind} InstanceNumber", each(InstanceNumber=number))
right("no InstanceNumber", without("InstanceNumber"))
right("wrong SpacingBetweenSlices", each(SpacingBetweenSlices=9))
right("negative SpacingBetweenSlices", each(SpacingBetweenSlices=-2.5))
right("wrong SliceThickness", each(SliceThickness=1))
right("SliceThickness 0", each(SliceThickness=0))
right("no SliceThickness", without("SliceThickness"))
right("mixed SliceThickness, even positions", each(SliceThickness=lambda k: 2.5 if k % 2 else 5))
right("wrong SliceLocation", each(SliceLocation=lambda k: 100 - 7 * k))
right("gaps of 2.46 and 2.54 mm", moved(0.02, -0.02), mm=0.05)
right("one slice 0.1 mm off", moved(*[0] * 5, 0.1, *[0] * 6), mm=0.1)
right(
    "positions in tenths of a millimetre, step 0.625 mm",
    each(ImagePositionPatient=lambda k: [-12.5, -40.2, round(7 + 0.625 * k - 1e-6, 1)]),
    affine=lps(spacing=(0.8, 1.1, 0.625), origin=(-12.5, -40.2, 7)),
    mm=0.06,
)
right(
    "direction cosines differ in the sixth digit",
    lambda slices: each(
        ImageOrientationPatient=lambda k: [round(float(v), 6 + k % 2) for v in slices[0].ImageOrientationPatient]
    )(slices),
    affine=OBLIQUE,
)
right(
    "direction cosines of three digits",
    lambda slices: each(ImageOrientationPatient=[round(float(v), 3) for v in slices[0].ImageOrientationPatient])(
        slices
    ),
    affine=OBLIQUE,
    mm=0.01,
)
right("no FrameOfReferenceUID", without("FrameOfReferenceUID"))
right("no study and series UID", without("StudyInstanceUID", "SeriesInstanceUID"))
right("drift of 0.09 mm in all", affine=lps([[1, 0, 0], [0, 1, 0.09 / 27.5], [0, 0, 1]]), mm=0.1)
right("several ImageTypes", each(ImageType=lambda k: ["ORIGINAL", "PRIMARY", "AXIAL" if k % 2 else "HELIX"]))
right("a private element of another maker where Siemens counts tiles", lambda slices: [
    ds.private_block(0x0019, "SOMEBODY", create=True).add_new(0x0A, "US", 12) for ds in slices
] and None)  # fmt: skip
right("one slice that a CSA header calls no mosaic", lambda slices: [
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", NO_MOSAIC) for ds in slices
] and None)  # fmt: skip
right("slices thicker than their step, made in one pass", each(
    SliceThickness=5, AcquisitionTime=lambda k: f"1015{k:02}"
))  # fmt: skip
right("slices interleaved in time", each(
    AcquisitionTime=lambda k: f"10{15 + k % 2}{k:02}", InstanceNumber=lambda k: k // 2 + 6 * (k % 2) + 1
))  # fmt: skip
right("AcquisitionNumber of every slice its own", each(AcquisitionNumber=lambda k: (5 * k) % 12 + 1))
right("AcquisitionNumber grows with position", each(AcquisitionNumber=lambda k: 1 + k // 6))

# Right: values

SIGNED = (STORED.astype(np.int32) - 2000).astype(np.int16)
WIDE = STORED.astype(np.uint32) * 50_000
BYTES = (STORED % 251).astype(np.uint8)
SMALL = (BYTES // 2 - 60.0).astype(np.int8)
JUNK = (STORED.astype(np.uint32) * 40503 & 0xF000).astype(np.uint16)  # lies in the four unused bits
REALS = (np.sin(STORED) * 37.5).astype(np.float32)
GREY_LUT = (np.arange(4001) * 3 % 4099).astype(np.uint16)


def real_pixels(array: np.ndarray, tag: str) -> Change:
    def change(slices):
        without("PixelData", "BitsStored", "HighBit", "PixelRepresentation")(slices)
        for k, ds in enumerate(slices):
            ds.BitsAllocated = 8 * array.dtype.itemsize
            setattr(ds, tag, array[:, :, k].T.tobytes())

    return change


def modality_lut(slices):
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [4001, 0, 16], "US", GREY_LUT.tobytes()
    item["LUTData"].VR = item["LUTDescriptor"].VR = "OW"
    item.add_new("LUTDescriptor", "US", [4001, 0, 16])
    without("RescaleSlope", "RescaleIntercept", "RescaleType")(slices)
    each(ModalityLUTSequence=[item])(slices)


def half_signed(slices):
    for k in range(0, 12, 2):
        make.set_pixels(slices[k], STORED[:, :, k].astype(np.int16))


PET = {"SOPClassUID": pydicom.uid.PositronEmissionTomographyImageStorage, "Modality": "PT", "Units": "BQML"}
GROWING = tuple(f"{0.37 * 1.4**k:.8g}" for k in range(12))
right("PET: a slope for every slice", each(**PET), slope=GROWING, intercept=("0",))
right("slope and intercept of every slice", slope=("1", "2", "0.5"), intercept=("-1024", "0", "7.25", "-3"))
right("negative slope", slope=("-2",))
right("tiny slope", slope=("1.234e-09",), intercept=("0",))
right("huge slope", slope=("1.5e+12",), intercept=("1e+10",))
right("large intercept, small slope", slope=("0.001",), intercept=("-8192",))
right("no rescale", without("RescaleSlope", "RescaleIntercept", "RescaleType"), intercept=("0",))
right("intercept without slope", without("RescaleSlope"))
right("empty rescale", each(RescaleSlope=None, RescaleIntercept=None), intercept=("0",))
right("signed", stored=SIGNED)
right("unsigned above 32767", stored=STORED * 16)
right("8 bits, odd length", stored=BYTES[:9, :7], intercept=("0",))
right("12 bits in 16", pixels(STORED, 12))
right("12 bits in 16, signed", pixels(SIGNED, 12), stored=SIGNED)
right("12 bits in 16, junk above", chain(pixels(STORED | JUNK), each(BitsStored=12, HighBit=11)))
right(
    "12 bits in 16, signed, junk above",
    chain(pixels((SIGNED.view(np.uint16) & 0xFFF) | JUNK), each(BitsStored=12, HighBit=11, PixelRepresentation=1)),
    stored=SIGNED,
)
right("32 bits", stored=WIDE, slope=("1e-4",), intercept=("0",))
right("32 bits, signed", stored=WIDE.astype(np.int32) - 10**8, intercept=("0",))
right("32 bits, offset by 2^31", stored=STORED + np.uint32(2**31), intercept=("-2147483648",))
right("8 bits, signed", stored=SMALL)
right("8 bits in 16, signed", pixels(SMALL.astype(np.int16), 8), stored=SMALL)
right("half of the slices signed", half_signed)
right("FloatPixelData", real_pixels(REALS, "FloatPixelData"), truth=REALS - 1024.0)
right("DoubleFloatPixelData", real_pixels(REALS.astype(float), "DoubleFloatPixelData"), truth=REALS - 1024.0)
right("PixelPaddingValue is kept", each(PixelPaddingValue=14, PixelPaddingRangeLimit=100))
right("window is not applied", each(WindowCenter=40, WindowWidth=80, VOILUTFunction="SIGMOID"))
right("modality LUT", modality_lut, truth=GREY_LUT[STORED].astype(float))
right("MONOCHROME1 is not inverted", each(PhotometricInterpretation="MONOCHROME1"), remark="MONOCHROME1")
right("no SamplesPerPixel", without("SamplesPerPixel"), may_refuse=True)
right("PresentationLUTShape INVERSE", each(PresentationLUTShape="INVERSE"))
right("pixel data with a tail", lambda slices: each(PixelData=lambda k: slices[k].PixelData + b"\7" * 32)(slices))

# Right: encodings

LARGE = (np.arange(40 * 36 * 6) * 7 % 4001).astype(np.uint16).reshape(40, 36, 6)  # JPEG 2000 halves it five times
SMOOTH = np.rint(np.fromfunction(lambda x, y, z: 900 + 20 * x + 15 * y + 9 * z, LARGE.shape)).astype(np.uint16)
UIDS = pydicom.uid
for sample, stored in {
    "": LARGE,
    ", signed": (LARGE - 2000.0).astype(np.int16),
    ", 8 bits": LARGE.astype(np.uint8),
}.items():
    right(f"implicit little endian{sample}", stored=stored, write=syntax(UIDS.ImplicitVRLittleEndian))
    right(f"deflated{sample}", stored=stored, write=syntax(UIDS.DeflatedExplicitVRLittleEndian))
    for coding in ("RLELossless", "JPEGLSLossless", "JPEG2000Lossless"):
        right(f"{coding}{sample}", compressed(getattr(UIDS, coding)), stored=stored)
    right(f"JPEG-LS by dcmtk{sample}", stored=stored, then=tool("dcmcjpls"))
    right(f"RLE by dcmtk{sample}", stored=stored, then=tool("dcmcrle"))
    right(f"JPEG lossless SV1{sample}", stored=stored, then=tool("dcmcjpeg", "+e1"))
right("JPEG lossless, predictor 6", then=tool("dcmcjpeg", "+el", "+sv", "6"))
right("big endian", write=make.big_endian)
right("big endian, signed", stored=SIGNED, write=make.big_endian)
right("big endian, 32 bits", stored=WIDE, intercept=("0",), write=make.big_endian)
right("big endian by dcmtk, 8 bits", stored=BYTES, then=tool("dcmconv", "+tb"))
right("JPEG-LS near lossless", compressed(UIDS.JPEGLSNearLossless, jls_error=2), stored=SMOOTH, atol=2)
right("JPEG 2000 lossy", compressed(UIDS.JPEG2000, j2k_cr=[4]), stored=SMOOTH, atol=30)
right("RLE, 12 bits in 16, signed", chain(pixels(SIGNED, 12), compressed(UIDS.RLELossless)), stored=SIGNED)
right("JPEG 2000, 12 bits", chain(pixels(LARGE, 12), compressed(UIDS.JPEG2000Lossless)), stored=LARGE)
right("JPEG-LS, 12 bits", chain(pixels(STORED, 12), compressed(UIDS.JPEGLSLossless)))
right("half of the files compressed", lambda slices: compressed(UIDS.RLELossless)(slices[::2]))
right("lengths explicit and groups counted, by dcmtk", then=tool("dcmconv", "+g", "+e"))

# Right: files

SR = UIDS.BasicTextSRStorage


def extensionless(folder: Path, slices: Slices) -> None:
    make.write_files(folder, slices, lambda k: f"I{99 - k}")


def in_lower_case(folder: Path) -> None:
    """As some systems show the names of a CD."""
    for path in sorted((folder / "disc").rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))


def headless(*, everywhere: bool):
    """Take the preamble and "DICM" away, as files of before 1993 and some exports have it."""

    def then(folder: Path) -> None:
        files = sorted(folder.iterdir())
        for path in files if everywhere else files[-1:]:
            path.write_bytes(path.read_bytes()[132:])

    return then


def bare(*, implicit: bool, preamble: bytes = b"\0" * 128 + b"DICM"):
    """Write files without meta information."""

    def write(folder: Path, slices: Slices) -> None:
        for k, ds in enumerate(slices):
            file = io.BytesIO()
            pydicom.dcmwrite(file, ds, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
            (folder / make.shuffled(k)).write_bytes(preamble + file.getvalue())

    return write


def padded(padding: bytes) -> Change:
    """Append bytes to the only frame of every slice, after the end of its stream."""

    def change(slices):
        for ds in slices:
            [frame] = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)
            ds.PixelData = pydicom.encaps.encapsulate([frame + padding])
            ds["PixelData"].is_undefined_length = True

    return change


WITH_ROWS = {"Rows": 8, "Columns": 10}
right("names without extension", write=extensionless)
right("names that are UIDs", write=lambda folder, slices: make.write_files(folder, slices, lambda k: f"1.2.3.{99 - k}"))
right("names in capitals", write=lambda folder, slices: make.write_files(folder, slices, lambda k: f"IM{99 - k}.DCM"))
right(
    "names with umlauts and blanks",
    write=lambda folder, slices: make.write_files(folder, slices, "schräg {}.dcm".format),
)
right("in sub-folders", write=lambda folder, slices: make.write_files(folder, slices, lambda k: f"{k % 3}/deep/I{k}"))
right("no preamble", then=headless(everywhere=True), remark="12 file.* without preamble")
right("no preamble, no extension", write=extensionless, then=headless(everywhere=True))
right("no preamble in the last file", then=headless(everywhere=False), remark="1 file.* without preamble")
for kind, implicit in {"implicit": True, "explicit": False}.items():
    right(f"no meta information, {kind}", write=bare(implicit=implicit), remark="12 file.* without preamble or meta")
    right(f"neither preamble nor meta, {kind}", write=bare(implicit=implicit, preamble=b""), remark="12 file.* without")
for kind, padding in {"zeros": b"\0" * 40, "ones": b"\xff" * 300, "blanks": b" " * 20}.items():
    right(f"JPEG-LS padded with {kind}", chain(compressed(UIDS.JPEGLSLossless), padded(padding)), stored=LARGE)
right("JPEG 2000 padded", chain(compressed(UIDS.JPEG2000Lossless), padded(b"\0" * 64)), stored=LARGE)
right(
    "text and junk files",
    then=put(notes__txt=b"no DICOM", README=b"read me", empty__txt=b"", junk=b"\0" * 300, a__jpg=b"\xff\xd8"),
)
right("hidden files", then=put(__DS_Store=b"x", __hidden__dcm=b"", **{"___IM003_0__dcm": b"\0\5\x16\7"}))
right("a folder that leads back", then=lambda folder: (folder / "loop").symlink_to(folder), may_refuse=True)
right("with an SR", then=other_object(SR, "SR"), remark="Basic Text SR")
right("with an RTSTRUCT", then=other_object(UIDS.RTStructureSetStorage, "RTSTRUCT"), remark="RT Structure Set")
right(
    "with a presentation state", then=other_object(UIDS.GrayscaleSoftcopyPresentationStateStorage, "PR"), remark="State"
)
right("with raw data", then=other_object(UIDS.RawDataStorage, "OT"), remark="Raw Data")
right("with a PDF", then=other_object(UIDS.EncapsulatedPDFStorage, "DOC"), remark="PDF")
right("with a registration", then=other_object(UIDS.SpatialRegistrationStorage, "REG"), remark="Registration")
right("with a private object", then=other_object("1.3.12.2.1107.5.9.1", "MR"), remark="1.3.12|CSA")
right("with spectra", then=other_object(UIDS.MRSpectroscopyStorage, "MR", **WITH_ROWS), remark="Spectroscopy")
right("with a SEG", then=make.segmentation, remark="Segmentation")
right("with an SR of the same series", then=other_object(SR, "SR", SeriesInstanceUID=uid("series", "a")), remark="SR")
right("with a DICOMDIR", then=make.dicomdir, path="disc")
right("DICOMDIR", then=make.dicomdir, path="disc/DICOMDIR")
right("zip with a DICOMDIR", then=steps(make.dicomdir, zipped()), path="series.zip")
right("DICOMDIR, all names in lower case", then=steps(make.dicomdir, in_lower_case), path="disc/dicomdir")
right("zip", then=zipped(), path="series.zip")
right("zip in capitals", then=zipped("A.ZIP"), path="A.ZIP")
right(
    "zip with a folder in it", write=lambda f, s: make.write_files(f / "a" / "b", s), then=zipped(), path="series.zip"
)
right("zip in a zip is not followed", then=steps(
    lambda folder: shutil.make_archive(str(folder / "inner"), "zip", folder.parent, folder.name), zipped()
), path="series.zip")  # fmt: skip
right("zip made on a Mac", then=steps(
    lambda folder: shutil.copytree(folder, folder / "__MACOSX"),
    lambda folder: [p.rename(p.with_name(f"._{p.name}")).write_bytes(b"\0\5") for p in (folder / "__MACOSX").iterdir()],
    zipped(),
), path="series.zip")  # fmt: skip

# Right: one of several series

LATE = {"SeriesInstanceUID": uid("series", "late"), "SeriesNumber": 5, "SeriesDescription": "late phase"}
late = chain(plus("late", **LATE), drop(13, 14, 15))
for kind, chosen in {"UID": uid("series", "a"), "number": "4", "description": "phantom"}.items():
    right(f"two series, chosen by {kind}", late, series=chosen)
right("two series in a zip, chosen by number", late, then=zipped(), path="series.zip", series="4")
right("two series in a DICOMDIR", late, then=make.dicomdir, path="disc/DICOMDIR", series="4")
SCREEN = {"SOPClassUID": UIDS.SecondaryCaptureImageStorage, "Modality": "OT", "SeriesInstanceUID": uid("screen")}


def screenshot(slices: Slices) -> Slices:
    """One colour picture without a place, as scanners add for the dose."""
    [picture] = again(slices[:1], "screen", **SCREEN, SeriesNumber=999, SeriesDescription="Dose Report")
    picture.SamplesPerPixel, picture.PhotometricInterpretation, picture.PlanarConfiguration = 3, "RGB", 0
    make.set_pixels(picture, BYTES[:, :, 0])
    picture.PixelData *= 3
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(picture, tag)
    return [*slices, picture]


right("with a dose screenshot, chosen by number", screenshot, series="4")

# Right: multi-frame objects

ORDER = [7, 0, 11, 3, 5, 1, 10, 2, 9, 4, 8, 6]
ENHANCED_MR = UIDS.EnhancedMRImageStorage
as_enhanced = make.as_enhanced


def concatenated(slices: Slices) -> Slices:
    """Two multi-frame objects of one series, as exporters split large ones."""
    parts = [make.enhanced(slices[:6]), make.enhanced(slices[6:])]
    parts[1].SOPInstanceUID = uid("second part")
    return parts


def dose(slices: Slices) -> Slices:
    ds = deepcopy(slices[0])
    del ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType
    ds.SOPClassUID, ds.Modality, ds.NumberOfFrames = UIDS.RTDoseStorage, "RTDOSE", 12
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType, ds.DoseGridScaling = "GY", "PHYSICAL", "PLAN", "0.0001"
    ds.FrameIncrementPointer, ds.GridFrameOffsetVector = 0x3004000C, [2.5 * k for k in range(12)]
    ds.PixelData = b"".join(one.PixelData for one in slices)
    return [ds]


def legacy_converted(slices: Slices) -> Slices:
    import highdicom

    each(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], KVP=120, AcquisitionNumber=1)(slices)
    with_meta = chain(each(file_meta=lambda k: None))
    del with_meta
    for ds in slices:
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UIDS.ExplicitVRLittleEndian
    return [highdicom.legacy.LegacyConvertedEnhancedCTImage(slices, uid("legacy"), 8, uid("legacy object"), 1)]


def parametric_map(slices: Slices) -> Slices:
    import highdicom

    mapping = highdicom.pm.RealWorldValueMapping(
        "x", "y", pydicom.sr.codedict.codes.UCUM.NoUnits, (-1e3, 1e3), slope=1, intercept=0
    )
    window = highdicom.VOILUTTransformation(0.0, 100.0)
    array = np.ascontiguousarray(REALS.T)
    args = (slices, array, uid("map"), 8, uid("map object"), 1, "m", "m", "1", "n", False, [mapping])
    return [highdicom.pm.ParametricMap(*args, voi_lut_transformations=[window])]


right("enhanced CT, shared groups", as_enhanced())
right("enhanced CT, shuffled frames, groups per frame", as_enhanced(order=ORDER, shared=False), affine=OBLIQUE)
right("enhanced MR, signed", as_enhanced(order=ORDER, sop_class=ENHANCED_MR), stored=SIGNED, intercept=("0",))
right("enhanced, rescale per frame", as_enhanced(order=ORDER, shared=False), slope=GROWING, intercept=("3", "-7"))
right("enhanced, stacked against the normal", as_enhanced(), affine=lps(np.diag([1, 1, -1])))
right("enhanced, 8 bits, odd frames", lambda s: [_packed(s)], stored=BYTES[:9, :7], intercept=("0",))
right("enhanced, RLE", lambda s: compressed(UIDS.RLELossless)(e := as_enhanced(order=ORDER)(s)) or e)
right(
    "enhanced, JPEG 2000",
    lambda s: compressed(UIDS.JPEG2000Lossless)(e := as_enhanced(order=[3, 0, 5, 1, 4, 2])(s)) or e,
    stored=LARGE,
)
right("enhanced, one frame", as_enhanced(), stored=STORED[..., :1])
right("enhanced, in-stack numbers against positions", lambda s: [_renumbered(make.enhanced(s))])
right(
    "enhanced objects of one frame each",
    lambda s: [_own(make.enhanced([d]), k) for k, d in enumerate(s)],
)
right("enhanced, in two objects", concatenated, may_refuse=True)
right("legacy converted CT by highdicom", legacy_converted)
right("parametric map by highdicom", parametric_map, truth=REALS.astype(float), may_refuse=True)
right("RTDOSE", dose, stored=WIDE, slope=("0.0001",), intercept=("0",), may_refuse=True)
right("NumberOfFrames 1", each(NumberOfFrames=1))


def _packed(slices: Slices) -> Dataset:
    """Frames of odd length follow one another without padding."""
    ds = make.enhanced(slices)
    ds.PixelData = b"".join(one.PixelData[: one.Rows * one.Columns] for one in slices)
    return ds


def _renumbered(ds: Dataset) -> Dataset:
    for k, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].InStackPositionNumber = 12 - k
    return ds


def _own(ds: Dataset, k: int) -> Dataset:
    ds.SOPInstanceUID = uid("own", k)
    return ds


# Tilted gantry: sheared stacks of a linear field, compared by place in test_dicom_cases.py


def linear_field(points: np.ndarray) -> np.ndarray:
    """Value at points (x, y, z, ...) mm, LPS: linear, so that interpolation is exact and every shift shows."""
    return 9000 + 40 * points[0] - 70 * points[1] + 25 * points[2]


def tilted(degrees: float, swivel: float = 0, axes=make.STRAIGHT, **options) -> Case:
    """A stack whose slices drift along their columns, and along their rows by `swivel` degrees."""
    affine = lps(axes)
    affine[:3, 2] += 2.5 * np.tan(np.deg2rad(degrees)) * affine[:3, 1] / 1.1
    affine[:3, 2] += 2.5 * np.tan(np.deg2rad(swivel)) * affine[:3, 0] / 0.8
    index = np.stack(np.meshgrid(*map(np.arange, (24, 20, 12)), [1], indexing="ij"))[..., 0]
    stored = np.rint(linear_field(np.einsum("ij,jxyz->ixyz", affine, index))).astype(np.uint16)
    return Case(stored=stored, affine=affine, **options)


TILTED = {
    "15": tilted(15, remark=r"\b15(\.0\d*)?\b"),
    "-20": tilted(-20, remark=r"\b20(\.0\d*)?\b"),
    "0.5": tilted(0.5, remark=r"\b0\.5\d*\b"),
    "oblique": tilted(8, axes=turned(25, -10), remark=r"\b8(\.0\d*)?\b"),
    "against the normal": tilted(12, axes=np.diag([1, 1, -1]), remark=r"\b12(\.0\d*)?\b"),
    "both ways": tilted(10, -14, remark=r"\b16\.\d*\b"),
    "enhanced": tilted(15, change=make.as_enhanced(order=[7, 0, 11, 3, 5, 1, 10, 2, 9, 4, 8, 6]), remark="15"),
}
