"""Detect the layout of a data set, and list the cases of nnU-Net v2 and MSD."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..csv_files import is_case_name
from ..errors import AmbiguityError, InputError
from ..io import case_name
from ..io.cases import image_files, visible
from ..json_files import clipped, read_object
from .bids import read_bids
from .dataset import ERROR, WARNING, Case, Dataset, Fault, check_names, grouped, unreadable
from .folders import IMAGES, LABELS, read_folders, read_table, skipped, some_names

NNUNET, MSD, BIDS = "dataset.json", "dataset.json", "dataset_description.json"
SHOWN = 100  # most characters of a value in a message
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # of a file's name without its ending
LAYOUTS = (
    "dataset.json of nnU-Net v2 (channel_names, labels, file_ending) or of the Medical Segmentation Decathlon "
    f"(training, modality, labels), dataset_description.json (BIDS), a folder {' or '.join(IMAGES)} with one of "
    f"{', '.join(LABELS)} beside it, or a CSV file"
)


def find_dataset(path: str | Path, *, images: Sequence[str] = (), label: str = "", group: str = "") -> Dataset:
    """List the cases of a data set; no image is read.

    Args:
        path: folder, or a CSV file with the columns image, label and optionally image_2 ..., name, group, fold.
        images: suffixes of the channels in BIDS, such as "T1w" or "desc-preproc_T1w".
        label: suffix of the label maps in BIDS, such as "dseg".
        group: regular expression; its match in a case's name is the case's group, such as its patient.

    Returns:
        Cases sorted by name, each with a group; other files are listed as faults.

    Raises:
        InputError: unknown layout, or no cases.
        AmbiguityError: several layouts, or repeated names.
    """
    try:
        found = _listed(Path(path), images, label)
    except OSError as error:
        raise InputError(unreadable(error)) from error
    if not found.cases and not found.faults:
        raise InputError(f"a data set must have labelled cases, found none in {path}")
    check_names(found.cases)
    return grouped(found, group)


def _listed(root: Path, images: Sequence[str], label: str) -> Dataset:
    """List the cases of any layout, without groups of `grouped`."""
    if not root.exists():
        raise InputError(f"a data set must exist, got {root}; check the path")
    layout = "csv" if root.is_file() else _layout_of(root)
    if layout != "bids" and (images or label):
        raise InputError(f"only BIDS has images and labels to choose from, got another layout in {root}")
    if layout == "csv":
        return read_table(root)
    if layout == "bids":
        return read_bids(root, images, label)
    if layout == "folders":
        return read_folders(root)
    return (_read_nnunet if layout == "nnunet" else _read_msd)(root, read_object(root / NNUNET))


def _layout_of(root: Path) -> str:
    """Return nnunet, msd, bids or folders."""
    found = []
    if (root / NNUNET).is_file():
        stated = read_object(root / NNUNET)
        found += ["nnunet"] if {"channel_names", "file_ending"} <= stated.keys() else []
        found += ["msd"] if {"training", "modality"} <= stated.keys() else []
        if not found:
            raise InputError(
                f"dataset.json must be nnU-Net v2's (channel_names, labels, file_ending) or the Medical Segmentation "
                f"Decathlon's (training, modality, labels), got {', '.join(stated) or 'nothing'} in {root}"
            )
    if (root / BIDS).is_file() and "BIDSVersion" in read_object(root / BIDS):
        found.append("bids")
    if not found and any((root / name).is_dir() for name in IMAGES):
        found.append("folders")
    if len(found) > 1:
        raise AmbiguityError(f"a data set must have one layout, got {' and '.join(found)} in {root}; remove one")
    if not found:
        raise InputError(f"a data set must have {LAYOUTS}; found none of them in {root}")
    return found[0]


def _read_nnunet(root: Path, stated: Mapping[str, Any]) -> Dataset:
    """https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md."""
    channels = _channels(stated["channel_names"], root)
    labels = _labels(_mapping(stated, "labels", root).items(), root)
    ending, listed = f".{str(stated['file_ending'] or '').lstrip('.')}", stated.get("dataset")
    name = _name(stated, root)
    if listed is not None:
        entries = (
            listed.items() if isinstance(listed, Mapping) else [("", entry) for entry in _list(stated, "dataset", root)]
        )
        cases = [_listed_case(root, name, entry) for name, entry in entries]
        faults = _miscounted(stated, cases)
        return Dataset("nnU-Net v2, listed", root, _sorted(cases), name, channels, labels, tuple(faults))
    cases, faults = _paired(root, ending)
    faults += _miscounted(stated, cases)
    return Dataset("nnU-Net v2", root, _sorted(cases), name, channels, labels, tuple(faults))


def _paired(root: Path, ending: str) -> tuple[list[Case], list[Fault]]:
    """Pair the channels in imagesTr with the label maps in labelsTr."""
    folder, label_folder = root / "imagesTr", root / "labelsTr"
    if not folder.is_dir():
        raise InputError(f"an nnU-Net data set must have a folder imagesTr, found none in {root}")
    images = [entry for entry in visible(folder) if ending and entry.name.endswith(ending)]
    faults = [
        fault for each in (folder, label_folder) for fault in skipped(each, lambda file: file.name.endswith(ending))
    ]
    if not images:
        raise InputError(
            f"images must end in file_ending, {ending!r}, got {some_names(folder)} in {folder}; correct {NNUNET}"
        )
    files: dict[str, dict[int, Path]] = {}
    for file in images:
        if match := CHANNEL.fullmatch(file.name.removesuffix(ending)):
            files.setdefault(match["case"], {})[int(match["channel"])] = file
        else:
            faults.append(
                Fault(file.name, f"images must be named CASE_0000{ending}, got {file.name}; rename it", ERROR)
            )
    cases = []
    for name, found in files.items():
        cases.append(Case(name, tuple(found[key] for key in sorted(found)), label_folder / f"{name}{ending}"))
        if sorted(found) != list(range(len(found))):
            words = ", ".join(f"_{key:04d}" for key in sorted(found))
            faults.append(Fault(name, f"channels must be files _0000, _0001, ..., got {words}; add the missing ones"))
    return cases, [*faults, *unused(label_folder, [case.label for case in cases])]


def _list(stated: Mapping[str, Any], key: str, root: Path) -> list[Any]:
    if not isinstance(stated[key], list):
        raise InputError(f"{key} must be a list of cases in {root / NNUNET}, got {stated[key]!r}")
    return list(stated[key])


def _miscounted(stated: Mapping[str, Any], cases: Sequence[Case]) -> list[Fault]:
    """Warn if `numTraining` is not the number of cases."""
    count = stated.get("numTraining", len(cases))
    what = f"numTraining of dataset.json should be the number of cases, {len(cases)}, got {count}; are files missing?"
    return [] if count in (len(cases), str(len(cases))) else [Fault("", what, WARNING)]


def _name(stated: Mapping[str, Any], root: Path) -> str:
    """Read the data set's name; empty if it has none."""
    name = stated.get("name") or ""
    if not isinstance(name, str):
        raise InputError(f"name must be a text in {root / NNUNET}, got {clipped(repr(name), SHOWN)}")
    return name


def _listed_case(root: Path, name: str, entry: Any) -> Case:
    try:
        images = [entry["images"]] if isinstance(entry["images"], str) else list(entry["images"])
        paths = tuple(root / image for image in images)
        match = CHANNEL.fullmatch(case_name(paths[0]))
        case = Case(name or (match["case"] if match else case_name(paths[0])), paths, root / entry["label"])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"entries of dataset must be {{images: [...], label: ...}}, got {entry!r} in {root / NNUNET}"
        ) from error
    if not is_case_name(case.name):
        raise InputError(f"a name of a case must be a possible file name, got {case.name!r} in {root / NNUNET}")
    return case


def _read_msd(root: Path, stated: Mapping[str, Any]) -> Dataset:
    """Read http://medicaldecathlon.com: channels are the last axis, labels are value -> name."""
    names = _mapping(stated, "labels", root)
    labels = _labels(((name, value) for value, name in names.items()), root)
    channels = _channels(stated["modality"], root)
    cases = []
    for entry in _list(stated, "training", root):
        try:
            image, label = root / entry["image"], root / entry["label"]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"entries of training must be {{image: ..., label: ...}}, got {entry!r} in {root / MSD}"
            ) from error
        cases.append(Case(case_name(image), _channel_files(image, len(channels)), label))
    faults = [
        fault for folder in {case.label.parent for case in cases} for fault in unused(folder, [c.label for c in cases])
    ]
    faults += _miscounted(stated, cases)
    return Dataset(
        "Medical Segmentation Decathlon",
        root,
        _sorted(cases),
        _name(stated, root),
        channels,
        labels,
        tuple(sorted(faults, key=lambda fault: fault.case)),
    )


def _channel_files(image: Path, channels: int) -> tuple[Path, ...]:
    """Return the files of an image; nnU-Net v1 lists CASE.nii.gz for the channels CASE_0000.nii.gz, ..."""
    name, ending = case_name(image), image.name.removeprefix(case_name(image))
    files = tuple(image.with_name(f"{name}_{number:04d}{ending}") for number in range(channels))
    return files if not image.exists() and files[0].exists() else (image,)


def unused(folder: Path, labels: Iterable[Path]) -> list[Fault]:
    """Warn about label maps without image."""
    used = {label.resolve() for label in labels}
    extra = [file for file in image_files(folder) if file.resolve() not in used] if folder.is_dir() else []
    return [
        Fault(case_name(file), f"a label map must have an image, {file.name} has none; it is skipped", WARNING)
        for file in extra
    ]


def _sorted(cases: Iterable[Case]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=lambda case: case.name))


def _mapping(stated: Mapping[str, Any], key: str, root: Path) -> Mapping[str, Any]:
    value = stated.get(key)
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{key} must be an object in {root / NNUNET}, got {value!r}")
    return value


def _channels(names: Any, root: Path) -> tuple[str, ...]:
    """Read channel names by number."""
    if isinstance(names, Mapping) and sorted(names) == sorted(map(str, range(len(names)))) and names:
        return tuple(str(names[str(index)]) for index in range(len(names)))
    raise InputError(f"channels must be named 0, 1, ... in {root / NNUNET}, got {names!r}")


def _labels(names: Iterable[tuple[Any, Any]], root: Path) -> dict[int, str]:
    """Map values to names, without the background 0."""
    labels: dict[int, str] = {}
    for name, value in names:
        if isinstance(value, list | tuple):
            raise InputError(
                f"labels must be one value each, got the region {name!r} ({value}) in {root / NNUNET}; regions that "
                "overlap cannot be planned: write label maps of the parts"
            )
        if str(name).lower() == "ignore":
            raise InputError(
                f"every voxel must have a label, got an ignore label ({value}) in {root / NNUNET}; label these voxels"
            )
        try:
            number = int(value) if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"labels must be whole numbers, got {value!r} for {name!r} in {root / NNUNET}") from error
        if number in labels or number < 0:
            raise InputError(
                f"labels must be whole numbers >= 0, each once, got {value!r} twice or below 0 in {root / NNUNET}"
            )
        labels[number] = str(name)
    if 0 not in labels or len(labels) < 2:
        raise InputError(f"labels must be the background, 0, and at least one more, got {labels} in {root / NNUNET}")
    return {value: labels[value] for value in sorted(labels) if value}
