"""List the files of a folder, zip or DICOMDIR."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import CorruptFileError, InputError
from .reading import check_growth, guarded, read_and_hash

MOST_MEMBERS = 100_000  # in a zip


def walk(folder: Path) -> Iterator[Path]:
    """Yield files at any depth, sorted by name, without hidden ones and links to a parent folder."""
    with guarded(folder, "must be readable"):
        entries = sorted(folder.iterdir())
    for path in entries:
        if path.name.startswith(".") or (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            continue
        if path.is_dir():
            yield from walk(path)
        elif path.is_file() or path.is_symlink():  # a broken link may be a missing slice
            yield path


def unzip(archive: Path, folder: Path) -> Iterator[Path]:
    """Unpack to numbered files, so that no archive name can lead outside.

    Args:
        archive: zip.
        folder: empty.

    Raises:
        CorruptFileError: not a readable zip, or one with a password.
        InputError: too many or too large members, checked before unpacking.
    """
    with guarded(archive, "must be a readable zip without password"), zipfile.ZipFile(archive) as unpacked:
        entries = unpacked.infolist()
        if len(entries) > MOST_MEMBERS:
            raise InputError(f"a zip must have at most {MOST_MEMBERS} members, got {len(entries)} in {archive}")
        size = sum(entry.file_size for entry in entries)  # zipfile unpacks no more than stated
        check_growth(archive.stat().st_size, size, str(archive))
        if size > (free := shutil.disk_usage(folder).free):
            raise InputError(f"{archive} needs {size >> 20} MiB to be unpacked, got {free >> 20} MiB free in {folder}")
        for number, entry in enumerate(entries):
            name = entry.filename.replace("\\", "/").rsplit("/", 1)[-1]
            if entry.is_dir() or name.startswith("."):
                continue
            target = folder / str(number) / (name or "unnamed")
            target.parent.mkdir()
            with unpacked.open(entry) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
            yield target


def listed_in(directory: Path, sha256: dict[Path, str]) -> Iterator[Path]:
    """Yield the files listed in a DICOMDIR, also if their names are in lower case.

    Args:
        directory: the DICOMDIR.
        sha256: gets its hash, by resolved path.

    Raises:
        CorruptFileError: damaged, or a file is missing.
        InputError: a name leads outside the folder.
    """
    content, sha256[directory.resolve()] = read_and_hash(directory)
    home = directory.parent.resolve()
    with guarded(directory, "is not a readable DICOMDIR"):
        names = [record.get("ReferencedFileID") for record in content.get("DirectoryRecordSequence", [])]
        files = [(name,) if isinstance(name, str) else tuple(map(str, name)) for name in names if name]
    for parts in files:
        candidates = [home.joinpath(*parts), home.joinpath(*(part.lower() for part in parts))]
        if not all(path.resolve().is_relative_to(home) for path in candidates):
            raise InputError(f"{directory} must list files in its own folder, got {'/'.join(parts)}")
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise CorruptFileError(f"{directory} lists {'/'.join(parts)}, which is missing; copy the medium again")
        yield found
