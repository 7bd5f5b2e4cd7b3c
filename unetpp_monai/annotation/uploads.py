"""Files that clients send: kept in a folder that goes with the request, and read before anything is done with them."""

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
from .endpoints import is_name
from .submitted_labels import check_label_info

LABEL_SUFFIXES = (*SUFFIXES, ".seg.nrrd", ".bin")
OURS = ("ts", "name", "path", "strategy", "uncertainty", "seg", "Modality", "SeriesInstanceUID", "StudyInstanceUID")
INFO_BYTES = 64 * 1024  # of a JSON text that clients attach


@contextmanager
def received(file: UploadFile, suffixes: Collection[str], *, name: str = "upload") -> Iterator[Path]:
    """Give a file that was sent, by a name of ours and with its ending, as long as the block lasts.

    Args:
        file: as it was sent.
        suffixes: endings that it may have.
        name: without ending.

    Raises:
        InputError: another ending.
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
    """Give the files of a session: one by itself, several in a folder.

    Raises:
        InputError: none, or names that are none or occur twice.
    """
    names = [Path(file.filename or "").name for file in files]
    if not names or not all(is_name(name) for name in names) or len(set(names)) < len(names) or "meta.info" in names:
        raise InputError(f"files of a session must have names of their own, got {names[:3]}")
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
    """Keep paths of this machine out of what a client reads of its file."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace(str(path), "the file"), option=error.option) from error


def stem(file: UploadFile) -> str:
    """Name of a file that was sent, without ending."""
    name = Path(file.filename or "").name
    ending = next((one for one in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def check_image(path: Path, channels: Collection[int], *, dicom: bool) -> None:
    """Read an image as `unetpp segment` does.

    Args:
        path: file, or folder of a series.
        channels: numbers of channels that the served bundles take.
        dicom: whether it may be DICOM.

    Raises:
        InputError: it cannot be read, or no bundle takes it.
    """
    if not dicom and image_format(path) == ImageFormat.DICOM:
        raise InputError("an image of a folder must be a file of its ending, got DICOM; send it to an archive")
    found = read_image(path).volume.array.shape[0]
    if found not in channels:
        raise InputError(f"an image must have {' or '.join(map(str, sorted(channels)))} channel(s), got {found}")


def json_object(text: str, name: str) -> dict[str, Any]:
    """Parse a JSON object that clients attach.

    Args:
        text: JSON; empty: an empty one.
        name: of the field.

    Raises:
        InputError: it is none, or too large.
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
    """Parse what clients note of an image or a label, less what only the server notes.

    Raises:
        InputError: no JSON object, or what names labels names none.
    """
    info = {key: value for key, value in json_object(text, name).items() if key not in OURS}
    if "label_info" in info:
        check_label_info(info["label_info"])
    return info
