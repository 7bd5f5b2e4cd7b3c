"""Cases that a fold's network has not seen: which they are, and their voxels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.configs import literal
from ..errors import InputError, cause_of
from ..io import case_name, channel_files, is_picture
from ..io.case_list import case_names, files_of
from ..io.channels import read_channels
from ..task import Task, base_config
from ..volume import Volume
from .label_pairs import check_grids, read_label_map


@dataclass(frozen=True)
class HeldOut:
    """A case of a fold, not read."""

    name: str
    images: tuple[Path, ...]  # one per channel, or one that holds all
    label: Path

    @property
    def picture(self) -> bool:
        """Whether it has pixels instead of lengths."""
        return is_picture(self.label)


@dataclass(frozen=True)
class Reading:
    """What reading a case needs to know of its task."""

    names: Mapping[int, str]  # of the labels
    values: Sequence[int] = ()  # of the labels 0, 1, ... in files; (): themselves
    series: str | None = None  # of DICOM

    def read(self, case: HeldOut) -> tuple[Volume, Volume]:
        """Read image `(C, X, Y, Z)` and reference `(1, X, Y, Z)`.

        Raises:
            InputError, GeometryError: a file cannot be read, or they are on different grids.
        """
        image = read_channels(case.images, series=self.series).volume
        reference = read_label_map(case.label, self.names, self.values)
        check_grids(case.name, image, reference)
        return image, Volume(reference.array, image.affine)


def held_out_cases(task: Task, fold: int) -> list[HeldOut]:
    """List the cases that validate a fold, as train.json divides them.

    Args:
        task: with the values of the run.
        fold: 0, 1, ...; from the number of folds on: none.

    Raises:
        InputError: the data are not where the task says.
    """
    from monai.bundle import ConfigParser

    values = dict(task.values)
    if listed := values.get("cases_file"):
        values["cases_file"] = str(task.folder / listed)
    places = {key: literal(values[key]) for key in ("cases_file", "dataset_dir") if values.get(key)}
    parser = ConfigParser({**base_config("train"), **values, **places})
    try:
        folds = parser.get_parsed_content("folds")
    except RuntimeError as error:  # of MONAI, around ours
        raise cause_of(error) from None
    if not folds:
        raise InputError(f"the cases of {task.name} must lie where its dataset_dir says, found none; state it")
    known = case_names(values["cases_file"], parser.get_parsed_content("dataset_dir")) if listed else {}
    suffixes = values.get("channel_suffixes", ())
    return list(_cases(folds[fold] if fold < len(folds) else [], known, suffixes))


def _cases(
    entries: Sequence[Mapping[str, Any]], known: Mapping[tuple[str, ...], str], suffixes: Sequence[str]
) -> Iterator[HeldOut]:
    for entry in entries:
        image, label = entry["image"], str(entry["label"])
        paths = tuple(map(Path, image)) if isinstance(image, list) else channel_files(Path(str(image)), suffixes)
        yield HeldOut(known.get(files_of(entry)) or case_name(paths[0], suffixes), paths, Path(label))
