"""The loop: look for new series, segment one, store the results, remember; killed at any moment, it goes on there."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError, JournalError, OutputError, PacsError, UnavailableError
from ..faults import STOP, trace_of
from ..files import TEMPORARY, private_folder, whole_folder
from .archive import Remote
from .journal import DEAD, FAILED, OPEN, QUEUED, REJECTED, RUNNING, STORED, SUPERSEDED, Job
from .rules import Rule
from .series_queue import SeriesQueue, Source, folder_facts

logger = logging.getLogger(__name__)

SERIES, RESULTS = "series", "results"  # folders of a job in the spool
LONGEST_SILENCE = 60.0  # seconds between two calls at an archive that is down


class Processor(Protocol):
    """What makes results of a series."""

    def __call__(self, series_folder: Path, output: Path, *, rule: Rule) -> list[Path]:
        """Segment the series in a folder; write DICOM files into `output` and return those to store.

        Raises:
            InputError: the series cannot be segmented; it is not tried again.
        """


@dataclass(frozen=True)
class Schedule:
    """When a job that failed is tried again: after `first_seconds`, then twice as long each time."""

    attempts: int = 20  # then it becomes a dead letter; with the other defaults, after 11 hours
    first_seconds: float = 5.0
    longest_seconds: float = 3600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt 1, 2, ..."""
        return float(min(self.first_seconds * 2.0 ** min(attempt - 1, 60), self.longest_seconds))


class Listener:
    """Watches a source of series and stores results.

    Results are written completely, and their UIDs noted as ours, before the first one is sent; a listener that is
    killed sends the same ones again, and an archive keeps an instance once.

    Args:
        source: where series come from.
        queue: journal, rules and size of the queue.
        processor: makes results.
        store: where they go.
        spool: folder for series and results under way.
        schedule: of repeated tries.
    """

    def __init__(
        self,
        source: Source,
        queue: SeriesQueue,
        *,
        processor: Processor,
        store: Remote,
        spool: Path,
        schedule: Schedule | None = None,
    ) -> None:
        self.source, self.queue, self.journal = source, queue, queue.journal
        self.processor, self.store, self.spool = processor, store, spool
        self.schedule = schedule or Schedule()
        self._outages = 0  # of the archive that stores, since it last answered
        private_folder(spool)

    def run(self, *, poll_seconds: float = 5.0) -> None:
        """Work until the process is told to stop; a running job is then given back.

        Raises:
            PacsError: the source refuses us; an unreachable one is waited for.
            JournalError: nothing can be remembered.
        """
        self.recover()
        silent = 0
        while True:
            try:
                self.source.look(self.queue)
                self._remove_unused()
            except UnavailableError as error:
                silent += 1
                self._pause(silent, poll_seconds, "the archive cannot be reached", error)
                continue
            except (*STOP, JournalError, PacsError):
                raise
            except BaseException as error:  # noqa: BLE001 - what is found there is made by strangers
                silent += 1
                self._pause(silent, poll_seconds, "the archive cannot be looked at", error)
                continue
            silent = 0
            if not self.work() or self._outages:
                time.sleep(poll_seconds)

    def _pause(self, silent: int, poll_seconds: float, said: str, error: BaseException) -> None:
        wait = max(poll_seconds, min(self.schedule.delay(silent), LONGEST_SILENCE))
        logger.debug("%s", trace_of(error))
        logger.warning("%s (%s), again in %g s", said, type(error).__name__, wait)
        time.sleep(wait)

    def recover(self) -> None:
        """Recover after an earlier process: requeue its running jobs, remove unused folders."""
        for job in self.journal.jobs(RUNNING):
            with self.journal.transaction():
                if job.attempts >= self.schedule.attempts:
                    self.journal.finish(job, DEAD, reason="Interrupted")
                else:
                    self.journal.finish(job, QUEUED, reason="Interrupted")
            logger.info("job %d: interrupted in try %d", job.id, job.attempts)
        self._remove_unused()

    def _remove_unused(self) -> None:
        """Remove unused folders; no job may be running."""
        wanted = {str(job.id) for job in self.journal.jobs(*OPEN, DEAD)}
        for folder in self.spool.iterdir():
            if folder.name.isdecimal() and folder.name not in wanted:
                shutil.rmtree(folder)
            for half in folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(half)

    def work(self) -> bool:
        """Run the oldest job that is due; return whether there was one."""
        with self.journal.transaction():
            job = self.journal.claim()
        if job is None:
            return False
        try:
            self._run(job)
        except JournalError:  # nothing can be remembered: the job counts as interrupted at the next start
            raise
        except STOP:
            with self.journal.transaction():
                self.journal.give_back(job)
            logger.info("job %d: given back", job.id)
            raise
        except InputError as error:
            logger.debug("job %d: %s", job.id, trace_of(error))
            self._finish(job, REJECTED, type(error).__name__)
        except BaseException as error:  # noqa: BLE001 - one job of many; decoders written in Rust raise BaseException
            logger.debug("job %d: %s", job.id, trace_of(error))
            self._fail(job, type(error).__name__)
        return True

    def _run(self, job: Job) -> None:
        start = time.monotonic()
        series, results = (self.spool / str(job.id) / name for name in (SERIES, RESULTS))
        if not results.is_dir():
            if not series.is_dir():
                self.source.fetch(job, series)
            if self._changed(job, series):
                return
            self._segment(job, series, results)
        files = sorted(results.iterdir())
        with self.journal.transaction():
            self.journal.own(_uids(files), job)
        try:
            failed = self.store.push(files).failed
        except UnavailableError as error:
            self._postpone(job, error)
            return
        self._outages = 0
        if failed:
            raise PacsError(f"an archive must store each result, got {dict(failed)}")
        self._finish(job, STORED)
        logger.info("job %d: %d results stored after %.1f s", job.id, len(files), time.monotonic() - start)

    def _changed(self, job: Job, series: Path) -> bool:
        """Whether the series is not what it was when it was noted; then another job stands for it."""
        facts = folder_facts(series)
        if facts.fingerprint == job.fingerprint:
            return False
        self._finish(job, SUPERSEDED)
        with self.journal.transaction():
            self.queue.note(facts)
        return True

    def _segment(self, job: Job, series: Path, results: Path) -> None:
        if job.rule is None:
            raise OutputError(f"job {job.id} must have a rule, got none; the journal was changed by others")
        with whole_folder(results) as temporary:
            keep = set(self.processor(series, temporary, rule=job.rule))
            for path in set(temporary.iterdir()) - keep:
                path.unlink()
            if not keep:
                raise OutputError("a processor must make at least one DICOM file, got none")

    def _postpone(self, job: Job, error: UnavailableError) -> None:
        """Note that nothing could be stored as the archive was down, which costs no try."""
        logger.debug("job %d: %s", job.id, trace_of(error))
        reason = type(error).__name__
        self._outages += 1
        wait = min(self.schedule.delay(self._outages), LONGEST_SILENCE)
        with self.journal.transaction():
            self.journal.give_back(job)
            self.journal.finish(job, FAILED, reason=reason, next_try=time.time() + wait)
        logger.warning("job %d: results cannot be stored now, %s; again in %g s", job.id, reason, wait)

    def _fail(self, job: Job, reason: str) -> None:
        """Note that a try failed, and when the next one is."""
        if job.attempts >= self.schedule.attempts:
            self._finish(job, DEAD, reason)
            return
        wait = self.schedule.delay(job.attempts)
        with self.journal.transaction():
            self.journal.finish(job, FAILED, reason=reason, next_try=time.time() + wait)
        logger.warning(
            "job %d: try %d of %d failed, %s; again in %g s",
            *(job.id, job.attempts, self.schedule.attempts, reason, wait),
        )

    def _finish(self, job: Job, state: str, reason: str = "") -> None:
        with self.journal.transaction():
            self.journal.finish(job, state, reason=reason)
        if state != DEAD:  # whose results may still be sent
            shutil.rmtree(self.spool / str(job.id), ignore_errors=True)
        if state != STORED:
            logger.warning("job %d: %s%s", job.id, state, f", {reason}" if reason else "")


def _uids(files: Sequence[Path]) -> set[str]:
    """UIDs of the instances in files, and of their series."""
    import pydicom

    headers = [
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"])
        for path in files
    ]
    return {str(uid) for header in headers for uid in (header.SOPInstanceUID, header.SeriesInstanceUID)}
