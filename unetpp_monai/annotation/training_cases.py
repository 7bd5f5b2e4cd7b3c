"""Prepare labelled cases for training: split them, and convert labels to the bundle's values. Server-independent."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..errors import InputError
from ..io import read_case
from ..io.label_files import read_label_file
from ..io.nifti import write_nifti
from ..io.reader import read_volume
from ..labels import Label
from ..training import CheckLabelsd
from ..volume import Volume

SHOWN = 10  # most cases in an error
MIN_CASES = 2  # one to train on, one to validate on
HASH_DIGITS = 16  # hexadecimal


@dataclass(frozen=True)
class Labelled:
    """One labelled case of a datastore."""

    name: str  # in the datastore
    image: Path  # file (of the first channel), or folder of a series
    label: Path  # label map
    values: Mapping[int, str]  # meaning of values stated by the client; empty: the bundle's
    ignored: frozenset[str] = frozenset()  # structures treated as background, names in lower case


@dataclass(frozen=True)
class Split:
    """Training and validation cases."""

    training: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]


def name_hash(name: str) -> str:
    """Return a short hash of a case's name, stored instead of the name."""
    return hashlib.sha256(name.encode()).hexdigest()[:HASH_DIGITS]


def split_cases(cases: Sequence[Labelled], *, share: float, trained: frozenset[str] = frozenset()) -> Split:
    """Split by hashes of names, so that cases keep their role as more are labelled.

    Cases used to train any version never validate a later one.

    Args:
        cases: labelled cases.
        share: fraction of validation cases, 0 < share < 1; at least one case validates and one trains.
        trained: hashes of names used to train earlier versions.

    Raises:
        InputError: too few cases, or all were used for training.
    """
    check_share(share)
    if len(cases) < MIN_CASES:
        raise InputError(
            f"training needs at least {MIN_CASES} labelled images (one for validation), got {len(cases)}; "
            "submit more labels"
        )
    ordered = sorted(cases, key=lambda case: name_hash(case.name))
    new = [case for case in ordered if name_hash(case.name) not in trained]
    if not new:
        raise InputError(
            f"validation needs an image never used for training, got {len(cases)} labelled ones, all used; "
            "label another"
        )
    bound = share * 16**HASH_DIGITS
    validation = [case for case in new if int(name_hash(case.name), 16) < bound] or new[:1]
    validation = validation[: len(cases) - 1]
    return Split(tuple(case for case in ordered if case not in validation), tuple(validation))


def check_share(share: float) -> None:
    """Check the fraction of validation cases.

    Raises:
        InputError: not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"val_split must be between 0 and 1 (0.2: every fifth image validates), got {share}")


def cases_for(cases: Sequence[Labelled], labels: Sequence[Label], others: Sequence[Label]) -> list[Labelled]:
    """Skip cases with structures of other bundles only; in the rest, those are background.

    Empty cases are judged by the structures declared for their label map.

    Args:
        cases: labelled cases.
        labels: of the bundle to train.
        others: of the other served bundles.

    Raises:
        InputError: unreadable labels; names all.
    """
    own = {label.name.casefold() for label in labels}
    foreign = frozenset(label.name.casefold() for label in others) - own
    found, faults = [], []
    for case in cases:
        try:
            volume, meanings = _structures(case, labels)
        except InputError as error:
            faults.append(f"label of {case.name}: {error}")
            continue
        names = _occurring(volume, meanings) or meanings  # for an empty label map, the declared structures
        shown = {name.casefold() for name in names.values()}
        if shown - foreign:
            found.append(replace(case, ignored=foreign))
    _refuse(faults)
    return found


def prepare(
    split: Split,
    labels: Sequence[Label],
    folder: Path,
    *,
    channels: Sequence[str] = (),
    in_channels: int | None = None,
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Write copies of labels with the bundle's values, unaffected by later submissions.

    Args:
        split: cases to prepare.
        labels: of the bundle.
        folder: for label files; created.
        channels: endings of names of files that are channels of one case, see `channel_files`.
        in_channels: that every image must have; None: as many as it has.

    Returns:
        MONAI datalists for training and validation, with paths `image` and `label`.

    Raises:
        InputError: unreadable or mismatched images and labels, or structures unknown to the bundle, all named; or all
            labels for training or validation are empty.
    """
    folder.mkdir(parents=True)
    items: dict[str, dict[str, str]] = {}
    shown: set[str] = set()  # names of cases with a structure
    faults = []
    for index, case in enumerate((*split.training, *split.validation)):
        try:
            volume = bundle_labels(case, labels, channels=channels, in_channels=in_channels)
        except InputError as error:
            faults.append(f"label of {case.name}: {error}")
            continue
        path = folder / f"{index}.nii.gz"
        write_nifti(volume, path)
        shown |= {case.name} if volume.array.any() else set()
        items[case.name] = {"image": str(case.image), "label": str(path)}
    _refuse(faults)
    for cases in (split.training, split.validation):
        if not any(case.name in shown for case in cases):  # their Dice would always be 0
            raise InputError(
                f"labels for training and for validation must have a structure, got none in {len(cases)} of one kind; "
                "label another image"
            )
    return [items[case.name] for case in split.training], [items[case.name] for case in split.validation]


def _refuse(faults: Sequence[str]) -> None:
    """Raise an error that names faulty cases, if any."""
    if faults:
        raise InputError("; ".join([*faults[:SHOWN], *([f"and {len(faults) - SHOWN} more"] if faults[SHOWN:] else [])]))


def bundle_labels(
    case: Labelled, labels: Sequence[Label], *, channels: Sequence[str] = (), in_channels: int | None = None
) -> Volume:
    """Read a label map with the values of the bundle.

    Args:
        case: with the label to read.
        labels: of the bundle; names are compared ignoring case.
        channels: endings of names of files that are channels of one case, see `channel_files`.
        in_channels: that every image must have; None: as many as it has.

    Returns:
        Labels `(1, X, Y, Z)` uint8 on the grid of the image, mm, RAS.

    Raises:
        InputError: unreadable, another grid, or a structure unknown to the bundle.
    """
    volume, meanings = _structures(case, labels)
    names = _occurring(volume, meanings)
    image = read_case(case.image, channels=channels, in_channels=in_channels).volume
    array = np.zeros(volume.array.shape, np.uint8)
    known = {label.name.casefold(): label.index for label in labels}
    if unknown := sorted(name for name in names.values() if name.casefold() not in {*known, *case.ignored}):
        raise InputError(f"structures must be among {sorted(known)}, got {unknown}; rename or remove them")
    for value, name in names.items():
        array[volume.array == value] = known.get(name.casefold(), 0)
    check = CheckLabelsd("label", "image", in_channels=in_channels or len(image.array), out_channels=len(known) + 1)
    grid = torch.zeros(1, dtype=torch.uint8).expand(image.array.shape)  # the check does not use voxels of the image
    check({
        "image": MetaTensor(grid, affine=image.affine, meta={"filename_or_obj": str(case.image)}),
        "label": MetaTensor(torch.from_numpy(array), affine=volume.affine, meta={"filename_or_obj": str(case.label)}),
    })  # fmt: skip
    return Volume(array, image.affine)


def _structures(case: Labelled, labels: Sequence[Label]) -> tuple[Volume, Mapping[int, str]]:
    """Read the label map of a case, and the meaning of its values: as declared, or as in the bundle."""
    if case.label.name.lower().endswith(".seg.nrrd"):
        volume, structures = read_label_file(case.label)
        meanings: Mapping[int, str] = {structure.index: structure.name for structure in structures}
    else:
        volume, meanings = read_volume(case.label, labels=True), case.values
    return volume, meanings or {label.index: label.name for label in labels}


def _occurring(volume: Volume, meanings: Mapping[int, str]) -> dict[int, str]:
    """Return the names of values that occur."""
    occurring = [value for value in np.unique(volume.array).tolist() if value != 0]
    return {value: meanings.get(value, f"value {value:g}") for value in occurring}
