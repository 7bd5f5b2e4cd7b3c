"""One series of each study to DICOM SEG and SR, by the code of the command line."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries

from unetpp_monai import Segmenter
from unetpp_monai.errors import AmbiguityError, InputError
from unetpp_monai.files import make_folder
from unetpp_monai.workflows.request import Request
from unetpp_monai.workflows.segment import segment_case

logger = logging.getLogger(__name__)

FORMATS = ("dicomseg", "sr")


class SegmentOperator(Operator):
    """Segment the selected series, and write `<series UID>_seg.dcm`, `_sr.dcm` and a report.

    The series is read from its folder once more, as the SDK's volume has no checked geometry: whatever the command
    line refuses (missing slices, another modality) is refused here, too. Every voxel of the SEG is read back before the
    file appears.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, segmenter: Segmenter, images: Path, results: Path, **kwargs: Any
    ) -> None:
        self._segmenter, self._images, self._results = segmenter, images, results
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """State the input."""
        spec.input("study_selected_series_list")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment one series of each study.

        Raises:
            InputError: no study has a series of the kind, or a series cannot be segmented.
            AmbiguityError: a study has several.
        """
        studies = op_input.receive("study_selected_series_list")
        if not studies:
            modality = self._segmenter.bundle.input.modality
            raise InputError(
                f"a study must have a series of modality {modality}, got none in {self._images}; choose another, "
                "or fill in SeriesNumber: the SDK's loader drops a series where it is empty"
            )
        chosen = [series_of(study) for study in studies]  # before anything is written
        make_folder(self._results)
        for uid in chosen:
            request = Request(formats=FORMATS, series=uid, name=uid)
            segment_case(self._segmenter, self._images, self._results, request)
            logger.info("written: %s", self._results / f"{uid}_seg.dcm")


def series_of(study: StudySelectedSeries) -> str:
    """UID of the only series that was selected of a study."""
    found: Sequence[Any] = study.selected_series
    if len(found) != 1:
        names = ", ".join(f"{one.series.SeriesDescription!r} {one.series.SeriesInstanceUID}" for one in found)
        raise AmbiguityError(f"one series of a study must be selected, got {names}; narrow CONDITIONS in app.py")
    return str(found[0].series.SeriesInstanceUID)
