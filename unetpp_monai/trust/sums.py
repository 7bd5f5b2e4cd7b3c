"""Verify SHA256SUMS of a bundle. This detects damage, but does not prove origin."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..errors import BundleError
from ..files import sha256
from ..json_files import MAX_BYTES, at, clipped

SUMS = "SHA256SUMS"  # in the format of `sha256sum --check`
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
LISTED = (
    "configs",
    "models",
    "scripts",
    "unetpp_monai",
)  # folders in which every file must be listed; scripts anywhere must be, too
SCRIPT, CACHE = ".py", "__pycache__"
WAY_OUT = f"copy the bundle again, or, if the change is intended, pack it again or remove {SUMS}"


def check_sums(root: Path, *, known: Mapping[str, str], replaced: str | None = None) -> None:
    """Check a bundle's files against its SHA256SUMS, if it has any.

    Args:
        root: of the bundle.
        known: hashes already computed, by name.
        replaced: name of a file that may be missing, as another is used.

    Raises:
        BundleError: a file is altered, or a used file is missing or not listed.
    """
    if not (root / SUMS).is_file():
        return
    listed = _read(root / SUMS)
    for fault in _faults(root, listed, known, replaced):
        raise BundleError(f"{at(root / SUMS)} must match the bundle's files, got {clipped(fault, 120)}; {WAY_OUT}")


def _read(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{at(path)} must be smaller than {MAX_BYTES >> 20} MiB, got more; {WAY_OUT}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BundleError(f"{at(path)} must be text, got {clipped(error, 100)}; {WAY_OUT}") from error
    found: dict[str, str] = {}
    for line in lines:
        parts = LINE.fullmatch(line)
        name = PurePosixPath(parts[2]) if parts else None
        if parts is None or name is None or name.is_absolute() or ".." in name.parts or str(name) in found:
            raise BundleError(
                f"{at(path)} must list files of the bundle, each once, got {clipped(line, 80)!r}; {WAY_OUT}"
            )
        found[str(name)] = parts[1].lower()
    return found


def _faults(root: Path, listed: Mapping[str, str], known: Mapping[str, str], replaced: str | None) -> Iterator[str]:
    for name, digest in listed.items():
        path = root / name
        if not path.is_file():
            if _is_used(name) and name != replaced:
                yield f"{name} missing"
        elif (known.get(name) or _hash(path)) != digest:
            yield f"{name} altered"
    for path in sorted(_used(root)):
        name = path.relative_to(root).as_posix()
        if name not in listed and CACHE not in path.parts and path.is_file():
            yield f"{name} not listed"


def _used(root: Path) -> Iterator[Path]:
    """Yield the files that are used or could be imported; data and results are ignored."""
    for folder in LISTED:
        yield from (root / folder).rglob("*")
    for pattern in (f"*{SCRIPT}", f"*/*{SCRIPT}"):
        yield from (path for path in root.glob(pattern) if path.relative_to(root).parts[0] not in LISTED)


def _is_used(name: str) -> bool:
    return name.split("/")[0] in LISTED or name.endswith(SCRIPT)


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise BundleError(f"{at(path)} must be readable, got {error.strerror}; check the bundle") from error
