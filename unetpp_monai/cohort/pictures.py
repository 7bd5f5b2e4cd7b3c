"""Draw the picture of a case for the report; a picture that cannot be drawn is left out."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..faults import STOP, trace_of
from ..io.overview import write_overview
from ..segmentation import Segmentation
from ..volume import Volume

logger = logging.getLogger(__name__)


def draw_case(path: Path, indices: Sequence[int], image: Volume, result: Segmentation) -> None:
    """Replace the overview of a case.

    Args:
        path: of the picture, named after the case's id.
        indices: of the labels.
        image: of the case.
        result: what was found in it.
    """
    try:
        path.unlink(missing_ok=True)
        write_overview(image, result.labels, path, indices=indices)
    except STOP:
        raise
    except BaseException as error:  # noqa: BLE001 - the results are delivered already; go on without a picture
        logger.warning("no picture of case %s: %s", path.stem, trace_of(error))
