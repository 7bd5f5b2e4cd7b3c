"""A data set of any layout: cases, names of channels and labels, and faults."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import AmbiguityError, InputError
from ..json_files import at, clipped, is_text
from ..task_rules import is_structure

ERROR, WARNING = "error", "warning"
SIDES = re.compile(r"left|right|(?:^|[^a-z])[lr]h?(?:[^a-z]|$)", re.IGNORECASE)  # in a label's name
NAMELESS = ("", "n/a")
SHOWN = 500  # most characters of a path in a message
WORDS = {  # in a channel's name, or stated -> DICOM's modality
    "CT": ("ct", "cbct", "ldct", "cta"),
    "MR": (
        "mr",
        "mri",
        "t1",
        "t1w",
        "t1c",
        "t1ce",
        "t1gd",
        "t2",
        "t2w",
        "flair",
        "dwi",
        "adc",
        "pd",
        "pdw",
        "swi",
        "lge",
    ),
    "PT": ("pt", "pet"),
    "US": ("us", "ultrasound"),
    "MG": ("mg",),
    "DX": ("dx", "xr", "xray"),
    "OPT": ("oct", "opt"),
    "SM": ("sm", "microscopy"),
    "EM": ("em",),
}
IDENTIFIER = re.compile(r"(.*\d)[_\-.][^_\-.]+")  # a case name with a part after a number, as patient001_frame01


@dataclass(frozen=True)
class Fault:
    """One fault: a row of the table."""

    case: str  # its name; "": the data set
    what: str  # constraint, what was given, way out
    kind: str = ERROR  # WARNING: does not prevent planning


@dataclass(frozen=True)
class Case:
    """Files of one case, not yet read."""

    name: str
    images: tuple[Path, ...]  # one per channel, or one with all channels
    label: Path
    group: str = ""  # such as its patient; cases of a group share a fold; "": its own group
    fold: int | None = None  # validation fold, from 0; None: chosen by the plan


@dataclass(frozen=True)
class Dataset:
    """Cases of a data set."""

    layout: str  # for people
    root: Path  # paths are written relative to this folder
    cases: tuple[Case, ...]
    name: str = ""  # stated in the data set; "": none
    channels: tuple[str, ...] = ()  # names; empty: not stated
    labels: Mapping[int, str] = field(default_factory=dict)  # voxel value -> name, without the background 0
    faults: tuple[Fault, ...] = ()  # found while listing


def unreadable(error: OSError) -> str:
    """Say that a file or folder of a data set cannot be read, such as one without permission or with a long name."""
    found = f"{error.strerror or error} for {at(Path(error.filename or 'a file'))}"
    return f"files and folders must be readable, got {found}; correct its name or permissions"


def check_names(cases: Iterable[Case]) -> None:
    """Check that names of cases are unique, and that all names can be written into a task.

    Raises:
        AmbiguityError: repeated names.
        InputError: a name is not UTF-8, or has control characters.
    """
    found: dict[str, Case] = {}
    for case in cases:
        if wrong := [name for name in (*map(str, (*case.images, case.label)), case.name) if not is_text(name)]:
            what = "names of files must be UTF-8 without control characters, got"
            raise InputError(f"{what} {clipped(repr(wrong[0]), SHOWN)}; rename it")
        other = found.setdefault(case.name, case)
        if other is not case:
            raise AmbiguityError(
                f"cases must have different names, got {case.name} of {other.images[0]} and of {case.images[0]}; "
                "rename one"
            )


def name_faults(labels: Mapping[int, str], channels: Sequence[str] = ()) -> Iterator[Fault]:
    """Find labels without a name, or with that of another label or the background; and names that MONAI computes."""
    for name in (*labels.values(), *channels):
        if is_structure(name):
            yield Fault(
                "", f"names must not begin with $, @ or %, which MONAI's configs compute, got {name!r}; rename it"
            )
    for value, name in labels.items():
        if name.strip() in NAMELESS:
            yield Fault("", f"every label must have a name, got {name!r} for {value}; name it")
    names = ["background", *(name for name in labels.values() if name.strip() not in NAMELESS)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Fault("", f"labels and the background must have different names, got {name!r} twice; rename one")


def sided_labels(labels: Mapping[int, str]) -> list[str]:
    """Return names that contain left or right."""
    return [name for name in labels.values() if SIDES.search(name)]


def grouped(dataset: Dataset, pattern: str) -> Dataset:
    """Give every case a group.

    Args:
        dataset: its groups are kept without pattern.
        pattern: regular expression; its match in a case's name, or its first group, is the case's group.

    Returns:
        The data set, with a fault for each name without match, or if groups seem to be missing.

    Raises:
        InputError: invalid regular expression.
    """
    if not pattern:
        own = [replace(case, group=case.group or case.name) for case in dataset.cases]
        stated = any(case.group for case in dataset.cases)
        hints = () if stated else _groups_missing([case.name for case in own])
        return replace(dataset, cases=tuple(own), faults=(*dataset.faults, *hints))
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"a group must be a regular expression, got {pattern!r} ({error})", option="group") from error
    cases, faults = [], []
    for case in dataset.cases:
        match = compiled.search(case.name)
        if match is None:
            faults.append(Fault(case.name, f"every case's name must match the group {pattern!r}, got {case.name}"))
        group = "" if match is None else match.group(1 if compiled.groups else 0) or ""
        if match is not None and not group:
            faults.append(
                Fault(case.name, f"the group {pattern!r} must match some of every name, got none of {case.name}")
            )
        cases.append(replace(case, group=group or case.name))
    return replace(dataset, cases=tuple(cases), faults=(*dataset.faults, *faults))


def _groups_missing(names: Sequence[str]) -> tuple[Fault, ...]:
    """Warn if names look like several cases of one patient."""
    shared: dict[str, list[str]] = {}
    for name in names:
        if match := IDENTIFIER.fullmatch(name):
            shared.setdefault(match[1], []).append(name)
    several = {prefix: found for prefix, found in shared.items() if len(found) > 1}
    if len(shared) < 2 or not several:
        return ()
    example = next(iter(several.values()))
    return (
        Fault(
            example[0],
            f"cases of one patient must share a fold, got {len(several)} prefixes shared by names, such as of "
            f"{example[0]} and {example[1]}, and no group; state one (option group)",
            WARNING,
        ),
    )


def modality_of(text: str) -> str | None:
    """Return DICOM's modality for a word in a channel's name; None: none, or several."""
    parts = set(re.split(r"[^a-z0-9]+", text.lower()))
    found = [modality for modality, words in WORDS.items() if parts & set(words)]
    return found[0] if len(found) == 1 else None
