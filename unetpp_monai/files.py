"""Write files and folders atomically, and hash them."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from .errors import OutputError
from .posix_only import locked

TEMPORARY = ".unetpp_"  # prefix of unfinished files and folders, beside their targets
REPLACED = ".replaced"  # name in such a folder of the one that is being replaced


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` if the block succeeds.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    with _writable(path), temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.replace(path)


@contextmanager
def complete_folder(path: Path, *, last: str = "", check: Callable[[], object] | None = None) -> Iterator[Path]:
    """Yield a temporary folder whose files are moved to `path` if the block succeeds.

    Args:
        path: an existing folder.
        last: name of the file that is moved last and marks completion; see `finish_interrupted`.
        check: called before moving, while no other process moves files to `path`.

    Raises:
        OutputError: the folder or files cannot be written.
    """
    with _writable(path), temporary_folder(path) as folder:
        yield folder
        with locked(path, alone=check is not None):
            if check is not None:
                check()
            _move(folder, path, last)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` if the block succeeds.

    An older one stays until then. If this process is killed while they change places, the next call finishes that.

    Raises:
        OutputError: it cannot be written.
    """
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _finish_change(path)
        with temporary_folder(path.parent) as outer:
            inner = outer / path.name
            inner.mkdir()
            yield inner
            if path.exists():
                path.replace(outer / REPLACED)
            inner.replace(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a locked folder in `path` for the block; other processes do not clean it up."""
    with ExitStack() as stack:
        with locked(path, alone=False):  # until the folder itself is locked
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=path, prefix=TEMPORARY)))
            stack.enter_context(locked(folder, alone=False))
        yield folder


def finish_interrupted(path: Path, *, ending: str) -> None:
    """Move or remove unfinished files of killed processes in `path`.

    Args:
        path: the folder.
        ending: of the name of the file moved last (JSON): if it is complete, so are the others.

    Raises:
        OutputError: files cannot be moved.
    """
    with _writable(path):
        for folder in _unfinished(path):
            for report in [file for file in folder.iterdir() if file.name.endswith(ending) and _is_json(file)]:
                _move(folder, path, report.name)
            shutil.rmtree(folder, ignore_errors=True)


def _unfinished(path: Path) -> Iterator[Path]:
    """Yield the temporary folders of killed processes in `path`, each locked meanwhile."""
    with locked(path, alone=True) as held:
        for folder in sorted(entry for entry in path.glob(f"{TEMPORARY}*") if held and entry.is_dir()):
            with suppress(BlockingIOError), locked(folder, alone=True, wait=False):  # else of a running process
                yield folder


def remove_remains(path: Path, names: Callable[[str], bool]) -> None:
    """Remove temporary folders of killed processes in `path` that hold only entries of these names."""
    with _writable(path):
        for folder in _unfinished(path):
            if all(names(entry.name) for entry in folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)


def _finish_change(path: Path) -> None:
    """Finish for killed processes: give a new folder its place if the old one was taken away; remove remains."""
    for folder in _unfinished(path.parent):
        names = {entry.name for entry in folder.iterdir()}
        if not path.exists() and names >= {REPLACED, path.name}:
            (folder / path.name).replace(path)
        if names and names <= {REPLACED, path.name} and (path.exists() or REPLACED not in names):
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
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} must be writable, got {error.strerror or error}; choose another folder") from error


def private_folder(path: Path) -> None:
    """Make a folder accessible to its owner only, also if it exists.

    Raises:
        OutputError: it cannot be made, or belongs to another user.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{path} must be a folder of ours, got {in_the_way(error)}; choose another") from error


def sha256(path: Path, *, without: Path | None = None, known: Mapping[Path, str] | None = None) -> str:
    """Hash a file, or a folder by the sorted hashes of all its files.

    Args:
        path: file or folder.
        without: a folder that is left out if it lies below.
        known: known hashes by resolved path; these files are not opened.

    Returns:
        64 hexadecimal digits.
    """
    return _digest([path], _files_of([path], without), known)


def facts_of(
    paths: Sequence[Path], *, without: Path | None = None, known: Mapping[Path, str] | None = None
) -> tuple[str, str]:
    """Return `state_of` and a content hash of a folder, a file or files, listing them once.

    The hash of a single file is its `sha256`, otherwise that of all sorted hashes.
    """
    files = _files_of(paths, without)
    return _state(paths, files), _digest(paths, files, known)


def state_of(paths: Sequence[Path], *, without: Path | None = None) -> str:
    """Hash names, sizes and modification times of files, without opening them.

    Args:
        paths: a folder, or files.
        without: a folder that is left out if it lies below.

    Returns:
        64 hexadecimal digits; equal as long as nothing changed.
    """
    return _state(paths, _files_of(paths, without))


def _files_of(paths: Sequence[Path], without: Path | None) -> list[Path]:
    return [file for path in paths for file in (_files_below(path, without) if path.is_dir() else [path])]


def _state(paths: Sequence[Path], files: Iterable[Path]) -> str:
    stats = ((os.path.relpath(file, paths[0].parent).replace(os.sep, "/"), file.stat()) for file in files)
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(paths: Sequence[Path], files: Iterable[Path], known: Mapping[Path, str] | None) -> str:
    digests = sorted(_content(file, known) for file in files)
    alone = len(paths) == 1 and not paths[0].is_dir()
    return digests[0] if alone else hashlib.sha256("".join(digests).encode()).hexdigest()


def _content(path: Path, known: Mapping[Path, str] | None) -> str:
    if known and (digest := known.get(path.resolve())):
        return digest
    with path.open("rb") as file:
        return sha256_of(file)


def _files_below(path: Path, without: Path | None) -> list[Path]:
    skipped = without if without is not None and path in without.parents else None
    entries = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return [entry for entry in entries if entry.is_file() and skipped not in entry.parents]


def sha256_of(file: BufferedReader) -> str:
    """Hash a whole open file, and seek to its start."""
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
        raise OutputError(f"{path} must be a writable folder, got {in_the_way(error)}; choose another") from error


def in_the_way(error: OSError) -> str:
    """Say why a folder could not be made or filled."""
    if isinstance(error, shutil.Error):  # of many files, each with its paths and reason
        return str(error.args[0][0][-1]).partition(": ")[0]
    return "a file" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror or str(error)


@contextmanager
def results_folder(path: Path) -> Iterator[None]:
    """Make a folder for results, and remove it again if none were written.

    Raises:
        OutputError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: results, ours or another process's
            for folder in missing:
                folder.rmdir()


def check_free(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Check that results do not replace others.

    Args:
        paths: of the results.
        overwrite: allow replacing.

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


def is_zip(path: Path) -> bool:
    """Tell whether a path is a file called .zip. Other files, such as weights, may be zips inside."""
    return path.suffix.lower() == ".zip" and path.is_file()
