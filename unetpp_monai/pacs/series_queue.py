"""Record incoming series; queue those that a rule accepts; skip our own results."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..dicom.discovery import SERIES_TAGS
from ..dicom.reading import parse
from ..errors import InputError
from ..faults import STOP
from .archive import UID
from .journal import OPEN, QUEUED, Job, Journal
from .rules import OWN_MODALITIES, Rule, SeriesFacts, choose_rule

if TYPE_CHECKING:
    import pydicom

logger = logging.getLogger(__name__)

HEADER_TAGS = (*SERIES_TAGS, "BodyPartExamined")


class Source(Protocol):
    """Where series come from."""

    def look(self, queue: "SeriesQueue") -> None:
        """Note what is new, as long as the queue is not full; `UnavailableError`: look again later."""

    def fetch(self, job: Job, folder: Path) -> None:
        """Copy all instances of a job's series into `folder`, or none of them."""


@dataclass(frozen=True)
class SeriesQueue:
    """Record series in the journal and queue those that a rule accepts."""

    journal: Journal
    rules: Sequence[Rule]
    max_queue: int = 100  # open jobs at which reading pauses

    def waiting(self) -> int:
        """How many jobs are open."""
        counts = self.journal.counts()
        return sum(counts[state] for state in OPEN)

    def full(self) -> bool:
        """Whether the queue has no place left."""
        return self.waiting() >= self.max_queue

    def reject(self, facts: SeriesFacts, reason: str) -> None:
        """Record that a series cannot be read, and why."""
        with self.journal.transaction():
            job = self.journal.reject(facts, reason)
        logger.warning("job %d: %s, %s", job.id, job.state, reason)

    def note(self, facts: SeriesFacts) -> Job:
        """Note a series, inside a transaction of the journal; return its job, new or known."""
        if facts.modality in OWN_MODALITIES or self.journal.is_own(facts):
            rule, reason = None, "result"
        else:
            rule, reason = choose_rule(self.rules, facts)
        known = self.journal.find(facts)
        job = self.journal.add(facts, rule=None if rule is None else self.rules[rule], reason=reason)
        if job.state == QUEUED and (known is None or known.state != QUEUED):
            logger.info("job %d: queued by rule %d, %d instances", job.id, (rule or 0) + 1, job.instances)
        return job


def folder_facts(folder: Path) -> SeriesFacts:
    """Read the facts of a series from the headers of its files in a folder.

    Raises:
        InputError: a UID is not valid.
        BaseException: whatever damaged data make pydicom raise.
    """
    headers = [header_texts(path) for path in sorted(folder.glob("*.dcm"))]
    return with_uids(SeriesFacts.from_headers(headers))


def header_texts(path: Path) -> dict[str, str]:
    """Read of a DICOM file what rules look at: keyword -> text.

    Raises:
        BaseException: whatever damaged data make pydicom raise.
    """
    with path.open("rb") as file:
        header = parse(file, HEADER_TAGS)
    return {keyword: _text(header, keyword) for keyword in HEADER_TAGS if keyword in header}


def with_uids(facts: SeriesFacts) -> SeriesFacts:
    """Check the UIDs of a series, and return its facts.

    Raises:
        InputError: a UID is not valid.
    """
    if not all(UID.fullmatch(uid) for uid in (facts.study, facts.series, *facts.instances)):
        raise InputError("UIDs must be up to 64 digits and dots, a digit first, got another one")
    return facts


def unread_facts(folder: Path) -> SeriesFacts:
    """What is known of a received series without a look into its files: their names are its UIDs."""
    return SeriesFacts("", folder.name, tuple(sorted(path.stem for path in folder.glob("*.dcm"))), "", "", "", 0, None)


def _text(header: "pydicom.Dataset", keyword: str) -> str:
    """Give a value as text; empty if it is missing or malformed, which is no reason to stop."""
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence as Items

    try:
        value = header[keyword].value
        if isinstance(value, bytes | Items):
            return ""
        return "\\".join(str(one) for one in value) if isinstance(value, MultiValue) else str(value)
    except STOP:
        raise
    except BaseException:  # noqa: BLE001 - untrusted bytes can raise anything
        return ""
