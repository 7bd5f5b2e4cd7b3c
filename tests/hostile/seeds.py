"""Sound files of every format, made by code: what the mutants are made of."""

import gzip
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import torch
from helpers import BUNDLE
from helpers import dicom_pieces as pieces
from helpers.dicom_phantoms import axial_affine, label_phantom, make_enhanced, make_series
from helpers.tiny import make_tiny
from PIL import Image
from pydicom import uid as uids

from hostile.text_fields import OUTSIDE
from unetpp_monai.dicom.rtstruct import write_dicom_rtstruct
from unetpp_monai.dicom.seg import write_dicom_seg
from unetpp_monai.dicom.series import read_dicom_series
from unetpp_monai.io.seg_nrrd import write_seg_nrrd
from unetpp_monai.labels import Label, label_colour, read_labels
from unetpp_monai.provenance import Algorithm

SHAPE = (10, 8, 6)  # X, Y, Z
AFFINE = np.array([[-1.1, 0.1, 0, 20], [0.1, 0.9, 0, -30], [0, 0, 1.3, 5], [0, 0, 0, 1.0]])
SERIES = 5  # slices
SYNTAXES: dict[str, Callable] = {
    "explicit": pieces.write_files,
    "implicit": pieces.syntax(uids.ImplicitVRLittleEndian),
    "big_endian": pieces.big_endian,
    "deflated": pieces.syntax(uids.DeflatedExplicitVRLittleEndian),
}
CODINGS = {"rle": uids.RLELossless, "jpeg_ls": uids.JPEGLSLossless, "jpeg_2000": uids.JPEG2000Lossless}
ALGORITHM = Algorithm("hostile", "1")


def voxels(dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def make_nifti(folder: Path) -> None:
    for name, order, dtype in (("little", "<", np.int16), ("big", ">", np.int16), ("real", "<", np.float32)):
        image = nib.Nifti1Image(voxels(dtype), AFFINE, nib.Nifti1Header(endianness=order))
        image.set_data_dtype(dtype)
        image.set_qform(AFFINE, 1, strip_shears=True)
        image.set_sform(image.get_qform(), 1)
        image.header.set_xyzt_units("mm")
        if name == "real":
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"seventeen letters"))
        if name == "little":
            image.header.set_slope_inter(2.0, -10.0)
        _file(folder / name / "image.nii").write_bytes(image.to_bytes())


def make_nifti_gz(folder: Path) -> None:
    make_nifti(folder)
    for path in folder.glob("*/image.nii"):
        path.with_suffix(".nii.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


def make_nrrd(folder: Path) -> None:
    pixels = voxels().T.tobytes()  # X runs fastest
    packed = {"raw": pixels, "gzip": gzip.compress(pixels, mtime=0), "ascii": b""}
    packed["ascii"] = " ".join(map(str, voxels().T.ravel())).encode()
    for encoding, body in packed.items():
        _file(folder / encoding / "image.nrrd").write_bytes(nrrd_head(encoding) + b"\n" + body)
        _file(folder / encoding / OUTSIDE).write_bytes(b"\x5a" * 2 * voxels().size)


def nrrd_head(encoding: str) -> bytes:
    lines = ["NRRD0004", "type: short", "dimension: 3", "space: left-posterior-superior", "sizes: 10 8 6"]
    lines += ["space directions: (1.1,0,0) (0,0.9,0) (0,0,1.3)", "kinds: domain domain domain"]
    lines += ["endian: little", f"encoding: {encoding}", "space origin: (20,-30,5)"]
    return "\n".join(lines).encode() + b"\n"


def make_metaimage(folder: Path) -> None:
    pixels = voxels().T.tobytes()
    for name, local, body in (
        *(("mha_raw", True, pixels), ("mha_zlib", True, zlib.compress(pixels))),
        *(("mhd_raw", False, pixels), ("mhd_zlib", False, zlib.compress(pixels))),
    ):
        lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
        lines += [f"CompressedData = {name.endswith('zlib')}"]
        lines += [f"CompressedDataSize = {len(body)}"] if name.endswith("zlib") else []
        lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 20 -30 5", "CenterOfRotation = 0 0 0"]
        lines += ["AnatomicalOrientation = RAI", "ElementSpacing = 1.1 0.9 1.3", "DimSize = 10 8 6"]
        lines += ["ElementType = MET_SHORT", f"ElementDataFile = {'LOCAL' if local else 'pixels.raw'}"]
        head = "\n".join(lines).encode() + b"\n"
        _file(folder / name / f"image.{name[:3]}").write_bytes(head + body if local else head)
        if not local:
            (folder / name / "pixels.raw").write_bytes(body)
        (folder / name / OUTSIDE).write_bytes(b"\x5a" * len(pixels))


def make_png(folder: Path) -> None:
    grey, colour = voxels(np.uint8)[..., 0].T, np.ascontiguousarray(voxels(np.uint8)[..., :3].transpose(1, 0, 2))
    for name, pixels in (("grey", grey), ("deep", grey.astype(np.uint16) * 250), ("colour", colour)):
        Image.fromarray(pixels).save(_file(folder / name / "image.png"))


def make_tiff(folder: Path) -> None:
    grey, colour = voxels(np.uint8)[..., 0].T, np.ascontiguousarray(voxels(np.uint8)[..., :3].transpose(1, 0, 2))
    for name, pixels, compression in (
        ("raw", grey, None),
        ("deep", grey.astype(np.uint16) * 250, "tiff_adobe_deflate"),
        ("colour", colour, "tiff_lzw"),
        ("real", grey.astype(np.float32), "packbits"),
    ):
        Image.fromarray(pixels).save(_file(folder / name / "image.tif"), compression=compression)


def make_dicom(folder: Path) -> None:
    stored = pieces.STORED[..., :SERIES]
    for name, write in SYNTAXES.items():
        write(folder / name, pieces.make_slices(stored))
    large = np.tile(stored, (4, 4, 1))  # codecs want more than a few pixels
    for name, syntax in CODINGS.items():
        slices = pieces.make_slices(large)
        pieces.compressed(syntax)(slices)
        pieces.write_files(folder / name, slices)
    if shutil.which("dcmcjpeg"):
        pieces.write_files(folder / "jpeg", pieces.make_slices(large))
        pieces.tool("dcmcjpeg", "+e1")(folder / "jpeg")
    (folder / "enhanced").mkdir()
    make_enhanced(folder / "enhanced" / "image.dcm", axial_affine(), (12, 10, SERIES))
    pieces.write_files(folder / "zip", pieces.make_slices(stored))
    pieces.zipped()(folder / "zip")
    pieces.write_files(folder / "dicomdir", pieces.make_slices(stored))
    pieces.dicomdir(folder / "dicomdir")


def structures() -> tuple[Label, ...]:
    """Two labels with codes and colours, as those of the default bundle."""
    import json

    labels = read_labels(json.loads((BUNDLE / "configs" / "metadata.json").read_text()))
    return tuple(replace(label, colour=label_colour(label)) for label in labels)


def make_seg(folder: Path) -> None:
    for encoding in ("binary", "labelmap"):
        sources, labels = _source_and_labels(folder / "source")
        path = _file(folder / encoding / "labels.dcm")
        write_dicom_seg(labels, path, structures=structures(), sources=sources, algorithm=ALGORITHM, encoding=encoding)
        settle(path)
    shutil.rmtree(folder / "source")


def make_rtstruct(folder: Path) -> None:
    sources, labels = _source_and_labels(folder / "source")
    path = _file(folder / "contours" / "labels.dcm")
    write_dicom_rtstruct(labels, path, structures=structures(), sources=sources, algorithm=ALGORITHM)
    settle(path)
    shutil.rmtree(folder / "source")


def _source_and_labels(folder: Path):
    shutil.rmtree(folder, ignore_errors=True)
    make_series(folder, axial_affine(), (12, 10, SERIES))
    source = read_dicom_series(folder)
    return source.sources, label_phantom((12, 10, SERIES), axial_affine(), 2)


def make_segnrrd(folder: Path) -> None:
    import SimpleITK

    path = _file(folder / "packed" / "labels.seg.nrrd")
    write_seg_nrrd(label_phantom(SHAPE, np.diag([-1.0, -1, 1, 1]) @ AFFINE, 2), path, structures=structures())
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(_file(folder / "raw" / path.name)), useCompression=False)


def make_bundle(folder: Path) -> None:
    """A bundle of a tiny network; the same for configs and weights."""
    torch.manual_seed(0)
    shutil.copytree(BUNDLE, folder / "tiny", ignore=shutil.ignore_patterns("docs", "*.png"))
    make_tiny(folder / "tiny")


def settle(path: Path) -> None:
    """Replace what differs from run to run, UIDs and times, so that a mutant's number always means the same bytes."""
    dataset = pydicom.dcmread(path)
    known: dict[str, str] = {}
    for element in (*dataset.file_meta, *dataset.iterall()):
        if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008"):
            element.value = known.setdefault(str(element.value), f"1.2.826.0.1.3680043.10.{len(known) + 1000}")
        elif element.VR in ("DA", "TM", "DT") and element.value:
            element.value = {"DA": "20240102", "TM": "101500", "DT": "20240102101500"}[element.VR]
    dataset.save_as(path, enforce_file_format=True)


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
