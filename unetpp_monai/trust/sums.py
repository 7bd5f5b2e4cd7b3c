"""SHA256SUMS of a bundle: whether its files are those that were packed. It proves damage, not origin."""

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
)  # folders of which every file must be listed; so must scripts elsewhere
SCRIPT, CACHE = ".py", "__pycache__"
WAY_OUT = f"take a whole copy, or, if the change is meant, pack it again or remove {SUMS}"


def check_sums(root: Path, *, known: Mapping[str, str], replaced: str | None = None) -> None:
    """Refuse a bundle whose files are not those of its sums; one without sums is taken.

    Args:
        root: of the bundle.
        known: hashes that were made already, by name.
        replaced: name of a file that need not be there, as another one is used.

    Raises:
        BundleError: a file is altered, or one that is used is missing or not listed.
    """
    if not (root / SUMS).is_file():
        return
    listed = _read(root / SUMS)
    for fault in _faults(root, listed, known, replaced):
        raise BundleError(
            f"{at(root / SUMS)} must list the bundle's files as they are, {clipped(fault, 120)}; {WAY_OUT}"
        )


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
    """What is used, or would be imported from here; data and results may lie there too, as many as they are."""
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
