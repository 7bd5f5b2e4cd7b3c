"""Versions of a bundle's weights as files: publish, list, roll back. Independent of the server.

`models/model.pt` is served; `versions/N/` has `model.pt` and `version.json` of version N and never changes. The served
version is identified by the file's hash, without a second record that could be inconsistent. Every change is one
rename: a process killed at any moment leaves the old or the new version.
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
SCHEMA = 1  # of the record; 0: without schema (up to 0.5.2), with the same keys
STALE_SECONDS = 3600  # after which unfinished files count as left by a killed process


@dataclass(frozen=True)
class WeightsOrigin:
    """How a version's weights were made."""

    reason: str  # "found" (existed before) or "trained"
    dice_before: float | None = None  # mean validation Dice of the parent, 0 to 1
    dice_after: float | None = None  # mean validation Dice of this version on the same cases, 0 to 1
    validation_cases: int = 0  # number of validation cases
    training_cases: tuple[str, ...] = ()  # hashes of names of training cases, sorted
    epochs: int = 0  # trained epochs


@dataclass(frozen=True)
class Version:
    """One version of a bundle's weights."""

    number: int  # 1, 2, ... in the order of publication
    date: str  # ISO 8601, UTC
    parent: int | None  # number of the version served before; None: the first
    weights_sha256: str  # hexadecimal
    origin: WeightsOrigin  # how it was made
    weights: Path  # file that never changes


def copy_bundle(source: Path, target: Path) -> Path:
    """Copy a bundle to a folder where its weights may change; an existing copy is kept.

    Args:
        source: bundle folder, such as the installed package's own.
        target: folder of the copy; written atomically.

    Returns:
        `target`.

    Raises:
        BundleError: `source` is not a bundle.
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
        BundleError: no weights, or it is the installed package's bundle, which must not change.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.served_weights = self.root / WEIGHTS
        self.folder = self.root / VERSIONS
        if not self.served_weights.is_file():
            raise BundleError(f"a bundle must hold {WEIGHTS}, found none in {root}; copy a bundle there")
        if self.root == default_bundle().resolve():
            raise BundleError(f"versions need a copy of a bundle, got the package's own, {root}; copy it")

    def versions(self) -> tuple[Version, ...]:
        """Return all versions by number; empty before the first."""
        records = self.folder.glob(f"[0-9]*/{RECORD}")
        return tuple(sorted((_read(record) for record in records), key=lambda version: version.number))

    def served(self) -> Version:
        """Return the version of `models/model.pt`; unknown weights become a new version."""
        digest = sha256(self.served_weights)
        known = [version for version in self.versions() if version.weights_sha256 == digest]
        return known[-1] if known else self._keep(self.served_weights, WeightsOrigin("found"), None)

    def publish(self, weights: Path, origin: WeightsOrigin) -> Version:
        """Serve new weights as a new version; old versions are kept.

        Args:
            weights: file to copy.
            origin: how they were made.

        Returns:
            The new version, now served.

        Raises:
            OutputError: the folder is not writable.
        """
        version = self._keep(weights, origin, self.served().number)
        self._serve(version)
        return version

    def rollback(self, number: int | None = None) -> Version:
        """Serve an older version again; no version is removed.

        Args:
            number: of the version to serve; None: the parent of the served one.

        Returns:
            The version now served.

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
            raise BundleError(f"{found[wanted].weights} must be unchanged, got another hash; choose another version")
        self._serve(found[wanted])
        return found[wanted]

    def _serve(self, version: Version) -> None:
        with complete_file(self.served_weights) as temporary:
            _copy(version.weights, temporary)

    def _keep(self, weights: Path, origin: WeightsOrigin, parent: int | None) -> Version:
        """Write a version with the next free number."""
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
        """Rename a complete folder to the next number; another process may take it at the same time."""
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
            origin=WeightsOrigin(**origin),
            weights=record.parent / MODEL,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{record} must be a valid record, got {error!r}; remove its folder") from error


def _copy(source: Path, target: Path) -> None:
    """Copy a file and flush it to disk before renaming."""
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())


def _remove_stale(folder: Path) -> None:
    """Remove unfinished files of killed processes."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # just finished by another process
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
