"""Files that appear complete or not at all, and their hashes."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same name; what is written there replaces `path` if the block ends well.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unetpp_") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} must be writable, got {error.strerror or error}; choose another folder") from error


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder; the files written there are moved into `path` if the block ends well.

    Raises:
        OutputError: the folder or files cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path, prefix=".unetpp_") as folder:
            yield Path(folder)
            for file in sorted(Path(folder).iterdir()):
                file.replace(path / file.name)
    except OSError as error:
        raise OutputError(f"{path} must be writable, got {error.strerror or error}; choose another folder") from error


def sha256(path: Path, *, without: Path | None = None) -> str:
    """Hash of a file, hexadecimal; of a folder, the hash of the sorted hashes of the files in it and below.

    Args:
        path: file or folder.
        without: a folder that is left out if it lies below.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        skipped = without if without is not None and path in without.parents else None
        files = [entry for entry in path.rglob("*") if entry.is_file() and skipped not in entry.parents]
        digest.update("".join(sorted(sha256(entry) for entry in files)).encode())
        return digest.hexdigest()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
