"""Which cases a path means, and what their results are called."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import AmbiguityError, InputError
from .dicom_files import holds_dicom, is_dicom_source
from .reader import SUFFIXES, is_image_file

CASE_SUFFIXES = (".zip", ".dcm")  # DICOM, whose other file names have none


def find_cases(inputs: Iterable[str | Path] | str | Path, *, whole: bool = False) -> list[Path]:
    """List the cases that paths stand for, in the order of their names within each path.

    A file is a case; a folder with DICOM files is a case; any other folder stands for the image files, zips and folders
    with DICOM in them or below, or for those in its `imagesTs` if it has one (Medical Segmentation Decathlon). A label
    map `NAME_seg.*` beside its image `NAME.*`, and hidden files, are no cases; a path named twice is one case.

    Args:
        inputs: files and folders.
        whole: every folder with DICOM in it or below is one case, in which a series will be named.

    Raises:
        InputError: a path does not exist, or a folder holds nothing to segment.
        AmbiguityError: two cases would write the same results.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return distinct_cases(case for path in paths for case in _cases_in(Path(path), whole))


def distinct_cases(cases: Iterable[Path]) -> list[Path]:
    """Drop cases that were named twice.

    Raises:
        AmbiguityError: two cases would write the same results.
    """
    names: dict[str, Path] = {}
    for case in cases:
        other = names.setdefault(case_name(case), case)
        if other.resolve() != case.resolve():
            raise AmbiguityError(f"results are named after cases, got {other} and {case}; rename or run them apart")
    return list(names.values())


def case_name(path: str | Path) -> str:
    """Name of a case: its file name without image suffix, or its folder's whole name (dots in UIDs kept)."""
    path = Path(path)
    name = path.absolute().parent.name if path.name.upper() == "DICOMDIR" else path.name
    suffix = next((suffix for suffix in (*SUFFIXES, *CASE_SUFFIXES) if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _cases_in(path: Path, whole: bool) -> list[Path]:
    if not path.exists():
        raise InputError(f"input must exist, got {path}; check the path")
    if not path.is_dir():
        return [path]
    path = path.resolve()  # so that `.` has a name
    if holds_dicom(path) or (whole and is_dicom_source(path)):
        return [path]
    if (path / "imagesTs").is_dir():
        return _cases_in(path / "imagesTs", whole)
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    images = [entry for entry in entries if entry.is_file() and is_image_file(entry)]
    names = {case_name(image) for image in images}
    cases = [image for image in images if case_name(image).removesuffix("_seg") not in names - {case_name(image)}]
    cases += [entry for entry in entries if entry not in images and is_dicom_source(entry)]
    if not cases:
        raise InputError(f"a folder must hold {', '.join(SUFFIXES)} files or DICOM series, found none in {path}")
    return cases
