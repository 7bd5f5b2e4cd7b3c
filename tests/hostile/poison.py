"""Series that a sender can make and nobody should stumble over: one instance each, in studies of their own."""

import warnings
from pathlib import Path
from random import Random

import pydicom
from helpers.dicom_phantoms import axial_affine, make_series
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag
from pydicom.uid import RLELossless

from hostile.dicom_elements import KINDS, TEXTS, raw_element

# what services look at before they know whether they want a series
KEYWORDS = (
    *("SliceThickness", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames"),
    *("SeriesDescription", "BodyPartExamined", "Modality", "InstanceNumber", "SeriesNumber", "PatientName", "Rows"),
)
FIRST = (("SliceThickness", "FD", b"2.5 "), ("NumberOfFrames", "IS", b"9" * 5000), ("PixelSpacing", "FD", b"1.1\\0.8 "))
SHAPE = (12, 10, 1)


def make_poison(folder: Path, count: int, seed: int) -> dict[str, Path]:
    """Write series that are poisoned in many ways.

    Args:
        folder: one folder per series is made in it.
        count: how many.
        seed: of what is not in `FIRST`.

    Returns:
        Series Instance UID -> file.
    """
    rng, made = Random(seed), {}
    for number in range(count):
        (header,) = make_series(folder / str(number), axial_affine(), SHAPE)
        path = folder / str(number) / "000.dcm"
        if number % 5 == 4:
            _spoil_rle(path, rng)
        else:
            keyword, kind, value = FIRST[number] if number < len(FIRST) else _chosen(rng)
            _spoil_element(path, keyword, kind, value)
        made[str(header.SeriesInstanceUID)] = path
    return made


def _chosen(rng: Random) -> tuple[str, str, bytes]:
    value = rng.choice(TEXTS)
    return rng.choice(KEYWORDS), rng.choice(KINDS), value + b" " * (len(value) % 2)


def _spoil_element(path: Path, keyword: str, kind: str, value: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        tag = BaseTag(tag_for_keyword(keyword))
        dataset._dict[tag] = raw_element(tag, kind, value, dataset)
        dataset.save_as(path, enforce_file_format=False)


def _spoil_rle(path: Path, rng: Random) -> None:
    """Spoil the table of segments, over which a decoder in Rust panics, which is no `Exception`."""
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    data = bytearray(dataset.PixelData)
    start = data.index(b"\x02\0\0\0\x40\0\0\0")  # two segments, the first behind the table
    data[start + 4 : start + 12] = rng.randbytes(8)
    dataset.PixelData = bytes(data)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
