"""Uploaded files: kept in a temporary folder for the request, and checked before use."""

import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from ..errors import InputError
from ..io.reader import SUFFIXES, ImageFormat, image_format, read_image
from ..words import counted
from .endpoints import is_name
from .submitted_labels import check_label_info

LABEL_SUFFIXES = (*SUFFIXES, ".seg.nrrd", ".bin")
OURS = ("ts", "name", "path", "strategy", "uncertainty", "seg", "Modality", "SeriesInstanceUID", "StudyInstanceUID")
INFO_BYTES = 64 * 1024  # most bytes of a client's JSON


@contextmanager
def received(file: UploadFile, suffixes: Collection[str], *, name: str = "upload") -> Iterator[Path]:
    """Yield an uploaded file under our own name with its suffix, within the block.

    Args:
        file: the upload.
        suffixes: allowed ones.
        name: without suffix.

    Raises:
        InputError: another suffix.
    """
    sent = file.filename or ""
    ending = next((one for one in sorted(suffixes, key=len, reverse=True) if sent.lower().endswith(one)), None)
    if ending is None:
        raise InputError(f"a file must be one of {', '.join(sorted(suffixes))}, got {sent[-80:]!r}")
    with tempfile.TemporaryDirectory(prefix="unetpp_") as folder:
        path = Path(folder) / f"{name}{ending}"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        with _unnamed(path):
            yield path


@contextmanager
def received_all(files: Sequence[UploadFile]) -> Iterator[Path]:
    """Yield the files of a session: a single file, or a folder of several.

    Raises:
        InputError: no file, or invalid or repeated names.
    """
    names = [Path(file.filename or "").name for file in files]
    if not names or not all(is_name(name) for name in names) or len(set(names)) < len(names) or "meta.info" in names:
        raise InputError(f"files of a session must have unique names, got {names[:3]}")
    with tempfile.TemporaryDirectory(prefix="unetpp_") as outer:
        folder = Path(outer) / "series"
        folder.mkdir()
        for file, name in zip(files, names, strict=True):
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(file.file, target)
        path = folder / names[0] if len(names) == 1 else folder
        with _unnamed(path):
            yield path


@contextmanager
def _unnamed(path: Path) -> Iterator[None]:
    """Remove paths of this machine from errors for clients."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace(str(path), "the file"), option=error.option) from error


def stem(file: UploadFile) -> str:
    """Return the name of an uploaded file, without suffix."""
    name = Path(file.filename or "").name
    ending = next((one for one in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def check_image(path: Path, channels: Collection[int], *, dicom: bool) -> None:
    """Check that an image is readable for `unetpp segment`.

    Args:
        path: file, or folder of a series.
        channels: numbers of channels of the served bundles.
        dicom: whether it may be DICOM.

    Raises:
        InputError: unreadable, or not supported by any bundle.
    """
    if not dicom and image_format(path) == ImageFormat.DICOM:
        raise InputError("an image for a folder must match its suffix, got DICOM; send it to an archive")
    found = read_image(path).volume.array.shape[0]
    if found not in channels:
        *fewer, most = sorted(channels)
        allowed = " or ".join([*map(str, fewer), counted(most, "channel")])
        raise InputError(f"an image must have {allowed}, got {found}")


def json_object(text: str, name: str) -> dict[str, Any]:
    """Parse a client's JSON object.

    Args:
        text: JSON; empty: an empty object.
        name: of the field.

    Raises:
        InputError: not a JSON object, or too large.
    """
    if len(text) > INFO_BYTES:
        raise InputError(f"{name} must have at most {INFO_BYTES} bytes, got {len(text)}")
    try:
        found = json.loads(text or "{}")
        if not isinstance(found, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name} must be a JSON object, got {text[:50]!r}") from error
    return found


def noted(text: str, name: str) -> dict[str, Any]:
    """Parse a client's info of an image or label, without keys set only by the server.

    Raises:
        InputError: not a JSON object, or invalid label names.
    """
    info = {key: value for key, value in json_object(text, name).items() if key not in OURS}
    if "label_info" in info:
        check_label_info(info["label_info"])
    return info
