"""A finished fold on the whole images of its held-out cases, at their own grid, at every depth."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import Bundle, read_bundle, write_bundle
from ..errors import InputError
from ..files import complete_file
from ..label_rules import is_number, is_whole
from ..pieces import largest_component
from ..segmenter import Segmenter
from ..task import LOCAL, TRAINED, Task, check_task
from ..volume import Volume
from .evaluate import CaseMetrics, compare_case
from .held_out import HeldOut, Reading, held_out_cases

VALIDATION = "validation.json"  # in a fold's folder, beside its weights
SCHEMA = 1
TOLERANCE = 1.0  # of surface Dice, mm or pixels, as `evaluate` has it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """What `validation.json` says."""

    fold: int
    unit: str  # of lengths: "mm" or "px"
    labels: Mapping[int, str]
    weights: str  # sha256 of the fold's weights
    config: str  # sha256 of the inference.json that the task's values make
    depths: Mapping[int, tuple[CaseMetrics, ...]]  # rows by case, then label
    largest_component: Mapping[int, tuple[CaseMetrics, ...]]  # the same if only a label's largest piece is kept; or {}
    seconds: Mapping[int, float]  # depth -> mean of a case


def validate_run(
    task: str | Path | Task,
    run_folder: str | Path,
    *,
    fold: int,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Path:
    """Segment the held-out cases of a fold as `unetpp segment` does, and compare them as `unetpp evaluate` does.

    Nothing is done if the folder has the validation of these weights already.

    Args:
        task: folder or name.
        run_folder: with the fold's `model.pt`.
        fold: 0, 1, ...
        overrides: values of the run, which come before those of the task.
        device: to segment on.

    Returns:
        The file `validation.json` in the run's folder.

    Raises:
        InputError: the fold has no cases, or one cannot be read.
    """
    found = task if isinstance(task, Task) else check_task(task)
    stated = replace(found, values={**found.values, **(overrides or {})})
    folder = Path(run_folder)
    with fold_bundle(stated, folder / TRAINED) as bundle:
        path = folder / VALIDATION
        if _is_of(path, bundle):
            return path
        cases = held_out_cases(stated, fold)
        if not cases:
            raise InputError(f"a fold must have cases to validate, got none for fold {fold} of {found.name}")
        measured = _measure(bundle, cases, reading_of(stated, bundle), device)
        with complete_file(path) as temporary:
            head = {"schema": SCHEMA, "task": found.name, "fold": fold}
            temporary.write_text(json.dumps({**head, **measured}, indent=1) + "\n")
    return path


def read_validation(path: Path) -> Validation:
    """Read `validation.json`.

    Raises:
        InputError: it cannot be read, or is of another version.
    """
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise InputError(f"{path} must be of version {SCHEMA}, got {content['schema']}; remove it and train again")
        kinds = {
            key: {int(depth): tuple(CaseMetrics(**row) for row in rows) for depth, rows in content[key].items()}
            for key in ("depths", "largest_component")
        }
        if not is_whole(content["fold"]) or content["unit"] not in ("mm", "px"):
            raise ValueError(f"fold {content['fold']!r} and unit {content['unit']!r}")
        _check_rows(kinds, list(content["labels"].values()), content["seconds"])
        return Validation(
            fold=content["fold"],
            unit=content["unit"],
            labels={int(index): name for index, name in content["labels"].items()},
            weights=content["weights"],
            config=content["config"],
            depths=kinds["depths"],
            largest_component=kinds["largest_component"],
            seconds={int(depth): value for depth, value in content["seconds"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must be a validation that train wrote, got {error!r}; remove it") from error


def _check_rows(
    kinds: Mapping[str, Mapping[int, Sequence[CaseMetrics]]], labels: list[str], seconds: Mapping[str, float]
) -> None:
    """Check that every depth has a number for the same cases and labels.

    Raises:
        ValueError: it has not.
    """
    tables = [rows for depths in kinds.values() for rows in depths.values()]
    first = [(row.case, row.label) for row in tables[0]] if tables else []
    cases = list(dict.fromkeys(case for case, _ in first))
    if not first or first != [(case, label) for case in cases for label in labels]:
        raise ValueError(f"rows of other cases or labels than {labels}")
    if any([(row.case, row.label) for row in rows] != first for rows in tables) or not all(
        isinstance(case, str) for case in cases
    ):
        raise ValueError("rows that differ between depths")
    if kinds["largest_component"].keys() not in (kinds["depths"].keys(), set()):
        raise ValueError("depths without largest_component")
    numbers = [seconds[str(depth)] for depth in kinds["depths"]]
    for row in (row for rows in tables for row in rows):
        numbers += [row.dice, row.iou, row.surface_dice, row.volume_error]
        numbers += [value for value in (row.hd95, row.volume_error_percent) if value is not None]
    if wrong := [value for value in numbers if not is_number(value)]:
        raise ValueError(f"{wrong[0]!r}, which is no number")


@contextmanager
def fold_bundle(task: Task, weights: Path) -> Iterator[Bundle]:
    """Give a bundle of the task's values with a fold's weights, for as long as the block lasts."""
    plain = {key: value for key, value in task.values.items() if key not in LOCAL}
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(replace(task, values=plain), Path(folder) / "bundle", weights=weights)
        yield read_bundle(Path(folder) / "bundle")


def reading_of(task: Task, bundle: Bundle) -> Reading:
    """How cases of a task are read."""
    names = {label.index: label.name for label in bundle.labels}
    return Reading(names, tuple(task.values.get("label_values", ())), task.values.get("series") or None)


def _is_of(path: Path, bundle: Bundle) -> bool:
    if not path.is_file():
        return False
    try:
        noted = read_validation(path)
    except InputError:  # of another version, or cut: made again
        return False
    return (noted.weights, noted.config) == (bundle.weights_sha256, bundle.config_sha256)


def _measure(bundle: Bundle, cases: Sequence[HeldOut], reading: Reading, device: str) -> dict[str, Any]:
    """Everything of `validation.json` that is measured."""
    segmenter = Segmenter(bundle, device=device, volumes=len(cases))
    unit = "px" if cases[0].picture else "mm"
    rows: dict[int, list[dict[str, Any]]] = {depth: [] for depth in segmenter.depths}
    largest: dict[int, list[dict[str, Any]]] = {depth: [] for depth in segmenter.depths if unit == "mm"}
    seconds = dict.fromkeys(segmenter.depths, 0.0)
    for number, case in enumerate(cases, 1):
        image, reference = reading.read(case)
        for depth in segmenter.depths:
            result = segmenter(image, depth=depth)
            seconds[depth] += sum(result.seconds.values()) / len(cases)
            compare = partial(compare_case, case.name, reference=reference, tolerance=TOLERANCE, unit=unit)
            found = compare(result.labels, labels=reading.names)
            rows[depth] += map(asdict, found)
            if unit == "mm":
                largest[depth] += map(asdict, _kept(result.labels, found, reading.names, compare))
        logger.info("validation %d/%d", number, len(cases))
    for depth, found_rows in rows.items():
        logger.info("validation depth %d: mean Dice %.4f", depth, np.mean([row["dice"] for row in found_rows]))
    return {
        "unit": unit,
        "labels": {str(index): name for index, name in reading.names.items()},
        "weights": bundle.weights_sha256,
        "config": bundle.config_sha256,
        "depths": rows,
        "largest_component": largest,
        "seconds": {str(depth): round(value, 4) for depth, value in seconds.items()},
    }


def _kept(
    labels: Volume, rows: Sequence[CaseMetrics], names: Mapping[int, str], compare: Callable[..., list[CaseMetrics]]
) -> Iterator[CaseMetrics]:
    """Rows of a label map `(1, X, Y, Z)` if only the largest piece of each label is kept."""
    for row, (index, name) in zip(rows, names.items(), strict=True):
        mask = labels.array == index
        piece = largest_component(mask[0]).numpy()[None]
        if np.array_equal(mask, piece):
            yield row
        else:
            yield from compare(Volume(piece * np.uint8(index), labels.affine), labels={index: name})
