"""The picture of a case for the report, drawn where the case was segmented; without one, the case stays as it is."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..faults import STOP, trace_of
from ..io.overview import write_overview
from ..segmentation import Segmentation
from ..volume import Volume

logger = logging.getLogger(__name__)


def draw_case(path: Path, indices: Sequence[int], image: Volume, result: Segmentation) -> None:
    """Write the overview of a case, if it can be drawn; one of an older result goes.

    Args:
        path: of the picture, which is named by the case's id.
        indices: of the labels.
        image: of the case.
        result: what was found in it.
    """
    try:
        path.unlink(missing_ok=True)
        write_overview(image, result.labels, path, indices=indices)
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - results are delivered; a picture that cannot be drawn is left out
        logger.warning("no picture of case %s: %s", path.stem, trace_of(error))
