"""Read `cases.json`: the files of each case of a task, and its cross-validation fold."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import facts_of
from .reader import files_of_image

Entry = dict[str, Any]  # MONAI's: "image" is a path, or one per channel, "label" a path


def listed_folds(cases_file: str | Path, dataset_dir: str | Path) -> list[list[Entry]]:
    """Read the training cases of each fold.

    Args:
        cases_file: JSON list of objects with `name`, `image` (a path, or one per channel), `label` and `fold`
            (0, 1, ...); paths are relative to `dataset_dir`, or absolute.
        dataset_dir: folder of the data.

    Returns:
        The cases of each fold, with their paths.

    Raises:
        InputError: invalid list, a fold without cases, or missing files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "cases.json")
        ...     case = {"name": "a", "image": "cases.json", "label": "cases.json", "fold": 0}
        ...     written = file.write_text(json.dumps([case]))
        ...     len(listed_folds(file, folder))
        1
    """
    path, root = Path(cases_file), Path(dataset_dir)
    try:
        listed = [_entry(case, root) for case in json.loads(path.read_text())]
        folds: dict[int, list[Entry]] = {}
        for fold, entry in listed:
            folds.setdefault(fold, []).append(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise InputError(
            f"a list of cases must be JSON with name, image, label and fold each, got {reason} in {path}"
        ) from error
    if sorted(folds) != list(range(len(folds))) or not folds:
        raise InputError(f"folds must be 0, 1, ... with cases in each, got {sorted(folds)} in {path}")
    _check_division(json.loads(path.read_text()), path)
    files = [file for _, entry in listed for file in files_of(entry)]
    if lost := [file for file in files if not Path(file).exists()]:
        raise InputError(f"files of {path} must exist, {len(lost)} are missing, such as {lost[0]}; correct dataset_dir")
    return [folds[fold] for fold in sorted(folds)]


def case_names(cases_file: str | Path, dataset_dir: str | Path) -> dict[tuple[str, ...], str]:
    """Map the files of each case, images first, as `listed_folds` returns them, to its name."""
    root, found = Path(dataset_dir), json.loads(Path(cases_file).read_text())
    return {files_of(_entry(case, root)[1]): case["name"] for case in found}


def changed_files(cases_file: str | Path, dataset_dir: str | Path) -> list[str]:
    """List files newer than the list of cases, with another hash than it states."""
    path, root = Path(cases_file), Path(dataset_dir)
    written, changed = path.stat().st_mtime, []
    for case in json.loads(path.read_text()):
        *images, label = files_of(_entry(case, root)[1])
        names = ["image"] if isinstance(case["image"], str) else [f"image_{index}" for index in range(len(images))]
        stated = case.get("sha256", {})
        changed += [
            file
            for name, file in zip([*names, "label"], [*images, label], strict=True)
            if name in stated and _is_other(files_of_image(file), stated[name], written)
        ]
    return changed


def _is_other(files: Sequence[Path], stated: str, written: float) -> bool:
    return max(map(_touched, files)) > written and facts_of(files)[1] != stated


def _touched(path: Path) -> float:
    """Return when a file or its name was last changed; one that was copied with its old time is new here."""
    state = path.stat()
    return max(state.st_mtime, state.st_ctime)


def files_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of a case, images first."""
    return (*_files(entry["image"]), entry["label"])


def _check_division(listed: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse a case in several rows, and a group in several folds."""
    for key, what in (("name", "a case must be listed once"), ("group", "cases of a group must share a fold")):
        found: dict[str, list[int]] = {}
        for case in listed:
            found.setdefault(str(case.get(key, case["name"])), []).append(case["fold"])
        for name, folds in found.items():
            if len(folds if key == "name" else set(folds)) > 1:
                raise InputError(f"{what}, got {name} in the folds {sorted(folds)} of {path}; correct it")


def _entry(case: Mapping[str, Any], root: Path) -> tuple[int, Entry]:
    image, name = case["image"], case["name"]
    if not isinstance(name, str):
        raise ValueError(f"name {name!r}")
    paths = [str(root / part) for part in image] if isinstance(image, list) else str(root / image)
    if not isinstance(case.get("sha256", {}), dict) or image == []:
        raise ValueError(f"no files or hashes of {name}")
    fold = case["fold"]
    if not isinstance(fold, int) or isinstance(fold, bool):
        raise ValueError(f"fold {fold!r} of {case['name']}")
    return fold, {"image": paths, "label": str(root / case["label"])}


def _files(image: str | list[str]) -> list[str]:
    return [image] if isinstance(image, str) else image
