"""Is a case done? Its report says by which bundle, config and settings, and of which input; nothing is computed."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files import sha256, state_of


@dataclass(frozen=True)
class Origin:
    """An input, as reports name it."""

    path: Path  # of the case
    output: Path  # our results in a folder below the case are no part of it
    key: bytes | None = None  # of a pseudonymised case, of which nothing may be known

    def stated(self, known: Mapping[Path, str] | None = None) -> dict[str, str]:
        """What a report says of it, by its keys.

        Args:
            known: hashes of files that were read already, by resolved path.
        """
        digest = sha256(self.path.resolve(), without=self.output.resolve(), known=known)
        if self.key is not None:
            return {"input_hmac": hmac.new(self.key, digest.encode(), "sha256").hexdigest()}
        return {**self._quickly_stated(), "input_sha256": digest}

    def is_that_of(self, report: Mapping[str, Any], *, verify: bool) -> bool:
        """Whether a report speaks of it: of files with these names, sizes and times, or else of these bytes."""
        if self.key is None and not verify and self._quickly_stated().items() <= report.items():
            return True
        found = self.stated()
        return all(report.get(key) == found[key] for key in ("input_sha256", "input_hmac") if key in found)

    def _quickly_stated(self) -> dict[str, str]:
        path = self.path.resolve()
        return {"input": str(path), "input_state": state_of(path, without=self.output.resolve())}


def is_done(path: Path, settings: Mapping[str, Any], origin: Origin, *, verify: bool = False) -> bool:
    """Whether the results are there that a report names, by these settings and of this input.

    Args:
        path: of the report.
        settings: of `settings_of`.
        origin: the input.
        verify: hash input and results, instead of looking at the input's sizes and times and for the results' names.

    Raises:
        OutputError: results by other settings, of another input, or altered since.
    """
    if not path.is_file():
        return False
    report = _read(path)
    if differences := sorted(key for key, value in settings.items() if report.get(key) != value):
        said = ", ".join(f"{key} {_short(report.get(key))} instead of {_short(settings[key])}" for key in differences)
        raise _other(path, f"by other settings: {said}")
    if not origin.is_that_of(report, verify=verify):
        raise _other(path, "of another input")
    written = {entry["file"]: entry["sha256"] for entry in report["outputs"].values()}
    if not all((path.parent / name).is_file() for name in written):
        return False
    if verify and (altered := [name for name, digest in written.items() if sha256(path.parent / name) != digest]):
        raise _other(path, f"that were altered since: {', '.join(altered)}")
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        report = None
    if not isinstance(report, dict) or not isinstance(report.get("outputs"), dict):
        raise _other(path, "without a report that can be read")
    return report


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:12]}..."


def _other(path: Path, what: str) -> OutputError:
    message = f"{path} stands for results {what}; choose another folder or allow overwriting"
    return OutputError(message, option="overwrite")
