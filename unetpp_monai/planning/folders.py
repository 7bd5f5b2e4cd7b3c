"""List the cases in two folders or a CSV table."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..csv_files import check_separator, is_case_name
from ..errors import AmbiguityError, InputError
from ..files import is_zip
from ..io import case_name
from ..io.cases import image_files, visible
from ..io.reader import SUFFIXES, is_image_file
from ..json_files import clipped
from .dataset import WARNING, Case, Dataset, Fault

IMAGES = ("imagesTr", "images")
LABELS = ("labelsTr", "labels", "masks")
SEVERAL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # file of one channel
COMPANIONS = (".img", ".img.gz", ".raw", ".zraw", ".json", ".txt", ".csv", ".tsv", ".md")  # of images, and notes
ROW = 300  # most characters of a row in an error
SHOWN = 3  # most names in an error
FOLD = re.compile(r"\d{1,9}")


def read_folders(root: Path) -> Dataset:
    """Pair images and label maps by name; files `CASE_0000`, `CASE_0001` are channels of the label map `CASE`.

    Raises:
        InputError: no folder of images or labels.
        AmbiguityError: several such folders, or two files with one name.
    """
    images, labels = _folder(root, IMAGES), _folder(root, LABELS)
    maps, faults = _by_name(labels), [*skipped(images, is_image_file), *skipped(labels, is_image_file)]
    channels: dict[str, dict[str, Path]] = {}  # case -> number of the channel, "": none, -> file
    for name, file in _by_name(images).items():
        match = SEVERAL.fullmatch(name)
        if match and name not in maps and match["case"] in maps:
            channels.setdefault(match["case"], {})[match["channel"]] = file
        else:
            channels.setdefault(name, {})[""] = file
    if not channels:
        raise InputError(f"images must be {', '.join(SUFFIXES)}, got {some_names(images)} in {images}; convert them")
    cases = []
    for name, files in sorted(channels.items()):
        numbers, paths = sorted(files), tuple(files[number] for number in sorted(files))
        cases.append(Case(name, paths, maps.get(name, labels / paths[0].name)))
        if numbers != [""] and numbers != [f"{number:04d}" for number in range(len(files))]:
            what = (
                f"channels must be files _0000, _0001, ..., got {', '.join(path.name for path in paths)}; rename them"
            )
            faults.append(Fault(name, what))
    faults += [
        Fault(name, f"a label map must have an image, {file.name} has none; it is skipped", WARNING)
        for name, file in maps.items()
        if name not in channels
    ]
    return Dataset(f"folders {images.name} and {labels.name}", root, tuple(cases), faults=tuple(faults))


def some_names(folder: Path) -> str:
    """Return the first names in a folder."""
    return ", ".join(entry.name for entry in visible(folder)[:SHOWN]) or "no file"


def skipped(folder: Path, is_read: Callable[[Path], bool]) -> list[Fault]:
    """Warn about files and folders that are not read, except for notes."""
    others = [
        entry.name
        for entry in (visible(folder) if folder.is_dir() else ())
        if entry.is_dir() or not (is_read(entry) or entry.name.lower().endswith(COMPANIONS))
    ]
    if not others:
        return []
    what = f"folders and files of other kinds are skipped, got {len(others)} in {folder.name} such as {others[0]}"
    return [Fault("", what, WARNING)]


def _folder(root: Path, names: tuple[str, ...]) -> Path:
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        raise InputError(f"a data set must have a folder {' or '.join(names)}, found none in {root}")
    if len(found) > 1:
        raise AmbiguityError(
            f"a data set must have one folder of these, got {', '.join(map(str, found))}; move one away"
        )
    return found[0]


def _by_name(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in image_files(folder):
        other = files.setdefault(case_name(file), file)
        if other != file:
            raise AmbiguityError(
                f"a case must have one file in {folder}, got {other.name} and {file.name}; move one away"
            )
    return files


def read_table(path: Path) -> Dataset:
    """Read a CSV file with the columns image, label and optionally image_2 ..., name, group, fold.

    Args:
        path: CSV file; its paths are relative to its folder, or absolute.

    Raises:
        InputError: missing or invalid table.
    """
    if is_zip(path):
        raise InputError(f"a data set must be a folder or a CSV table, got the zip {path}; unzip it first")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, restval="")
            columns, rows = list(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV table ({error}); write it as UTF-8 with commas") from error
    check_separator(columns, path)
    count = sum(column.startswith("image_") for column in columns)
    known = {"image", "label", "name", "group", "fold", *(f"image_{number}" for number in range(2, count + 2))}
    if not set(columns) <= known or len(set(columns)) < len(columns) or not {"image", "label"} <= set(columns):
        raise InputError(
            f"a table of cases must have the columns image, label and optionally image_2 ..., name, group, fold, each "
            f"once, got {', '.join(columns) or 'no row'} in {path}"
        )
    names = _names(rows, path)
    cases = tuple(sorted((_case(path, row, name) for row, name in zip(rows, names, strict=True)), key=lambda c: c.name))
    with_fold = [case for case in cases if case.fold is not None]
    if with_fold and len(with_fold) < len(cases):
        raise InputError(f"every case must have a fold, or none, got {len(with_fold)} of {len(cases)} in {path}")
    return Dataset("CSV table", path.parent, cases)


def _case(path: Path, row: Mapping[str, str], name: str) -> Case:
    numbers = range(2, len(row) + 1)
    images = [row["image"], *(row[f"image_{number}"] for number in numbers if f"image_{number}" in row)]
    fold = row.get("fold", "").strip()
    if not all(images) or not row["label"] or None in row or (fold and not FOLD.fullmatch(fold)):
        raise InputError(
            f"every row must have an image, a label and a fold from 0 to 999999999, or none, got "
            f"{clipped(dict(row), ROW)} in {path}"
        )
    return Case(
        name,
        tuple(path.parent / image for image in images),
        path.parent / row["label"],
        row.get("group", "").strip(),
        int(fold) if fold else None,
    )


def _names(rows: Sequence[Mapping[str, str]], path: Path) -> list[str]:
    """Return the stated names; other cases are named by their images, with folders if that alone is not unique."""
    images = [row["image"] for row in rows]
    names = [case_name(image) for image in images]
    if len(set(names)) < len(names):
        joined = ("_".join(part for part in Path(image).parts if part not in ("/", "..", ".")) for image in images)
        names = [case_name(Path(image).name) for image in joined]
    stated = [row.get("name", "").strip() for row in rows]
    if wrong := [name for name in stated if name and not is_case_name(name)]:
        raise InputError(f"a name of a case must be a possible file name, got {wrong[0]!r} in {path}; choose another")
    return [name or own for name, own in zip(stated, names, strict=True)]
