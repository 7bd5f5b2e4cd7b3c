"""Which cases a path means, and what their results are called."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..dicom.discovery import holds_dicom, is_dicom_source
from ..errors import AmbiguityError, InputError
from .channels import channel_files, is_other_channel, without_channel
from .reader import SUFFIXES, is_image_file

SHOWN = 10  # names that a warning lists
CASE_SUFFIXES = (".zip", ".dcm")  # DICOM, whose other file names have none
RESULT_ENDINGS = ("_seg", "_uncertainty", ".seg")  # of `case_name` of what we write beside an image; `.seg.nrrd` is one

logger = logging.getLogger(__name__)


def find_cases(
    inputs: Iterable[str | Path] | str | Path, *, whole: bool = False, channels: Sequence[str] = ()
) -> list[Path]:
    """List the cases in files and folders.

    They are in the order of their names within each path.

    A file is a case; a folder with DICOM files is a case; any other folder stands for the image files, zips and folders
    with DICOM in them or below, or for those in its `imagesTs` if it has one (Medical Segmentation Decathlon). What we
    write beside a case `NAME` (`NAME_seg.*`, `NAME.seg.nrrd`, `NAME_uncertainty.*`), and hidden files, are no cases; a
    path named twice is one case.

    Args:
        inputs: files and folders.
        whole: every folder with DICOM in it or below is one case, in which a series will be named.
        channels: endings of names, see `channel_files`; the case is the file of its first channel.

    Returns:
        Paths of the cases.

    Raises:
        InputError: a path does not exist, or a folder holds nothing to segment.
        AmbiguityError: two cases would write the same results.

    Example:
        >>> [case.name for case in find_cases(Path(__file__).parents[1] / "sample")]
        ['mni_head.nii.gz', 'mni_hippocampus_right.nii.gz']
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    cases = (case for path in paths for case in list_cases(Path(path), whole=whole, channels=channels))
    return distinct_cases(cases, channels=channels)


def distinct_cases(cases: Iterable[Path], *, channels: Sequence[str] = ()) -> list[Path]:
    """Drop cases that were named twice.

    Raises:
        AmbiguityError: two cases would write the same results.
    """
    names: dict[str, Path] = {}
    for case in cases:
        other = names.setdefault(case_name(case, channels), case)
        if other.resolve() != case.resolve():
            raise AmbiguityError(f"results are named after cases, got {other} and {case}; rename or run them apart")
    return list(names.values())


def labelled_cases(
    images: str | Path, labels: str | Path, suffix: str, channels: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Pair images and labels of the same name for training.

    Labels without an image are left out, with a warning.

    Args:
        images: folder.
        labels: folder.
        suffix: what names of images end with; others, and hidden ones, are none.
        channels: endings of names before the suffix, see `channel_files`; a label is named without.

    Returns:
        Paths of image and label of each case.

    Raises:
        InputError: the folder of images does not exist or has none, or a label or channel lacks.
    """
    images, labels = Path(images), Path(labels)
    if not images.is_dir():
        raise InputError(f"folder of images must exist, got {images}; check dataset_dir and image_folder")
    found = [path for path in _entries(images) if path.name.endswith(suffix)]
    if not found:
        raise InputError(f"images must be named *{suffix}, found none in {images}; check image_folder and suffix")
    firsts = [path for path in found if not is_other_channel(path, channels)]
    for path in firsts:
        channel_files(path, channels)
    names = (without_channel(path.name.removesuffix(suffix), channels) + suffix for path in firsts)
    pairs = [{"image": str(path), "label": str(labels / name)} for path, name in zip(firsts, names, strict=True)]
    lost = [pair["label"] for pair in pairs if not Path(pair["label"]).exists()]
    if lost:
        raise InputError(f"every image must have a label of its name, {len(lost)} lack, such as {lost[0]}")
    used = {Path(pair["label"]).name for pair in pairs}
    if extra := [path.name for path in _entries(labels) if path.name.endswith(suffix) and path.name not in used]:
        logger.warning("labels without an image are left out: %s", ", ".join(extra[:SHOWN]))
    return pairs


def case_name(path: str | Path, channels: Sequence[str] = ()) -> str:
    """Name a case.

    It is the file's name without image suffix, or the folder's whole name (dots in UIDs are kept).

    Args:
        path: of the case.
        channels: endings of names, see `channel_files`; that of the first channel is no part of the name.

    Returns:
        The name.

    Example:
        >>> case_name("study/case_1.nii.gz")
        'case_1'
    """
    path = Path(path)
    name = path.absolute().parent.name if path.name.upper() == "DICOMDIR" else path.name
    suffix = next((suffix for suffix in (*SUFFIXES, *CASE_SUFFIXES) if name.lower().endswith(suffix)), "")
    return without_channel(name[: len(name) - len(suffix)], channels if suffix else ())


def case_and_result(path: Path) -> tuple[str, str]:
    """Name of the case that a file is of, and as which result of it: one of RESULT_ENDINGS, or "" as the image."""
    name = case_name(path)
    ending = next((ending for ending in RESULT_ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending), ending


def image_files(folder: Path) -> list[Path]:
    """Files of a folder that are named like images, hidden ones left out, by name."""
    return [entry for entry in _entries(folder) if entry.is_file() and is_image_file(entry)]


def list_cases(path: Path, *, whole: bool = False, channels: Sequence[str] = ()) -> list[Path]:
    """List the cases of one path.

    As `find_cases` does, but cases may write the same results.

    What cannot be looked into is a case, too: an entry that may not be read, or a link to nothing that is named like an
    image or a folder. Reading it says why.

    Args:
        path: file or folder.
        whole: see `find_cases`.
        channels: see `find_cases`.

    Returns:
        Paths of the cases.

    Raises:
        InputError: the path does not exist or may not be read, or a folder holds nothing to segment.
    """
    if not path.exists():
        raise InputError(f"input must exist, got {path}; check the path")
    if not path.is_dir():
        return [path]
    path = path.resolve()  # so that `.` has a name
    try:
        if holds_dicom(path) or (whole and is_dicom_source(path)):
            return [path]
        if (path / "imagesTs").is_dir():
            return list_cases(path / "imagesTs", whole=whole, channels=channels)
        entries = _entries(path)
    except OSError as error:
        raise InputError(f"a folder must be readable, got {error.strerror} for {path}") from error
    entries = [entry for entry in entries if not is_other_channel(entry, channels)]
    images = [entry for entry in entries if is_image_file(entry) and not entry.is_dir()]
    known = set(images)
    series = [entry for entry in entries if entry not in known and _may_be_series(entry)]
    names = {case_name(case, channels) for case in (*images, *series)}
    kinds = {image: case_and_result(image) for image in images}
    cases = [image for image, (name, ending) in kinds.items() if not (ending and name in names)] + series
    if not cases:
        raise InputError(f"a folder must hold {', '.join(SUFFIXES)} files or DICOM series, found none in {path}")
    return cases


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]


def _may_be_series(entry: Path) -> bool:
    try:
        if entry.is_symlink() and not entry.exists():
            return entry.suffix.lower() in ("", *CASE_SUFFIXES)
        return is_dicom_source(entry)
    except OSError:  # reading it says why
        return True
