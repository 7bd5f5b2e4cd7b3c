"""Labelled cases made ready for training: which validate, and label maps with the bundle's values. Knows no server."""

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

SHOWN = 10  # cases that an error names
MIN_CASES = 2  # one to train on, one to validate on
HASH_DIGITS = 16  # hexadecimal


@dataclass(frozen=True)
class Labelled:
    """One labelled case of a datastore."""

    name: str  # of the case, as the datastore calls it
    image: Path  # file, of several that are channels the first one, or folder of a series
    label: Path  # label map
    values: Mapping[int, str]  # what the client says its values mean; empty: they are the bundle's own
    ignored: frozenset[str] = frozenset()  # structures that are background here, names in lower case


@dataclass(frozen=True)
class Split:
    """Cases to train on and cases to validate on."""

    training: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]


def name_hash(name: str) -> str:
    """Short hash of a case's name, kept instead of the name."""
    return hashlib.sha256(name.encode()).hexdigest()[:HASH_DIGITS]


def split_cases(cases: Sequence[Labelled], *, share: float, trained: frozenset[str] = frozenset()) -> Split:
    """Split by the hash of the names, so that a case stays on its side as more are labelled.

    A case that some version was trained on never validates a later one, which would flatter the weights that know it.

    Args:
        cases: labelled cases.
        share: part of the cases that validate, 0 < share < 1; at least one does, and at least one trains.
        trained: hashes of the names that earlier versions were trained on.

    Raises:
        InputError: too few cases, or none that was never trained on.
    """
    check_share(share)
    if len(cases) < MIN_CASES:
        raise InputError(
            f"training needs at least {MIN_CASES} labelled images (one of them validates), got {len(cases)}; "
            "submit more labels"
        )
    ordered = sorted(cases, key=lambda case: name_hash(case.name))
    new = [case for case in ordered if name_hash(case.name) not in trained]
    if not new:
        raise InputError(
            f"validation needs an image that was never trained on, got {len(cases)} labelled ones that all were; "
            "label another"
        )
    bound = share * 16**HASH_DIGITS
    validation = [case for case in new if int(name_hash(case.name), 16) < bound] or new[:1]
    validation = validation[: len(cases) - 1]
    return Split(tuple(case for case in ordered if case not in validation), tuple(validation))


def check_share(share: float) -> None:
    """Check the part of the cases that validate.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"val_split must be between 0 and 1 (0.2: every fifth image validates), got {share}")


def cases_for(cases: Sequence[Labelled], labels: Sequence[Label], others: Sequence[Label]) -> list[Labelled]:
    """Leave out the cases that show nothing but structures of other bundles; in the rest, those are background.

    A case that shows nothing at all is judged by the structures that its label map might have shown.

    Args:
        cases: labelled cases.
        labels: of the bundle to train.
        others: of the other bundles that are served.

    Raises:
        InputError: labels that are unreadable, all of them named.
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
        names = _occurring(volume, meanings) or meanings  # of an empty label map, what it might have shown
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
    """Write each label with the bundle's values, so that what is submitted during a training does not disturb it.

    Args:
        split: what to prepare.
        labels: of the bundle.
        folder: where label files go; is made.
        channels: endings of names of files that are channels of one case, see `channel_files`.
        in_channels: that every image must have; None: as many as it has.

    Returns:
        MONAI's datalists, to train on and to validate on: paths `image` and `label`.

    Raises:
        InputError: images or labels that are unreadable, do not fit each other, or show what is unknown to the bundle,
            all of them named; or all labels of one kind are empty.
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
        if not any(case.name in shown for case in cases):  # their Dice would be 0 whatever the network does
            raise InputError(
                f"labels to train and to validate on must each show a structure, got none in {len(cases)} of one kind; "
                "label another image"
            )
    return [items[case.name] for case in split.training], [items[case.name] for case in split.validation]


def _refuse(faults: Sequence[str]) -> None:
    """Name the cases that do not fit, if there are any."""
    if faults:
        raise InputError("; ".join([*faults[:SHOWN], *([f"and {len(faults) - SHOWN} more"] if faults[SHOWN:] else [])]))


def bundle_labels(
    case: Labelled, labels: Sequence[Label], *, channels: Sequence[str] = (), in_channels: int | None = None
) -> Volume:
    """Read a label map and give its voxels the values of the bundle.

    Args:
        case: whose label to read.
        labels: of the bundle; names are compared without regard to case.
        channels: endings of names of files that are channels of one case, see `channel_files`.
        in_channels: that every image must have; None: as many as it has.

    Returns:
        Labels `(1, X, Y, Z)` uint8 on the grid of the image, mm, RAS.

    Raises:
        InputError: unreadable, another grid, or a structure that the bundle does not know.
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
    grid = torch.zeros(1, dtype=torch.uint8).expand(image.array.shape)  # the check looks at no voxel of the image
    check({
        "image": MetaTensor(grid, affine=image.affine, meta={"filename_or_obj": str(case.image)}),
        "label": MetaTensor(torch.from_numpy(array), affine=volume.affine, meta={"filename_or_obj": str(case.label)}),
    })  # fmt: skip
    return Volume(array, image.affine)


def _structures(case: Labelled, labels: Sequence[Label]) -> tuple[Volume, Mapping[int, str]]:
    """Label map of a case, and what its values mean: as declared, or else as in the bundle."""
    if case.label.name.lower().endswith(".seg.nrrd"):
        volume, structures = read_label_file(case.label)
        meanings: Mapping[int, str] = {structure.index: structure.name for structure in structures}
    else:
        volume, meanings = read_volume(case.label, labels=True), case.values
    return volume, meanings or {label.index: label.name for label in labels}


def _occurring(volume: Volume, meanings: Mapping[int, str]) -> dict[int, str]:
    """Names of the values that occur."""
    occurring = [value for value in np.unique(volume.array).tolist() if value != 0]
    return {value: meanings.get(value, f"value {value:g}") for value in occurring}
