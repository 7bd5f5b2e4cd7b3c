"""Series from Orthanc's change feed, which keeps what happened while we were away."""

import logging
from pathlib import Path
from typing import Any

from .archive import UID, Access, SeriesRef
from .dicomweb import Dicomweb, http_errors
from .intake import Intake
from .journal import Job
from .rules import SeriesFacts
from .transfer import pull_series

logger = logging.getLogger(__name__)

PAGE = 100  # changes in one answer
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte


class OrthancFeed:
    """Stable series of an Orthanc server: those that got no instance for its `StableAge`.

    Args:
        url: of its REST interface, such as `http://host:8042`.
        access: credentials and certificates.
        everything: a new journal begins with what Orthanc already holds, not with what comes from now on.
    """

    def __init__(self, url: str, access: Access | None = None, *, everything: bool = False) -> None:
        self.url, self.everything = url.rstrip("/"), everything
        self.session = (access or Access()).session(url)
        self.archive = Dicomweb(f"{self.url}/dicom-web", access)

    def look(self, intake: Intake) -> None:
        """Read the feed on from the journal's place; each series and the place behind it are noted at once."""
        journal = intake.journal
        place = self._place(intake)
        done = False
        while not done:
            answer = self._get("/changes", since=place, limit=PAGE)
            if answer["Last"] < place:
                logger.warning("the archive's feed ends before change %d: begun anew, we read it all", place)
                place = 0
                continue
            for change in answer["Changes"]:
                if change["ChangeType"] != "StableSeries":
                    continue
                if intake.full():
                    logger.debug("the queue is full, the rest of the feed waits")
                    return
                facts = self._facts(change["ID"])
                with journal.transaction():
                    if facts is not None:
                        intake.note(facts)
                    journal.set_place(self.url, change["Seq"])
            place, done = answer["Last"], answer["Done"]
            with journal.transaction():
                journal.set_place(self.url, place)

    def fetch(self, job: Job, folder: Path) -> None:
        """Pull the job's series over DICOMweb."""
        pull_series(self.archive, SeriesRef(job.study, job.series), folder)

    def _place(self, intake: Intake) -> int:
        place = intake.journal.place(self.url)
        if place is None:
            place = 0 if self.everything else int(self._get("/changes", last="")["Last"])
            with intake.journal.transaction():
                intake.journal.set_place(self.url, place)
            logger.info("a new journal: the archive's feed is read from change %d on", place)
        return place

    def _facts(self, series: str) -> SeriesFacts | None:
        """Facts of a series by Orthanc's own identifier; None: it was deleted since, or has no UIDs."""
        instances = self._get(f"/series/{series}/instances", missing=[])
        if not instances:
            return None
        headers = [instance["MainDicomTags"] for instance in instances]
        first = self._get(f"/instances/{instances[0]['ID']}/simplified-tags", missing={})
        complete = {keyword: value for keyword, value in first.items() if isinstance(value, str)}
        facts = SeriesFacts.from_headers([{**headers[0], **complete}, *headers[1:]])
        if not UID.fullmatch(facts.study) or not UID.fullmatch(facts.series):
            logger.warning("a series is left out: its UIDs are none")
            return None
        return facts

    def _get(self, path: str, missing: Any = None, **query: Any) -> Any:
        """JSON of Orthanc's REST interface; `missing` where it answers 404."""
        with http_errors(self.url):
            response = self.session.get(self.url + path, params=query, timeout=TIMEOUT)
            if response.status_code == 404 and missing is not None:
                return missing
            response.raise_for_status()
            return response.json()
