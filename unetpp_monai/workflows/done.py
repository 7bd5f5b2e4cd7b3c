"""Tell whether a case is done, by its report: bundle, config, settings and input must be the same."""

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files import facts_of, sha256, state_of


@dataclass(frozen=True)
class CaseInput:
    """The input of a case, as reports identify it."""

    paths: tuple[Path, ...]  # a folder, or files, the one that names the case first
    output: Path  # folder of results, which is not part of the input even if inside of it
    key: bytes | None = None  # for pseudonyms; None: reports name the input

    def stated(self, known: Mapping[Path, str] | None = None) -> dict[str, str]:
        """Return the entries of a report that identify the input.

        Args:
            known: hashes of files already read, by resolved path.
        """
        paths = tuple(path.resolve() for path in self.paths)
        state, digest = facts_of(paths, without=self.output.resolve(), known=known)
        if self.key is not None:
            return {"input_hmac": hmac.new(self.key, digest.encode(), "sha256").hexdigest()}
        return {"input": str(paths[0]), "input_state": state, "input_sha256": digest}

    def is_that_of(self, report: Mapping[str, Any], *, verify: bool) -> bool:
        """Tell whether a report is about this input, by names, sizes and times of files, else by their hash."""
        paths = tuple(path.resolve() for path in self.paths)
        noted = report.get("input_state") if report.get("input") == str(paths[0]) and not verify else None
        if noted is not None and noted == state_of(paths, without=self.output.resolve()):
            return True
        found = self.stated()
        return all(report.get(key) == found[key] for key in ("input_sha256", "input_hmac") if key in found)


def is_done(
    path: Path, settings: Mapping[str, Any], case_input: CaseInput, names: Iterable[str], *, verify: bool = False
) -> bool:
    """Tell whether all results exist, made from this input with these settings.

    Args:
        path: of the report.
        settings: of `settings_of`.
        case_input: the input.
        names: of all files of the case, in the report's folder.
        verify: hash input and results, instead of comparing sizes and times of the input and names of results.

    Raises:
        OutputError: the results have other settings or another input, or were altered.
    """
    if not path.is_file():
        return False
    report = _read(path)
    if differences := sorted(key for key, value in settings.items() if report.get(key) != value):
        said = ", ".join(f"{key} {_short(report.get(key))} instead of {_short(settings[key])}" for key in differences)
        raise _other(path, f"by other settings: {said}")
    if not case_input.is_that_of(report, verify=verify):
        raise _other(path, "of another input")
    whole = all((path.parent / name).is_file() for name in names)
    if whole and not verify:
        return True
    written = {path.parent / entry["file"]: entry["sha256"] for entry in report["outputs"].values()}
    if altered := [file.name for file, digest in written.items() if file.is_file() and sha256(file) != digest]:
        raise _other(path, f"that were altered since: {', '.join(altered)}")
    return whole


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
