"""Unpack an untrusted bundle: only plain files, only below its folder, up to a limit. Does not need Slicer."""

from __future__ import annotations  # Slicer's Python may be 3.9

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .process import SegmentationError
from .words import _

MAX_BYTES = 2 << 30  # of all files together, unpacked
MAX_FILES = 5000
CHUNK = 1 << 20  # bytes
METADATA = PurePosixPath("configs", "metadata.json")  # present in every bundle


def unpack(archive: Path, target: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a zip with one bundle into a new folder.

    Args:
        archive: the file.
        target: the bundle's folder to be, in one that exists.
        max_bytes: of all files together.

    Raises:
        SegmentationError: it is no such zip; then nothing is left.
    """
    if target.exists():
        raise SegmentationError(_("the bundle must be new, {folder} is there; use or remove it").format(folder=target))
    part = Path(tempfile.mkdtemp(prefix=".unpacking_", dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as found:
            root = _root(found.infolist())
            _write(found, part, max_bytes)
        (part / root).rename(target)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        reason = _("a bundle must be a whole zip without password, got another ({why})")
        raise SegmentationError(reason.format(why=error)) from error
    except OSError as error:
        reason = _("the bundle must be writable to {folder} ({why})")
        raise SegmentationError(reason.format(folder=target.parent, why=error.strerror)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _root(entries: list[zipfile.ZipInfo]) -> PurePosixPath:
    """Check all names, then find the only bundle."""
    if len(entries) > MAX_FILES:
        reason = _("a bundle must have at most {most} files, got {count}")
        raise SegmentationError(reason.format(most=MAX_FILES, count=len(entries)))
    for entry in entries:
        name, kind = PurePosixPath(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not set(entry.filename) & set("\\:\0")
        if name.is_absolute() or ".." in name.parts or not plain:
            reason = _("a bundle must hold plain files below its folder, got {name!r}")
            raise SegmentationError(reason.format(name=entry.filename[:80]))
    names = [PurePosixPath(entry.filename) for entry in entries]
    roots = [name.parents[1] for name in names if name.parts[-2:] == METADATA.parts]
    if len(roots) != 1 or len(roots[0].parts) > 1:
        reason = _("a zip must hold one bundle with {file}, got {count}")
        raise SegmentationError(reason.format(file=METADATA, count=len(roots)))
    return roots[0]


def _write(found: zipfile.ZipFile, part: Path, max_bytes: int) -> None:
    """Write all files, counting actual bytes instead of trusting the stated sizes."""
    left = max_bytes
    for entry in found.infolist():
        if entry.is_dir():
            continue
        path = part / entry.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        with found.open(entry) as source, path.open("xb") as target:
            while chunk := source.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    reason = _("a bundle must have at most {most} MiB unpacked, got more")
                    raise SegmentationError(reason.format(most=max_bytes >> 20))
                target.write(chunk)
