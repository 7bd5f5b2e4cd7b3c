"""Files that appear complete or not at all, and their hashes."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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
def complete_folder(path: Path, *, last: str = "", check: Callable[[], object] | None = None) -> Iterator[Path]:
    """Give a temporary folder; the files written there are moved into `path` if the block ends well.

    Args:
        path: an existing folder.
        last: name of the file that is moved last, so that it stands for all of them; see `finish_interrupted`.
        check: called before files are moved, while no other process moves any into `path`.

    Raises:
        OutputError: the folder or files cannot be written.
    """
    with _writable(path), ExitStack() as stack:
        with _locked(path):  # so that no other process takes the folder for one that was left
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=path, prefix=TEMPORARY)))
            stack.enter_context(_locked(folder))
        yield folder
        with _locked(path):
            if check is not None:
                check()
            _move(folder, path, last)


def finish_interrupted(path: Path, *, ending: str) -> None:
    """Move or remove what `complete_folder` left in `path` when its process was killed.

    Args:
        path: the folder.
        ending: of the name of the file that is moved last, JSON: where it is whole, all files beside it are.

    Raises:
        OutputError: files cannot be moved.
    """
    with _writable(path), _locked(path):
        for folder in sorted(entry for entry in path.glob(f"{TEMPORARY}*") if entry.is_dir()):
            with suppress(BlockingIOError), _locked(folder, wait=False):  # one that is locked is of a living process
                for report in [file for file in folder.iterdir() if file.name.endswith(ending) and _is_json(file)]:
                    _move(folder, path, report.name)
                shutil.rmtree(folder, ignore_errors=True)


def _move(source: Path, target: Path, last: str) -> None:
    for file in sorted(source.iterdir(), key=lambda file: (file.name == last, file.name)):
        file.replace(target / file.name)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a folder, which ends with this process however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


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
        files = _files_below(path, without)
        return hashlib.sha256("".join(sorted(sha256(entry, known=known) for entry in files)).encode()).hexdigest()
    if known and (digest := known.get(path.resolve())):
        return digest
    with path.open("rb") as file:
        return sha256_of(file)


def state_of(path: Path, *, without: Path | None = None) -> str:
    """Hash the names, sizes and times of modification of a file, or of all files in a folder; none is opened.

    Args:
        path: file or folder.
        without: a folder that is left out if it lies below.

    Returns:
        64 hexadecimal digits; the same again as long as nothing was changed.
    """
    files = _files_below(path, without) if path.is_dir() else [path]
    stats = ((file.relative_to(path.parent).as_posix(), file.stat()) for file in files)
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _files_below(path: Path, without: Path | None) -> list[Path]:
    skipped = without if without is not None and path in without.parents else None
    entries = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return [entry for entry in entries if entry.is_file() and skipped not in entry.parents]


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
        try:
            found = path.exists()
        except OSError as error:  # such as a name that is too long
            raise OutputError(f"{path} must be a file that can be written, got {error.strerror}") from error
        if found and not overwrite:
            raise OutputError(f"{path} exists; choose another place or allow overwriting", option="overwrite")
