"""Find the series in a tree of DICOM folders, and choose those that a rule accepts."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dicom.media import walk
from ..dicom.reading import look
from ..faults import STOP, trace_of
from ..pacs.rules import OWN_MODALITIES, Rule, SeriesFacts, choose_rule
from ..pacs.series_queue import header_texts, with_uids

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """A series of a tree."""

    facts: SeriesFacts
    folder: Path  # common to all of its files
    alone: bool  # no other image series has files there

    def objection(self, rules: Sequence[Rule]) -> str:
        """Return why no rule accepts it, in the words of `listen`; empty: one does."""
        if self.facts.modality in OWN_MODALITIES:
            return "result"
        return choose_rule(rules, self.facts)[1]


def series_below(root: Path) -> Iterator[Series]:
    """Yield the series of a tree, ordered by folder and UID; unreadable files are skipped with a warning."""
    headers: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    folders: dict[tuple[str, str], set[Path]] = defaultdict(set)
    for path in walk(root):
        if not path.is_file() or not look(path).dicom:
            continue
        try:
            header = header_texts(path)
            key = header["StudyInstanceUID"], header["SeriesInstanceUID"]
            with_uids(SeriesFacts.from_headers([header]))
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - a damaged file can raise anything; skip only this file
            logger.warning("a DICOM file names no series, or cannot be read: %s", trace_of(error))
            continue
        headers[key].append(header)
        folders[key].add(path.parent)
    common = {key: Path(os.path.commonpath(found)) for key, found in folders.items()}
    images = {key for key, found in headers.items() if found[0].get("Modality") not in OWN_MODALITIES}
    for key in sorted(headers, key=lambda key: (common[key], key)):
        others = (folders[other] for other in images if other != key)
        alone = not any(folder.is_relative_to(common[key]) for found in others for folder in found)
        yield Series(SeriesFacts.from_headers(headers[key]), common[key], alone)
