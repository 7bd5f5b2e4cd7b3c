"""List the cases of a cohort from a folder, a BIDS data set, nnU-Net's imagesTs, a CSV table or a DICOM tree."""

import csv
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..csv_files import check_separator, is_case_name
from ..dicom.discovery import is_dicom_source
from ..errors import AmbiguityError, InputError
from ..io import case_name
from ..io.cases import image_files
from ..pacs.rules import Rule
from ..workflows.many import Row, collect_cases, failed
from ..workflows.outputs import BIDS, PLAIN, Naming
from .dicom_tree import series_below

DESCRIPTION = "dataset_description.json"  # a folder with this file is a BIDS data set
FIRST_CHANNEL = "_0000"  # ending of the first channel's files in nnU-Net's folders
COLUMNS = ("image", "name", "series")  # of a list of cases; the first must be there
ID_DIGITS = 24  # hexadecimal digits of a pseudonymised case's id


@dataclass(frozen=True)
class Case:
    """One image of a cohort."""

    path: Path  # file or folder, as for `segment`
    id: str  # names its claim and its row; a keyed hash if pseudonymised
    folder: Path  # for its results
    name: str | None  # of its results; None: unknown until it is read
    series: str | None = None  # UID of its DICOM series, if its folder has several


@dataclass(frozen=True)
class Selection:
    """Settings that select cases of an input."""

    channels: tuple[str, ...] = ()  # endings of file names, one per channel of the bundle
    series: tuple[str, ...] = ()  # see `segment`; if given, every DICOM folder is one case
    rules: tuple[Rule, ...] = ()  # of series in a DICOM tree
    image: str = "T1w"  # suffix of images in a BIDS data set
    participants: tuple[str, ...] = ()  # of a BIDS data set, without sub-; empty: all
    key: bytes | None = None  # for pseudonyms; None: cases keep their names


@dataclass(frozen=True)
class Listed:
    """The cases of a cohort."""

    kind: str  # of input, in words
    cases: tuple[Case, ...]
    rows: tuple[Row, ...] = ()  # inputs that are no cases, with the reason
    left_out: tuple[str, ...] = ()  # reasons of series that no rule accepts; without patient data
    naming: Naming = field(default=PLAIN)


def list_cohort(inputs: Sequence[Path], output: Path, selection: Selection) -> Listed:
    """List the cases of inputs.

    Args:
        inputs: files and folders as for `segment`; or one BIDS data set, `.csv` or DICOM tree.
        output: folder for the results.
        selection: which cases.

    Raises:
        InputError: several kinds of input, an invalid table, or no case.
        AmbiguityError: two cases with the same name.
    """
    for is_kind, read in KINDS:
        if read is _dicom and selection.series:
            continue
        if any(map(is_kind, inputs)):
            if len(inputs) > 1:
                raise InputError(f"a data set, list or DICOM tree must be the only input, got {len(inputs)} inputs")
            return _checked(read(inputs[0], output, selection), selection)
    found, rows = collect_cases(inputs, whole=bool(selection.series), channels=selection.channels)
    stripped = _nnunet_names(found, selection.channels)
    cases = (Case(path, name, output, name) for path, name in zip(found, stripped, strict=True))
    kind = "nnU-Net's folder" if found and stripped[0] != case_name(found[0], selection.channels) else "images"
    return _checked(Listed(kind, tuple(cases), tuple(rows)), selection)


def case_id(key: bytes, path: Path, series: str | None) -> str:
    """Name a case by a keyed hash of its path."""
    return hmac.new(key, f"{path.resolve()}\0{series or ''}".encode(), "sha256").hexdigest()[:ID_DIGITS]


def shard_of(cases: Sequence[Case], index: int, count: int) -> tuple[Case, ...]:
    """Return one of `count` disjoint parts of the cases (index from 1), the same on every machine.

    Raises:
        InputError: no such part.
    """
    if not 1 <= index <= count:
        raise InputError(f"a shard must be one of 1/{count} to {count}/{count}, got {index}/{count}")
    numbers = (int(hashlib.sha256(case.id.encode()).hexdigest()[:12], 16) for case in cases)
    return tuple(case for case, number in zip(cases, numbers, strict=True) if number % count == index - 1)


def _checked(listed: Listed, selection: Selection) -> Listed:
    """Check that names are unique; if pseudonymised, replace them by ids and drop repeated cases."""
    if selection.key is not None:
        key = selection.key
        hidden = (replace(case, id=case_id(key, case.path, case.series), name=None) for case in listed.cases)
        return replace(listed, cases=tuple({case.id: case for case in hidden}.values()))
    names: dict[tuple[Path, str | None], Case] = {}
    for case in listed.cases:
        other = names.setdefault((case.folder, case.name), case)
        if other is not case:
            raise AmbiguityError(f"cases must have different names, got {other.path} and {case.path} as {case.name}")
    return listed


def _nnunet_names(cases: Sequence[Path], channels: Sequence[str]) -> list[str]:
    """Return names without nnU-Net's channel number, if every case has one channel with that number."""
    names = [case_name(path, channels) for path in cases]
    if names and not channels and all(name.endswith(FIRST_CHANNEL) and name != FIRST_CHANNEL for name in names):
        return [name.removesuffix(FIRST_CHANNEL) for name in names]
    return names


def _is_bids(path: Path) -> bool:
    return (path / DESCRIPTION).is_file()


def _bids(root: Path, output: Path, selection: Selection) -> Listed:
    """List the images of a BIDS data set; results are placed and named as BIDS derivatives."""
    participants = {name.removeprefix("sub-") for name in selection.participants}
    found = []
    for path in sorted([*root.glob("sub-*/anat/*.nii*"), *root.glob("sub-*/ses-*/anat/*.nii*")]):
        stem, _, ending = path.name.partition(".")
        *entities, suffix = stem.split("_")
        subject = path.relative_to(root).parts[0]
        if suffix != selection.image or ending not in ("nii", "nii.gz"):
            continue
        if participants and subject.removeprefix("sub-") not in participants:
            continue
        name = "_".join((*entities, "desc-unetpp"))
        found.append(Case(path, name, output / path.parent.relative_to(root), name))
    missing = participants - {case.path.relative_to(root).parts[0].removeprefix("sub-") for case in found}
    if missing or not found:
        what = f"{root} must hold sub-*/[ses-*/]anat/*_{selection.image}.nii[.gz]"
        raise InputError(f"{what}, found none{f' of {sorted(missing)[0]}' if missing else ''}", option="image")
    return Listed("BIDS data set", tuple(found), naming=BIDS)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _csv(path: Path, output: Path, selection: Selection) -> Listed:
    """Read a table with the columns image (relative to it), and optionally name and series."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"a list of cases must be a CSV file in UTF-8, got {error} for {path}") from error
    check_separator(rows[0] if rows else (), path)
    if not rows or not rows[0].get("image"):
        raise InputError(f"a list of cases must have the column image, and may have name and series, got {path}")
    if other := sorted(set(rows[0]) - set(COLUMNS), key=str):
        said = ", ".join(map(str, other))
        raise InputError(f"a list of cases must have no columns but {', '.join(COLUMNS)}, got {said} in {path}")
    cases, bad = [], []
    for row in rows:
        image = path.parent / (row["image"] or "")
        name = (row.get("name") or "").strip() or case_name(image, selection.channels)
        if not is_case_name(name):
            bad.append(
                failed(
                    image, InputError(f"a name of a case must be a possible file name, got {name!r}; correct the list")
                )
            )
            continue
        cases.append(Case(image, name, output, name, (row.get("series") or "").strip() or None))
    return Listed("list of cases", tuple(cases), tuple(bad))


def _is_dicom_tree(path: Path) -> bool:
    """Tell whether a folder contains DICOM at any depth, and no other image files."""
    return path.is_dir() and not (path / "imagesTs").is_dir() and not image_files(path) and is_dicom_source(path)


def _dicom(root: Path, output: Path, selection: Selection) -> Listed:
    """List the series of a tree that a rule accepts."""
    cases, left_out = [], []
    for series in series_below(root):
        if reason := series.objection(selection.rules):
            left_out.append(reason)
            continue
        parts = series.folder.resolve().relative_to(root.resolve()).parts or (root.resolve().name,)
        name = "_".join((*parts, *([] if series.alone else [series.facts.series])))
        cases.append(Case(series.folder, name, output, name, None if series.alone else series.facts.series))
    if not cases:
        raise InputError(
            f"a DICOM tree must contain a series that a rule accepts, found none in {root}", option="rules"
        )
    return Listed("DICOM tree", tuple(cases), left_out=tuple(left_out))


Kind = tuple[Callable[[Path], bool], Callable[[Path, Path, Selection], Listed]]
KINDS: tuple[Kind, ...] = ((_is_bids, _bids), (_is_list, _csv), (_is_dicom_tree, _dicom))
