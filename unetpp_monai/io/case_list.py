"""The cases of a task as `cases.json` lists them: which files belong together, and in which fold each case is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

Entry = dict[str, Any]  # MONAI's: "image" is a path, or one per channel, "label" a path


def listed_folds(cases_file: str | Path, dataset_dir: str | Path) -> list[list[Entry]]:
    """Read the folds of a list of cases, for training.

    Args:
        cases_file: JSON, a list of objects with `name`, `image` (a path, or one per channel), `label` and `fold`
            (0, 1, ...); paths are relative to `dataset_dir`, or absolute.
        dataset_dir: folder of the data.

    Returns:
        For each fold its cases, with paths.

    Raises:
        InputError: not such a list, a fold without cases, or a file is missing; all missing ones are counted.
    """
    path, root = Path(cases_file), Path(dataset_dir)
    try:
        listed = [_entry(case, root) for case in json.loads(path.read_text())]
        folds: dict[int, list[Entry]] = {}
        for fold, entry in listed:
            folds.setdefault(fold, []).append(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise InputError(
            f"a list of cases must be JSON with name, image, label and fold each, got {reason} in {path}"
        ) from error
    if sorted(folds) != list(range(len(folds))) or not folds:
        raise InputError(f"folds must be 0, 1, ... with cases in each, got {sorted(folds)} in {path}")
    files = [file for _, entry in listed for file in (*_files(entry["image"]), entry["label"])]
    if lost := [file for file in files if not Path(file).exists()]:
        raise InputError(f"files of {path} must exist, {len(lost)} lack, such as {lost[0]}; correct dataset_dir")
    return [folds[fold] for fold in sorted(folds)]


def case_names(cases_file: str | Path, dataset_dir: str | Path) -> dict[str, str]:
    """Names that a list of cases gives, by the label's path as `listed_folds` returns it."""
    return {str(Path(dataset_dir) / case["label"]): case["name"] for case in json.loads(Path(cases_file).read_text())}


def _entry(case: Mapping[str, Any], root: Path) -> tuple[int, Entry]:
    image = case["image"]
    paths = [str(root / part) for part in image] if isinstance(image, list) else str(root / image)
    fold = case["fold"]
    if not isinstance(fold, int) or isinstance(fold, bool):
        raise ValueError(f"fold {fold!r} of {case['name']}")
    return fold, {"image": paths, "label": str(root / case["label"])}


def _files(image: str | list[str]) -> list[str]:
    return [image] if isinstance(image, str) else image
