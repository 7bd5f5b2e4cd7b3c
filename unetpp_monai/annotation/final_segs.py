"""Find the SEG series of a DICOMweb server with the final labels of images. Independent of MONAI Label."""

from collections.abc import Mapping
from typing import Any

from ..pacs import SeriesRef
from ..pacs.archive import checked_uid
from ..pacs.dicomweb import Dicomweb, http_errors

SERIES, STUDY, REFERENCES = "0020000E", "0020000D", "00081115"  # tags: UIDs, ReferencedSeriesSequence
SEGMENTS, KIND, MAKER = "00620002", "00620008", "00620009"  # SegmentSequence, SegmentAlgorithmType and ...Name
MODALITY, NO_IMAGES = "00080060", ("SEG", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "PR", "KO", "DOC", "")
DATE, TIME = "00080023", "00080033"  # of content


class FinalSegs:
    """The final labels of a server; each SEG is queried once.

    Args:
        archive: the server.
    """

    def __init__(self, archive: Dicomweb) -> None:
        self.archive = archive
        self._described: dict[str, tuple[str, str]] = {}  # UID of a SEG series -> (UID of its image, time of content)

    def newest(self) -> dict[str, str]:
        """Map each image to its newest SEG series not made by an algorithm alone."""
        newest: dict[str, tuple[str, str]] = {}
        for ref in find_series(self.archive, "SEG"):
            if ref.series not in self._described:
                with http_errors(self.archive.url):
                    rows = self.archive.client.retrieve_series_metadata(ref.study, ref.series)
                self._described[ref.series] = _described(rows[0])
            image, when = self._described[ref.series]
            newest[image] = max(newest.get(image, ("", "")), (when, ref.series))
        return {image: series for image, (_, series) in newest.items() if image}


def find_series(archive: Dicomweb, modality: str | None) -> list[SeriesRef]:
    """List all series of a modality on a server.

    Args:
        archive: the server.
        modality: such as "MR"; None: any except results, presentation states and documents.
    """
    filters = {} if modality is None else {"Modality": modality}
    with http_errors(archive.url):
        rows = archive.client.search_for_series(search_filters=filters, fields=["Modality"], get_remaining=True)
        if modality is None:
            rows = [row for row in rows if (row.get(MODALITY, {}).get("Value") or [""])[0] not in NO_IMAGES]
        return [SeriesRef(checked_uid(row[STUDY]["Value"][0]), checked_uid(row[SERIES]["Value"][0])) for row in rows]


def _described(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a SEG's image (empty if made by an algorithm alone) and time; `row` is DICOM JSON."""

    def value(item: Mapping[str, Any], tag: str) -> Any:
        return (item.get(tag, {}).get("Value") or [""])[0]

    segments = row.get(SEGMENTS, {}).get("Value", ())
    # MONAI Label's own apps mark annotators' labels as AUTOMATIC by MONAILABEL
    submitted = any(value(one, KIND) != "AUTOMATIC" or value(one, MAKER) == "MONAILABEL" for one in segments)
    image = str(value(value(row, REFERENCES) or {}, SERIES))
    return (image if submitted else ""), f"{value(row, DATE)}{value(row, TIME)}"
