"""Segment many cases, one row each: an error becomes the row of its case, and the others continue."""

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import AmbiguityError, UnetppError
from ..faults import STOP
from ..files import finish_interrupted
from ..io import case_name, list_cases
from ..segmenter import Progress, Segmentation, Segmenter
from .done import is_done
from .request import Request
from .segment import REPORT, Then, Unless, nothing, segment_case

LOG = "unetpp_errors.log"  # in the folder of the results: what a row has no place for
REASON_LENGTH = 400  # characters of a row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """The result of a case, or of an input that could not be listed."""

    case: Path
    status: str  # "written", "done" before, or "failed"
    reason: str = ""  # of a failure, one line
    error: BaseException | None = None  # of a failure
    result: Segmentation | None = None  # of what was written


def collect_cases(
    inputs: Iterable[Path], *, whole: bool = False, channels: Sequence[str] = ()
) -> tuple[list[Path], list[Row]]:
    """List the cases of all inputs, as `find_cases` does, and a row for each that cannot be one.

    Args:
        inputs: files and folders.
        whole: see `find_cases`.
        channels: see `find_cases`.

    Returns:
        Cases, in order; failed rows of inputs without case, and of cases that would replace results of an earlier one.
    """
    named: dict[str, Path] = {}
    rows: list[Row] = []
    for path in inputs:
        try:
            found = list_cases(path, whole=whole, channels=channels)
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - an input that cannot be listed takes no other with it
            rows.append(failed(path, error))
            continue
        for case in found:
            other = named.setdefault(case_name(case, channels), case)
            if other is not case and other.resolve() != case.resolve():
                message = f"results are named after cases, got {other} and {case}; rename or run them apart"
                rows.append(failed(case, AmbiguityError(message)))
    return list(named.values()), rows


def segment_cases(
    segmenter: Segmenter,
    cases: Sequence[Path],
    output: Path,
    request: Request,
    *,
    verify: bool = False,
    progress: Callable[[Path], Progress | None] = lambda case: None,
) -> Iterator[Row]:
    """Segment cases one after the other; those that are done already are not done again.

    Args:
        segmenter: what segments.
        cases: image files or DICOM.
        output: an existing folder; what a killed run left in it is cleared up first.
        request: what to write of each; if it overwrites, all are done again.
        verify: see `is_done`.
        progress: of a case, called when its turn comes.

    Yields:
        A row for each case, in order.

    Raises:
        OutputError: the folder cannot be used.
    """
    finish_interrupted(output, ending=REPORT)
    unless = None if request.overwrite else partial(is_done, verify=verify)
    for case in cases:
        yield attempt(segmenter, case, output, request, unless=unless, progress=progress(case))


def attempt(
    segmenter: Segmenter,
    case: Path,
    output: Path,
    request: Request,
    *,
    unless: Unless | None,
    progress: Progress | None = None,
    then: Then = nothing,
) -> Row:
    """Segment one case; whatever it raises is its row.

    Args:
        segmenter: see `segment_case`, as of all others.
        case: which.
        output: an existing folder.
        request: what to write.
        unless: see `segment_case`.
        progress: called after each batch of windows.
        then: see `segment_case`.
    """
    try:
        result = segment_case(segmenter, case, output, request, unless=unless, progress=progress, then=then)
        return Row(case, "done" if result is None else "written", result=result)
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - one case, one row; decoders written in Rust raise BaseException
        return failed(case, error, log=None if request.key is not None else output / LOG)


def failed(case: Path, error: BaseException, *, log: Path | None = None) -> Row:
    """Make the row of a case that failed.

    Args:
        case: which.
        error: what it raised.
        log: file for the trace of an error that is not ours; None: it may name a patient, or there is no place.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, UnetppError):
        return Row(case, "failed", " ".join(lines) or type(error).__name__, error)
    said = "more memory than there is" if isinstance(error, MemoryError) else (lines or [""])[0][:REASON_LENGTH]
    reason = f"{type(error).__name__}: {said}".removesuffix(": ")
    if log is not None:
        try:
            with log.open("a") as file:
                file.write(f"{case}\n{''.join(traceback.format_exception(error))}\n")
            reason += f" (see {log.name})"
        except OSError:  # full or gone, as the results' own place is
            logger.debug("no trace of %s could be written", case)
    return Row(case, "failed", reason, error)
