"""Files that appear complete or not at all, and their hashes."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from .errors import OutputError

TEMPORARY = ".unetpp_"  # how names of unfinished files and folders begin, beside what they will become


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same name; what is written there replaces `path` if the block ends well.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    with _writable(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder; the files written there are moved into `path` if the block ends well.

    Raises:
        OutputError: the folder or files cannot be written.
    """
    with _writable(path), tempfile.TemporaryDirectory(dir=path, prefix=TEMPORARY) as folder:
        yield Path(folder)
        for file in sorted(Path(folder).iterdir()):
            file.replace(path / file.name)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` in one step if the block ends well.

    Raises:
        OutputError: it cannot be written.
    """
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as outer:
            inner = Path(outer) / path.name
            inner.mkdir()
            yield inner
            if path.exists():
                shutil.rmtree(path)
            inner.replace(path)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} must be writable, got {error.strerror or error}; choose another folder") from error


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that exists becomes so.

    Raises:
        OutputError: it cannot be made, or is another's.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{path} must be a folder of ours, got {error.strerror}; choose another") from error


def sha256(path: Path, *, without: Path | None = None, known: Mapping[Path, str] | None = None) -> str:
    """Hash a file, or a folder by the sorted hashes of the files in it and below.

    Args:
        path: file or folder.
        without: a folder that is left out if it lies below.
        known: hashes of files that were read already, by resolved path; these are not opened again.

    Returns:
        64 hexadecimal digits.
    """
    if path.is_dir():
        skipped = without if without is not None and path in without.parents else None
        entries = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        files = [entry for entry in entries if entry.is_file() and skipped not in entry.parents]
        return hashlib.sha256("".join(sorted(sha256(entry, known=known) for entry in files)).encode()).hexdigest()
    if known and (digest := known.get(path.resolve())):
        return digest
    with path.open("rb") as file:
        return sha256_of(file)


def sha256_of(file: BufferedReader) -> str:
    """Hash a whole open file, and go back to its beginning."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


def make_folder(path: Path) -> None:
    """Make a folder for results, unless it exists.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} must be a folder we can write to, got {error.strerror}; choose another") from error


def check_free(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Check that results do not replace others.

    Args:
        paths: of the results.
        overwrite: whether they may.

    Raises:
        OutputError: one exists.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; choose another place or allow overwriting", option="overwrite")
