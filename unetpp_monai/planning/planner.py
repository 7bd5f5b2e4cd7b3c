"""Write a task folder for a checked data set: its values, each with a reason."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dicom.vocabulary import proposed_code
from ..durations import seconds_of
from ..errors import InputError, OutputError
from ..files import complete_folder, whole_folder
from ..json_files import is_text
from ..task import DESCRIPTION, VALUES, check_task
from ..words import counted
from .budget import memory_budget, stated_gib
from .checking import Checked
from .dataset import ERROR
from .decision import Choices
from .decisions import Decided, decide
from .describe import cases_list, fingerprint, label_names, metadata
from .intensity import check_words

DIMS = 3  # of a stated spacing
CASES, FINGERPRINT, REPORT = "cases.json", "fingerprint.json", "plan.md"


@dataclass(frozen=True)
class Options:
    """The user's choices; empty or 0: chosen by the plan."""

    modality: str = ""  # one word for all channels, or one per channel with commas
    memory: str = "auto"  # or an amount such as 8GiB
    time: str = ""  # of a training, such as 2h
    spacing: tuple[float, ...] = ()  # mm, right, anterior, superior
    folds: int = 0
    interactive: bool = False  # a network with prompts


def plan(checked: Checked, output: str | Path, *, options: Options | None = None, overwrite: bool = False) -> Decided:
    """Write the task folder: all files or none.

    Args:
        checked: from `check`, without errors.
        output: folder for `task.json`, `metadata.json`, `cases.json`, `fingerprint.json` and `plan.md`; deterministic.
        options: the user's choices.
        overwrite: replace these files in an existing folder; other files are kept.

    Raises:
        InputError: the data set has errors, or options do not fit it.
        OutputError: the folder exists or is not writable.
    """
    options = options or Options()
    folder = Path(output)
    if checked.errors:
        first = next(fault for fault in checked.faults if fault.kind == ERROR)
        raise InputError(
            f"a data set must have no errors, got {checked.errors}, the first {_where(first.case)}{first.what}"
        )
    check_folder(folder, overwrite=overwrite)
    check_options(options)
    budget = memory_budget(options.memory)
    choices = Choices(
        budget, options.modality, options.spacing, options.folds, options.time, interactive=options.interactive
    )
    decided = decide(checked, choices)
    name = folder.resolve().name
    values = {"dataset_dir": str(checked.dataset.root.resolve()), **decided.values}
    files = {
        CASES: _json(cases_list(checked, decided)),
        FINGERPRINT: _json(fingerprint(checked)),
        DESCRIPTION: _json(metadata(checked, decided, name)),
        REPORT: "\n".join(_report(checked, decided, options, name)) + "\n",
        VALUES: _json(values),
    }
    with complete_folder(folder, last=VALUES) if folder.is_dir() else whole_folder(folder) as temporary:
        for file, text in files.items():
            (temporary / file).write_text(text, encoding="utf-8")
        check_task(temporary)
    return decided


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a folder is missing or empty, and that a task can have its name.

    Raises:
        OutputError: not empty, or not a folder.
    """
    if not is_text(str(folder)):
        raise OutputError(
            f"a task's folder must be UTF-8 without control characters, got {str(folder)!r}; choose another place"
        )
    try:
        if folder.is_dir() and not overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder} exists; choose another place or allow overwriting", option="overwrite")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"a task must be a folder, got the file {folder}; choose another place")
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{folder} must be a writable folder, got {error.strerror}; choose another place") from error


def check_options(options: Options) -> None:
    """Check what can be checked without data.

    Raises:
        InputError: an invalid option.
    """
    if options.time:
        seconds_of(options.time)
    if options.memory.lower() != "auto":
        stated_gib(options.memory)
    check_words(options.modality)
    if options.spacing and not (len(options.spacing) == DIMS and all(0 < mm < math.inf for mm in options.spacing)):
        raise InputError(f"spacing must be 3 numbers > 0 (mm), got {options.spacing}", option="spacing")
    if options.folds < 0 or options.folds == 1:
        raise InputError(f"folds must be 2 or more, or 0: as many as fit, got {options.folds}", option="folds")


def _json(content: Any) -> str:
    """Format JSON with one entry per line, for editing."""
    if isinstance(content, Mapping) and not any(isinstance(value, Mapping) for value in content.values()):
        lines = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"
    if isinstance(content, list):
        return "[\n" + ",\n".join(f"    {json.dumps(value, ensure_ascii=False)}" for value in content) + "\n]\n"
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _report(checked: Checked, decided: Decided, options: Options, name: str) -> Iterator[str]:
    dataset = checked.dataset
    yield f"# Plan of {dataset.name or name}\n"
    yield f"{summary(checked)}\n"
    yield "| key | value | rule | from | other value |\n|---|---|---|---|---|"
    for decision in decided.decisions:
        value = json.dumps(decision.value)
        cells = (f"`{decision.key}`", f"`{value}`", decision.rule, decision.inputs, decision.override)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield "\nRanges of the images and labels (`plausible`) are in metadata.json, measurements of every case in"
    yield f"{FINGERPRINT}, the folds in {CASES}. Add names, authors and label codes to metadata.json."
    yield "\n## Warnings\n"
    yield from [f"- {_where(fault.case)}{fault.what}" for fault in checked.faults] or ["none"]
    yield "\n## Proposed label codes\n"
    yield "From SNOMED CT, by name, not applied: add `label_codes` to metadata.json.\n"
    for index, label in list(label_names(checked).items())[1:]:
        code = proposed_code(label)
        yield f"- {index} {label}: " + (f"{code.value} {code.meaning}" if code else "none with this name")
    yield "\n## Next\n"
    yield f"    unetpp train {name}"


def summary(checked: Checked) -> str:
    """Describe the data set in one line."""
    dataset = checked.dataset
    channels = len(dataset.channels) or (len(checked.cases[0][1].channels) if checked.cases else 0)
    named = f" ({', '.join(dataset.channels)})" if dataset.channels else ""
    labels = ", ".join(f"{index} {label}" for index, label in list(label_names(checked).items())[1:])
    groups = len({case.group for case in dataset.cases})
    return (
        f"{dataset.layout}: {counted(len(dataset.cases), 'case')} in {counted(groups, 'group')}, "
        f"{counted(channels, 'channel')}{named}, labels "
        f"{labels or 'none'}"
    )


def _where(case: str) -> str:
    return f"{case}: " if case else ""
