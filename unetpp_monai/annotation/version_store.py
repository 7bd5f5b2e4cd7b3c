"""Versions of a bundle's weights, kept as files beside them: publish, list, roll back. Knows no server.

`models/model.pt` is what is served; `versions/N/` holds `model.pt` and `version.json` of version N and never changes.
Which version is served follows from the file's hash, so that there is no second record that could disagree with it.
Every change is one rename: a process killed at any moment leaves the old or the new one.
"""

import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..bundle import CONFIG, METADATA, WEIGHTS, default_bundle
from ..errors import BundleError, OutputError
from ..files import TEMPORARY, complete_file, sha256
from ..trust import SUMS

VERSIONS = "versions"
MODEL, RECORD = "model.pt", "version.json"
SCHEMA = 1  # of the record; 0: written before records named theirs (up to 0.5.2), with the same keys
STALE_SECONDS = 3600  # what is unfinished for longer was left by a killed process


@dataclass(frozen=True)
class Origin:
    """Where a version's weights come from."""

    reason: str  # "found" (was there already) or "trained"
    dice_before: float | None = None  # mean validation Dice of the parent, 0 ... 1
    dice_after: float | None = None  # mean validation Dice of this version on the same cases, 0 ... 1
    validation_cases: int = 0  # how many cases both were measured on
    training_cases: tuple[str, ...] = ()  # hashes of the names of the cases that it was trained on, sorted
    epochs: int = 0  # trained epochs up to these weights


@dataclass(frozen=True)
class Version:
    """One version of a bundle's weights."""

    number: int  # 1, 2, ... in the order of publication
    date: str  # ISO 8601, UTC
    parent: int | None  # number of the version that was served before it; None: the first
    weights_sha256: str  # hexadecimal
    origin: Origin  # how it was made
    weights: Path  # file that never changes


def copy_bundle(source: Path, target: Path) -> Path:
    """Copy a bundle to a folder in which its weights may change; an existing copy is not changed.

    Args:
        source: bundle folder, such as the installed package's own.
        target: folder of the copy; appears complete or not at all.

    Returns:
        `target`.

    Raises:
        BundleError: `source` is no bundle.
        OutputError: the copy cannot be written.
    """
    if (target / METADATA).is_file():
        return target
    for part in (METADATA, CONFIG, WEIGHTS):
        if not (source / part).is_file():
            raise BundleError(f"a bundle must hold {part}, found none in {source}; name another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=TEMPORARY) as folder:
            copy = Path(folder) / target.name
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(VERSIONS, SUMS, "eval", "training", ".*"))
            copy.replace(target)
    except OSError as error:
        raise OutputError(f"{target} must be writable, got {error.strerror or error}; choose another folder") from error
    return target


class VersionStore:
    """Versions of the weights of one bundle folder.

    Args:
        root: folder of a copied bundle (`copy_bundle`).

    Raises:
        BundleError: no weights there, or it is the bundle of the installed package, which must stay as it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.served_weights = self.root / WEIGHTS
        self.folder = self.root / VERSIONS
        if not self.served_weights.is_file():
            raise BundleError(f"a bundle must hold {WEIGHTS}, found none in {root}; copy a bundle there")
        if self.root == default_bundle().resolve():
            raise BundleError(f"versions belong beside a copy of a bundle, got the package's own, {root}; copy it")

    def versions(self) -> tuple[Version, ...]:
        """All versions by number; empty as long as nothing was published."""
        records = self.folder.glob(f"[0-9]*/{RECORD}")
        return tuple(sorted((_read(record) for record in records), key=lambda version: version.number))

    def served(self) -> Version:
        """The version of `models/model.pt`; weights that belong to none become one."""
        digest = sha256(self.served_weights)
        known = [version for version in self.versions() if version.weights_sha256 == digest]
        return known[-1] if known else self._keep(self.served_weights, Origin("found"), None)

    def publish(self, weights: Path, origin: Origin) -> Version:
        """Serve new weights under a new version; the old ones stay.

        Args:
            weights: file to copy.
            origin: where they come from.

        Returns:
            The new version, which is served when this returns.

        Raises:
            OutputError: nothing can be written there.
        """
        version = self._keep(weights, origin, self.served().number)
        self._serve(version)
        return version

    def rollback(self, number: int | None = None) -> Version:
        """Serve an older version again; none is removed.

        Args:
            number: of the version to serve; None: the parent of the one that is served.

        Returns:
            The version that is served now.

        Raises:
            BundleError: no such version, or its file was changed.
            OutputError: the weights cannot be written.
        """
        served = self.served()
        wanted = served.parent if number is None else number
        found = {version.number: version for version in self.versions()}
        if wanted is None or wanted not in found:
            what = f"one before version {served.number}" if wanted is None else f"version {wanted}"
            raise BundleError(f"a version must be one of {sorted(found)}, got {what}; list them first")
        if sha256(found[wanted].weights) != found[wanted].weights_sha256:
            raise BundleError(f"{found[wanted].weights} must be as it was published, got another hash; take another")
        self._serve(found[wanted])
        return found[wanted]

    def _serve(self, version: Version) -> None:
        with complete_file(self.served_weights) as temporary:
            _copy(version.weights, temporary)

    def _keep(self, weights: Path, origin: Origin, parent: int | None) -> Version:
        """Write a folder under the next free number."""
        try:
            self.folder.mkdir(exist_ok=True)
            _remove_stale(self.folder)
            _remove_stale(self.served_weights.parent)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=TEMPORARY) as folder:
                new = Path(folder) / "version"
                new.mkdir()
                _copy(weights, new / MODEL)
                record = {
                    "schema": SCHEMA,
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "parent": parent,
                    "weights_sha256": sha256(new / MODEL),
                    "origin": asdict(origin),
                }
                (new / RECORD).write_text(json.dumps(record, indent=2))
                return _read(self._claim(new) / RECORD)
        except OSError as error:
            message = f"{self.folder} must be writable, got {error.strerror or error}; check the disk"
            raise OutputError(message) from error

    def _claim(self, new: Path) -> Path:
        """Rename a complete folder to the next number, which another process may take at the same time."""
        number = 1 + max((int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()), default=0)
        while True:
            try:
                return new.rename(self.folder / str(number))
            except OSError:
                if not (self.folder / str(number)).exists():
                    raise
                number += 1


def _read(record: Path) -> Version:
    try:
        values = json.loads(record.read_text())
        if (schema := values.get("schema", 0)) not in range(SCHEMA + 1):
            raise BundleError(
                f"a version's record must have a schema up to {SCHEMA}, got {schema} in {record}; update unetpp_monai"
            )
        origin = values["origin"]
        origin["training_cases"] = tuple(origin["training_cases"])
        return Version(
            number=int(record.parent.name),
            date=values["date"],
            parent=values["parent"],
            weights_sha256=values["weights_sha256"],
            origin=Origin(**origin),
            weights=record.parent / MODEL,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{record} must be as it was published, got {error!r}; remove its folder") from error


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that it is on the disk before it gets its name."""
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
