"""Find the cases in files and folders, and name them."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..dicom.discovery import holds_dicom, is_dicom_source
from ..errors import AmbiguityError, InputError
from .channels import channel_files, is_other_channel, without_channel
from .reader import SUFFIXES, is_image_file

SHOWN = 10  # most names in a warning
CASE_SUFFIXES = (".zip", ".dcm")  # of DICOM; other names are kept whole
RESULT_ENDINGS = ("_seg", "_uncertainty", ".seg")  # of result names without suffix (`.seg`: from `.seg.nrrd`)

logger = logging.getLogger(__name__)


def find_cases(
    inputs: Iterable[str | Path] | str | Path, *, whole: bool = False, channels: Sequence[str] = ()
) -> list[Path]:
    """List the cases in files and folders.

    A file is one case, and so is a folder with DICOM files. In any other folder (or in its `imagesTs`, as in the
    Medical Segmentation Decathlon), each image file, zip and folder with DICOM at any depth is a case. Cases are sorted
    by name within each path. Skipped: hidden files, results beside a case `NAME` (`NAME_seg.*`, `NAME.seg.nrrd`,
    `NAME_uncertainty.*`) and repeated paths.

    Args:
        inputs: files and folders.
        whole: treat a folder with DICOM at any depth as one case, for use with a named series.
        channels: file name endings, see `channel_files`; the file of the first channel represents the case.

    Returns:
        Paths of the cases.

    Raises:
        InputError: a path does not exist, or a folder has no images.
        AmbiguityError: two cases would write the same results.

    Example:
        >>> [case.name for case in find_cases(Path(__file__).parents[1] / "sample")]
        ['mni_head.nii.gz', 'mni_hippocampus_right.nii.gz']
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    cases = (case for path in paths for case in list_cases(Path(path), whole=whole, channels=channels))
    return distinct_cases(cases, channels=channels)


def distinct_cases(cases: Iterable[Path], *, channels: Sequence[str] = ()) -> list[Path]:
    """Remove repeated cases.

    Raises:
        AmbiguityError: two cases would write the same results.
    """
    names: dict[str, Path] = {}
    for case in cases:
        other = names.setdefault(case_name(case, channels), case)
        if other.resolve() != case.resolve():
            raise AmbiguityError(
                f"results are named after cases, got {other} and {case}; rename one, or run them separately"
            )
    return list(names.values())


def labelled_cases(
    images: str | Path, labels: str | Path, suffix: str, channels: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Pair images and labels of the same name for training.

    Labels without an image are left out, with a warning.

    Args:
        images: folder.
        labels: folder.
        suffix: ending of image file names; other files and hidden files are ignored.
        channels: endings before the suffix, see `channel_files`; label names have none.

    Returns:
        Paths of the image and label of each case.

    Raises:
        InputError: no such folder of images or no images in it, or a label or channel is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "case.nii.gz").touch()
        ...     len(labelled_cases(folder, folder, ".nii.gz"))
        1
    """
    images, labels = Path(images), Path(labels)
    if not images.is_dir():
        raise InputError(f"folder of images must exist, got {images}; check dataset_dir and image_folder")
    found = [path for path in visible(images) if path.name.endswith(suffix)]
    if not found:
        raise InputError(f"images must be named *{suffix}, found none in {images}; check image_folder and suffix")
    firsts = [path for path in found if not is_other_channel(path, channels)]
    for path in firsts:
        channel_files(path, channels)
    names = (without_channel(path.name.removesuffix(suffix), channels) + suffix for path in firsts)
    pairs = [{"image": str(path), "label": str(labels / name)} for path, name in zip(firsts, names, strict=True)]
    lost = [pair["label"] for pair in pairs if not Path(pair["label"]).exists()]
    if lost:
        raise InputError(f"every image must have a label of its name, {len(lost)} are missing, such as {lost[0]}")
    used = {Path(pair["label"]).name for pair in pairs}
    if extra := [path.name for path in visible(labels) if path.name.endswith(suffix) and path.name not in used]:
        logger.warning("labels without an image are left out: %s", ", ".join(extra[:SHOWN]))
    return pairs


def case_name(path: str | Path, channels: Sequence[str] = ()) -> str:
    """Name a case.

    The name is the file name without image suffix, or the whole folder name (dots in UIDs are kept).

    Args:
        path: image file or folder.
        channels: file name endings, see `channel_files`; the ending of the first channel is removed.

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
    """Split a file name into case name and result ending: one of RESULT_ENDINGS, or "" for the image."""
    name = case_name(path)
    ending = next((ending for ending in RESULT_ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending), ending


def image_files(folder: Path) -> list[Path]:
    """List files and broken links with image suffixes, sorted by name, without hidden ones."""
    return [entry for entry in visible(folder) if is_image_file(entry) and not entry.is_dir()]


def list_cases(path: Path, *, whole: bool = False, channels: Sequence[str] = ()) -> list[Path]:
    """List the cases of one path.

    As `find_cases`, but does not check whether two cases would write the same results.

    Unreadable entries, and broken links named like an image or folder, are listed too: reading them gives the error.

    Args:
        path: file or folder.
        whole: see `find_cases`.
        channels: see `find_cases`.

    Returns:
        Paths of the cases.

    Raises:
        InputError: the path does not exist or is unreadable, or a folder has no images.

    Example:
        >>> [case.name for case in list_cases(Path(__file__).parents[1] / "sample")]
        ['mni_head.nii.gz', 'mni_hippocampus_right.nii.gz']
    """
    try:
        if not path.exists():
            raise InputError(f"input must exist, got {path}; check the path")
        if not path.is_dir():
            return [path]
        path = path.resolve()  # so that `.` has a name
        if holds_dicom(path) or (whole and is_dicom_source(path)):
            return [path]
        if (path / "imagesTs").is_dir():
            return list_cases(path / "imagesTs", whole=whole, channels=channels)
        entries = visible(path)
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


def visible(folder: Path) -> list[Path]:
    """List the entries of a folder, sorted by name, without hidden ones.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"a folder must be readable, got {error.strerror} for {folder}") from error


def _may_be_series(entry: Path) -> bool:
    try:
        if entry.is_symlink() and not entry.exists():
            return entry.suffix.lower() in ("", *CASE_SUFFIXES)
        return is_dicom_source(entry)
    except OSError:  # reading it gives the error
        return True
