"""What the product makes of a mutant, and whether that is right."""

import gzip
import re
import traceback
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from helpers.dicom_phantoms import axial_affine, label_phantom

from hostile.formats import FORMATS, Mutant, target, variants
from hostile.seeds import SERIES
from hostile.text_fields import OUTSIDE
from hostile.warm import ROOT
from unetpp_monai import Segmenter, UnetppError, Volume, read_bundle, read_volume
from unetpp_monai.bundle import load_network
from unetpp_monai.io.label_files import read_label_file
from unetpp_monai.workflows.segment import Request, segment_case

EQUAL, OTHER, NAMED, FAULT = "equal", "other content", "named error", "fault"
LONGEST_MESSAGE = 2000  # characters
SEGMENTED = 1 << 17  # voxels; of more, the windows of a network are work that takes its time, not a fault
WHOLE = {"image": 4, "labels": 1, "bundle": 2}  # every so manieth mutant goes through the whole segmenter
PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Warm:
    """What the warm process has ready for its children."""

    sound: Path  # folder of the formats' sound variants, with what they hold beside them
    segmenter: Segmenter  # of a tiny network
    image: Volume  # for bundles to segment


Content = dict[str, np.ndarray]  # what a reading gave: arrays by name
Verdict = tuple[str, str, str, str]  # verdict, kind, place, message


def read(warm: Warm, name: str, mutant: Mutant, scratch: Path, *, whole: bool) -> Content:
    """Read an input with the product's own function for it.

    Args:
        warm: what is ready.
        name: of `FORMATS`.
        mutant: to read.
        scratch: for results.
        whole: run it through the whole segmenter, unless it is large.
    """
    kind = FORMATS[name].kind
    if kind == "bundle":
        return _read_bundle(warm, mutant.path, whole=whole)
    if kind == "labels":
        grid = warm.sound / name / f"{mutant.variant}.npz"
        volume, _ = read_label_file(mutant.path, grid=_grid(grid) if name == "rtstruct" else None)
    elif whole and not _is_large(mutant.path):
        segmented = segment_case(warm.segmenter, mutant.path, scratch / "out", Request(depth="1"))
        return {"array": segmented.labels.array, "affine": segmented.labels.affine}
    else:
        volume = read_volume(mutant.path)
    return {"array": volume.array, "affine": volume.affine}


def _is_large(path: Path) -> bool:
    try:
        return read_volume(path).array.size > SEGMENTED
    except UnetppError:
        return False  # the segmenter is to refuse it


def _read_bundle(warm: Warm, root: Path, *, whole: bool) -> Content:
    bundle, found = read_bundle(root), None
    if whole:
        found = Segmenter(bundle, device="cpu", runtime="eager")(warm.image, depth=1).labels
    network = load_network(bundle, bundle.parser(), torch.device("cpu"))
    if any(value.layout != torch.strided for value in network.state_dict().values()):
        raise SilentError("sparse weights were taken")
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    if not all(np.isfinite(value).all() for value in state.values()):
        raise SilentError("weights that are not finite were taken")
    return state if found is None else {**state, "array": found.array}


class SilentError(Exception):
    """Something wrong was taken in silence; not of the package."""


def _grid(path: Path) -> Volume:
    with np.load(path) as stored:
        return Volume(np.zeros((1, *stored["grid"]), np.uint8), stored["grid_affine"])


def verdict(warm: Warm, name: str, mutant: Mutant, scratch: Path, *, whole: bool) -> Verdict:
    """Read a mutant and say what came of it: verdict, kind, place and message."""
    before = _listing(mutant.path)
    whole = whole and (warm.sound / name / f"{mutant.variant}_whole.npz").exists()
    (scratch / "out").mkdir(exist_ok=True)
    done = False
    try:
        found = read(warm, name, mutant, scratch, whole=whole)
        done = True
        verdict = _judge(warm, name, mutant, found, whole=whole)
    except BaseException as error:  # noqa: BLE001 - a decoder's panic is no Exception, and all are to be counted
        verdict = _judge_error(error)
    if left := _left(scratch, mutant, before, done=done):
        return FAULT, "files left behind", left, verdict[3]
    return verdict


def _judge(warm: Warm, name: str, mutant: Mutant, found: Content, *, whole: bool) -> Verdict:
    reference = warm.sound / name / f"{mutant.variant}{'_whole' * whole}.npz"
    with np.load(reference) as expected:
        if same(found, {key: expected[key] for key in expected.files if not key.startswith("grid")}):
            return EQUAL, EQUAL, "", ""
    if mutant.is_cut and not whole:
        return FAULT, "silent: a file without its end", "", "taken with other content"
    if not whole and "array" in found and _is_outside(found["array"]):
        return FAULT, f"silent: {OUTSIDE} was read", "", "a header named a file outside of the input's folder"
    if why := failing_checksum(name, mutant.path):
        return FAULT, "silent: a checksum fails", "", f"taken with other content, but {why}"
    return OTHER, OTHER, "", ""


def same(one: Content, other: Content) -> bool:
    """Whether two readings hold the same."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def _is_outside(array: np.ndarray) -> bool:
    """Whether the voxels are those of the file that nobody may read."""
    return array.dtype.kind in "iu" and array.size > 1 and set(array.tobytes()) == {0x5A}


def _judge_error(error: BaseException) -> Verdict:
    message = str(error)
    kind, place = type(error).__name__, _place(error)
    if isinstance(error, SilentError):
        return FAULT, f"silent: {message}", "", message
    if isinstance(error, ValueError) and place.startswith("networks/"):
        return NAMED, kind, place, message
    if not isinstance(error, UnetppError):
        return FAULT, kind, place, message[:300]
    if len(message.splitlines()) != 1 or len(message) > LONGEST_MESSAGE:
        shape = f"{len(message.splitlines())} lines, {len(message)} characters"
        return FAULT, "a message that is not one line", place, f"{kind} of {shape}: {message[:200]}"
    return NAMED, kind, place, message


def _place(error: BaseException) -> str:
    """Innermost function of the package in an error's traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
    return f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].name}" if ours else "?"


def _listing(path: Path) -> list[str]:
    folder = path if path.is_dir() else path.parent
    return sorted(str(entry.relative_to(folder)) for entry in folder.rglob("*"))


def _left(scratch: Path, mutant: Mutant, before: list[str], *, done: bool) -> str:
    """Names of files that should not be there."""
    left = [str(path.relative_to(scratch)) for name in ("tmp", "cwd") for path in (scratch / name).rglob("*")]
    results = sorted(path.name for path in (scratch / "out").rglob("*"))
    wrong = [name for name in results if not done or name.startswith(".")]
    new = sorted(set(_listing(mutant.path)) - set(before))
    return ", ".join((*left, *wrong, *new))


def failing_checksum(name: str, path: Path) -> str:
    """Why a checksum within a file fails; nothing if none does."""
    checks: dict[str, Callable[[bytes], None]] = {
        "nifti_gz": lambda data: gzip.decompress(data) and None,
        "nrrd": _check_nrrd,
        "seg.nrrd": _check_nrrd,
        "metaimage": _check_metaimage,
        "png": _check_png,
    }
    try:
        if path.is_dir() and (path / "models" / "model.pt").exists():
            path = path / "models" / "model.pt"
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            return f"{broken} in the zip has another CRC" if broken else ""
        if name in checks and path.is_file():
            checks[name](path.read_bytes())
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        return str(error)
    return ""


def _check_nrrd(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    if b"encoding: gz" in head and b"skip:" not in head and b"ata file" not in head:
        gzip.decompress(body)


def _check_metaimage(data: bytes) -> None:
    head, mark, body = data.partition(b"ElementDataFile = LOCAL\n")
    if mark and b"CompressedData = True" in head and b"HeaderSize" not in head:
        unpacker = zlib.decompressobj()
        unpacker.decompress(body)
        if not unpacker.eof:
            raise EOFError("the compressed data have no end")


def _check_png(data: bytes) -> None:
    place = len(PNG_START)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + length
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"the chunk at {place} has another CRC")
        place = end + 4


def keep_references(warm: Warm, name: str, scratch: Path) -> None:
    """Read the sound variants of a format, and keep what they hold beside them; raises if one cannot be read."""
    for variant in variants(warm.sound / name):
        mutant = Mutant(target(variant), variant.name, "nothing", is_cut=False, size=0)
        beside = warm.sound / name / f"{variant.name}.npz"
        grid = label_phantom((12, 10, SERIES), axial_affine())  # that contours were drawn on
        np.savez(beside, grid=grid.shape, grid_affine=grid.affine)
        kinds = (False,) if FORMATS[name].kind == "labels" else (False, True)
        for whole in kinds:
            results = scratch / re.sub(r"\W", "_", f"{name} {variant.name} {whole}")
            (results / "out").mkdir(parents=True)
            try:
                found = read(warm, name, mutant, results, whole=whole)
            except UnetppError:
                if not whole:
                    raise
                continue  # such as a colour picture, which the tiny network does not take
            path = beside.with_stem(f"{variant.name}{'_whole' * whole}")
            np.savez(path, **found, grid=grid.shape, grid_affine=grid.affine)
