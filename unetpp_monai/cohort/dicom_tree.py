"""DICOM of many studies, in whatever folders: which series there are, and which of them rules accept."""

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
    folder: Path  # that holds all of its files, in it or below
    alone: bool  # no other series of images lies there

    def objection(self, rules: Sequence[Rule]) -> str:
        """Why it is not wanted, as `listen` says it; empty: a rule accepts it."""
        if self.facts.modality in OWN_MODALITIES:
            return "result"
        return choose_rule(rules, self.facts)[1]


def series_below(root: Path) -> Iterator[Series]:
    """List the series of a tree, in the order of their folders and UIDs; files that cannot be read are left out."""
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
        except BaseException as error:  # noqa: BLE001 - untrusted bytes can raise anything; one file, one warning
            logger.warning("a DICOM file says of no series, or cannot be read: %s", trace_of(error))
            continue
        headers[key].append(header)
        folders[key].add(path.parent)
    common = {key: Path(os.path.commonpath(found)) for key, found in folders.items()}
    images = {key for key, found in headers.items() if found[0].get("Modality") not in OWN_MODALITIES}
    for key in sorted(headers, key=lambda key: (common[key], key)):
        others = (folders[other] for other in images if other != key)
        alone = not any(folder.is_relative_to(common[key]) for found in others for folder in found)
        yield Series(SeriesFacts.from_headers(headers[key]), common[key], alone)
