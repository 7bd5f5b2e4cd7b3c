"""List the cases of a BIDS data set: raw or derived images and label maps, paired by entities.

Source: BIDS 1.10, "Filename entities", "Imaging data: derivatives", and the inheritance principle (for `dseg.tsv`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import AmbiguityError, InputError
from ..io.label_table import read_label_table
from ..io.nifti import SUFFIXES
from .dataset import WARNING, Case, Dataset, Fault

DERIVED = ("desc", "space", "label", "res", "den", "atlas", "seg", "hemi")  # entities of processing, not of the subject
SOURCES = "sourcedata"  # folder outside BIDS


@dataclass(frozen=True)
class _File:
    """A file and the entities in its name."""

    path: Path
    entities: Mapping[str, str]  # such as sub -> 01
    suffix: str  # such as T1w
    raw: bool  # not a derivative


def read_bids(root: Path, images: Sequence[str], label: str) -> Dataset:
    """List the cases, one for each file of the first channel.

    Args:
        root: with `dataset_description.json`.
        images: one per channel: suffix of raw files, such as "T1w", or of any with entities, "desc-preproc_T1w".
        label: suffix of the label maps, optionally with entities.

    Raises:
        InputError: no such files, or contradictory label tables.
        AmbiguityError: images or labels not chosen.
    """
    files = _files(root)
    suffixes = f"suffixes {', '.join(sorted({file.suffix for file in files})) or 'none'} in {root}"
    if not images:
        raise AmbiguityError(
            f"images of a BIDS data set must be named by suffix, such as T1w,FLAIR, got {suffixes}", option="image"
        )
    if not label:
        raise AmbiguityError(
            f"label maps of a BIDS data set must be named by suffix, such as dseg, got {suffixes}", option="label"
        )
    chosen = [_chosen(files, pattern, derived=False) for pattern in images]
    maps = _chosen(files, label, derived=True)
    faults: list[Fault] = []
    cases: list[Case] = []
    used: dict[Path, str] = {}  # label map -> case
    for anchor in chosen[0]:
        case = _case(anchor, [*zip(chosen[1:], images[1:], strict=True), (maps, label)], faults)
        if case is None:
            continue
        cases.append(case)
        if (other := used.setdefault(case.label, case.name)) != case.name:
            what = f"a label map must belong to one image, got {case.label.name} for {other}, too"
            faults.append(
                Fault(case.name, f"{what}; choose images by entities, as run-1_{images[0]}, or by a CSV table")
            )
    extra = [
        Fault(file.path.name, "a label map must have an image, this one has none; it is skipped", WARNING)
        for file in maps
        if not any(_fits(anchor.entities, file.entities) for anchor in chosen[0])
    ]
    if not chosen[0]:
        raise InputError(f"a BIDS data set must have images {images[0]}, found none in {root}", option="image")
    names = _label_names([file for file in maps if file.path in used], root)
    return Dataset(
        "BIDS", root, tuple(sorted(cases, key=lambda case: case.name)), "", tuple(images), names, tuple(faults + extra)
    )


def _files(root: Path) -> list[_File]:
    """List the images and label maps at any depth; a folder that cannot be read is an error."""

    def stop(error: OSError) -> None:
        raise error

    found: list[Path] = []
    seen: set[Path] = set()
    for folder, folders, names in os.walk(root, onerror=stop, followlinks=True):
        seen.add(Path(folder).resolve())
        folders[:] = [name for name in folders if Path(folder, name).resolve() not in seen]  # links may lead back
        found += (Path(folder) / name for name in names)
    return [
        _parse(path, root)
        for path in sorted(found)
        if path.name.startswith("sub-")
        and path.name.lower().endswith(SUFFIXES)
        and SOURCES not in path.relative_to(root).parts
    ]


def _case(anchor: _File, others: Sequence[tuple[list[_File], str]], faults: list[Fault]) -> Case | None:
    """Pair an image with its other channels and, last, its label map."""
    name = "_".join(f"{key}-{value}" for key, value in anchor.entities.items() if key not in DERIVED)
    found = [_partner(anchor, files, pattern, faults, name) for files, pattern in others]
    paths = [file.path for file in found if file]
    if len(paths) < len(found):
        return None
    *images, label = paths
    return Case(name, (anchor.path, *images), label, f"sub-{anchor.entities['sub']}")


def _parse(path: Path, root: Path) -> _File:
    stem = next(path.name[: -len(ending)] for ending in SUFFIXES if path.name.lower().endswith(ending))
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return _File(path, entities, suffix, "derivatives" not in path.relative_to(root).parts)


def _chosen(files: Sequence[_File], pattern: str, *, derived: bool) -> list[_File]:
    """Select files by suffix and, if given, entities."""
    *pairs, suffix = pattern.split("_")
    wanted = [tuple(pair.split("-", 1)) for pair in pairs]
    return [
        file
        for file in files
        if file.suffix == suffix
        and (derived or wanted or file.raw)
        and all(len(pair) == 2 and file.entities.get(pair[0]) == pair[1] for pair in wanted)
    ]


def _partner(anchor: _File, others: Sequence[_File], pattern: str, faults: list[Fault], name: str) -> _File | None:
    """Find the file with the same subject and session, and no contradictory entities."""
    found = [other for other in others if _fits(anchor.entities, other.entities)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.path.name for file in found[:3])
        what = (
            f"every case must have one file {pattern}, got {len(found)}, {names}; choose one, as desc-manual_{pattern}"
        )
    else:
        what = f"every case must have a file {pattern}, found none; add it, or remove the case"
    faults.append(Fault(name, what))
    return None


def _fits(anchor: Mapping[str, str], other: Mapping[str, str]) -> bool:
    same = all(anchor.get(key) == other.get(key) for key in ("sub", "ses"))
    return same and all(anchor.get(key, value) == value for key, value in other.items() if key not in DERIVED)


def _label_names(maps: Sequence[_File], root: Path) -> dict[int, str]:
    """Read the names from the nearest `dseg.tsv` of every label map, which must agree."""
    found: dict[Path, dict[int, str]] = {}
    for file in maps:
        table = _table(file, root)
        if table is not None and table not in found:
            found[table] = {label.index: label.name for label in read_label_table(table)}
    tables = list(found.items())
    for path, names in tables[1:]:
        if names != tables[0][1]:
            raise InputError(f"label tables must agree, got {tables[0][0]} and {path}; make them one")
    return tables[0][1] if tables else {}


def _table(file: _File, root: Path) -> Path | None:
    """Find the table a label map inherits: the nearest one whose entities all match."""
    for folder in (file.path.parent, *file.path.parent.parents):
        for path in sorted(folder.glob(f"*{file.suffix}.tsv")):
            entities = dict(pair.split("-", 1) for pair in path.stem.split("_")[:-1] if "-" in pair)
            if all(file.entities.get(key) == value for key, value in entities.items()):
                return path
        if folder == root:
            return None
    return None
