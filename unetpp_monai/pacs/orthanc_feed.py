"""Series of an Orthanc server: its change feed keeps what happened while we were away, its list what the feed lost."""

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import PacsError, UnavailableError
from .archive import Credentials, SeriesRef
from .dicomweb import Dicomweb, http_errors
from .found import ARRIVING, KNOWN, READY, Found
from .journal import Job
from .rules import SeriesFacts
from .series_queue import SeriesQueue, with_uids
from .transfer import pull_series

logger = logging.getLogger(__name__)

PAGE = 100  # changes in one answer, series asked about in one request
MOST_PAGES = 200  # in one look, so that complete series do not wait until years of changes are read
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte


class OrthancFeed:
    """Series of an Orthanc server that got no instance for a while.

    Orthanc says so of each (`StableSeries`, after its `StableAge`), but not of those that it was restarted before. So
    all that arrive are remembered, and asked about; and what the feed no longer tells is found in the list of series.

    Args:
        url: of its REST interface, such as `http://host:8042`.
        access: credentials and certificates.
        everything: a new journal begins with what Orthanc already holds, not with what comes from now on.
        settle_seconds: without a change, as we see it, until a series of which Orthanc says nothing counts as complete.
        compare_seconds: between two comparisons of how many series it holds with how many we saw.
    """

    def __init__(
        self,
        url: str,
        access: Credentials | None = None,
        *,
        everything: bool = False,
        settle_seconds: float = 10.0,
        compare_seconds: float = 60.0,
    ) -> None:
        self.url, self.everything = url.rstrip("/"), everything
        self.settle_seconds, self.compare_seconds = settle_seconds, compare_seconds
        self.session = (access or Credentials()).session(url)
        self.archive = Dicomweb(f"{self.url}/dicom-web", access)
        self._compared: float | None = None  # when; None: to be done, whatever the numbers say
        self._settling: dict[str, tuple[object, float]] = {}  # series -> what it was when it last changed, when

    def look(self, queue: SeriesQueue) -> None:
        """Read the feed on from the journal's place, and note what is complete, as long as the queue has a place."""
        found = Found(queue.journal, self.url)
        try:
            if self._follow(found):
                self._compare(found)
            self._settle(found)
            for name in found.due(READY, queue.max_queue):
                if queue.full():
                    logger.debug("the queue is full, the rest waits")
                    return
                found.attempt(name, partial(self._note, name, queue), partial(self._reject, name, queue))
        except UnavailableError:
            self._compared = None  # it may come back with another feed, or without what it was told last
            raise

    def fetch(self, job: Job, folder: Path) -> None:
        """Pull the job's series over DICOMweb."""
        pull_series(self.archive, SeriesRef(job.study, job.series), folder)

    def _follow(self, found: Found) -> bool:
        """Read the feed on; return whether to its end."""
        journal = found.journal
        place = self._place(found)
        for _ in range(MOST_PAGES):
            answer = self._get("/changes", since=place, limit=PAGE)
            if answer["Last"] < place:
                logger.warning("the archive's feed ends before change %d: begun anew, we read it all", place)
                place, self._compared = 0, None
                continue
            states = self._states(answer["Changes"])
            place = answer["Last"]
            with journal.transaction():
                for name, state in states.items():
                    found.put([name], state)
                journal.set_place(self.url, place)
            if answer["Done"]:
                return True
        return False

    def _place(self, found: Found) -> int:
        """Where to read on; what a new journal is not to begin with is noted as known."""
        journal = found.journal
        place = journal.place(self.url)
        if place is None:
            place = 0 if self.everything else int(self._get("/changes", last="")["Last"])
            held = [] if self.everything else self._get("/series")
            with journal.transaction():
                journal.set_place(self.url, place)
                journal.set_listed(self.url)
                found.put(held, KNOWN)
            logger.info("a new journal: the archive's feed is read from change %d on", place)
        return place

    def _states(self, changes: list[dict[str, Any]]) -> dict[str, str]:
        """Series of which changes tell, in order, and how far each is by the last one."""
        instances = [change["ID"] for change in changes if change["ChangeType"] == "NewInstance"]
        parents = {one["ID"]: one["ParentSeries"] for one in self._bulk("Instance", instances)}
        states: dict[str, str] = {}
        for change in changes:
            kind = change["ChangeType"]
            name = parents.get(change["ID"]) if kind == "NewInstance" else change["ID"]
            if name is not None and kind in ("NewInstance", "NewSeries", "StableSeries"):
                states.pop(name, None)
                states[name] = READY if kind == "StableSeries" else ARRIVING
        return states

    def _compare(self, found: Found) -> None:
        """Find in the list of series what the feed does not tell: its beginning may be deleted, or all of it."""
        now = time.monotonic()
        if not found.journal.is_listed(self.url):  # a journal of an older package: what it did not see is not for us
            found.reconcile(self._get("/series"), new=KNOWN)
            with found.journal.transaction():
                found.journal.set_listed(self.url)
        elif self._compared is None or (
            now - self._compared >= self.compare_seconds and self._get("/statistics")["CountSeries"] != found.count()
        ):
            found.reconcile(self._get("/series"))
        elif now - self._compared < self.compare_seconds:
            return
        self._compared = now

    def _settle(self, found: Found) -> None:
        """Ask about series that arrive: the ones that do not change any more are ready."""
        names = found.due(ARRIVING, PAGE)
        held = {one["ID"]: one for one in self._bulk("Series", names)}
        with found.journal.transaction():
            found.drop(name for name in names if name not in held)  # deleted since
            found.put(held, ARRIVING)  # those asked about least recently are next
            found.put([name for name, about in held.items() if self._is_settled(name, about)], READY)

    def _is_settled(self, name: str, about: dict[str, Any]) -> bool:
        now, facts = time.monotonic(), (about.get("LastUpdate"), len(about["Instances"]))
        before, since = self._settling.get(name, (None, now))
        if not about["IsStable"] or before != facts:
            self._settling[name] = facts if about["IsStable"] else None, now
            return False
        if now - since < self.settle_seconds:
            return False
        del self._settling[name]
        return True

    def _note(self, name: str, queue: SeriesQueue) -> None:
        self._settling.pop(name, None)
        try:
            facts = self._facts(name)
        except UnavailableError as error:
            self._get("/system")  # raises if it is the server that has a fault, not this series
            raise PacsError("a series must be readable, got no answer, though the archive is in order") from error
        if facts is not None:
            with queue.journal.transaction():
                queue.note(facts)

    def _reject(self, name: str, queue: SeriesQueue, reason: str) -> None:
        """Give up what cannot be looked at: the journal knows it by Orthanc's own identifier."""
        queue.reject(SeriesFacts("", name, (), "", "", "", 0, None), reason)

    def _facts(self, series: str) -> SeriesFacts | None:
        """Facts of a series by Orthanc's own identifier; None: it was deleted since."""
        instances = self._get(f"/series/{series}/instances", missing=[])
        if not instances:
            return None
        headers = [instance["MainDicomTags"] for instance in instances]
        first = self._get(f"/instances/{instances[0]['ID']}/simplified-tags", missing={})
        complete = {keyword: value for keyword, value in first.items() if isinstance(value, str)}
        return with_uids(SeriesFacts.from_headers([{**headers[0], **complete}, *headers[1:]]))

    def _bulk(self, level: str, names: list[str]) -> list[dict[str, Any]]:
        """What Orthanc says of resources, in one request; those deleted since are left out."""
        if not names:
            return []
        with http_errors(self.url):
            asked = {"Resources": names, "Level": level, "Short": True}
            response = self.session.post(f"{self.url}/tools/bulk-content", json=asked, timeout=TIMEOUT)
            if response.status_code == 404:
                raise PacsError(f"{self.url} must be Orthanc 1.9.4 or later, got one without bulk content; update it")
            response.raise_for_status()
            return [one for one in response.json() if one["Type"] == level]

    def _get(self, path: str, missing: Any = None, **query: Any) -> Any:
        """JSON of Orthanc's REST interface; `missing` where it answers 404."""
        with http_errors(self.url):
            response = self.session.get(self.url + path, params=query, timeout=TIMEOUT)
            if response.status_code == 404 and missing is not None:
                return missing
            response.raise_for_status()
            return response.json()
