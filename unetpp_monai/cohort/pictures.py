"""The picture of a case for the report, drawn where the case was segmented; without one, the case stays as it is."""

import logging
from pathlib import Path

from ..bundle import Bundle
from ..faults import STOP, trace_of
from ..io import read_case
from ..io.overview import write_overview
from ..segmentation import Segmentation
from ..workflows.request import Request
from .cases import Case

logger = logging.getLogger(__name__)


def draw_case(case: Case, result: Segmentation, bundle: Bundle, request: Request, folder: Path) -> None:
    """Write the overview of a case, named by its id, if it can be drawn.

    Args:
        case: which.
        result: of it.
        bundle: that gave the result.
        request: what was wanted of the case.
        folder: for pictures.
    """
    try:
        image = read_case(
            case.path,
            channels=bundle.channel_suffixes,
            series=request.series,
            in_channels=bundle.input.channels,
            channel_names=bundle.input.channel_names,
        )
        indices = [label.index for label in bundle.labels]
        write_overview(image.volume, result.labels, folder / f"{case.id}.webp", indices=indices)
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - results are delivered; a picture that cannot be drawn is left out
        logger.warning("no picture of case %s: %s", case.id, trace_of(error))
