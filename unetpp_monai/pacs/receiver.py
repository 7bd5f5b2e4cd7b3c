"""Receive series by C-STORE; a series is complete when no instance has arrived for a while."""

import logging
import shutil
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..dicom.reading import parse
from ..errors import PacsError
from ..faults import STOP, trace_of
from ..files import private_folder
from .archive import checked_uid
from .dimse_association import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS, receiving
from .found import ARRIVING, Found
from .journal import FAILED, OPEN, QUEUED, SUPERSEDED, Job
from .limits import Limits
from .series_queue import SeriesQueue, folder_facts, unread_facts

if TYPE_CHECKING:
    from pynetdicom.events import Event

logger = logging.getLogger(__name__)

INCOMING = "incoming"  # folder of the spool, <series UID>/<SOP Instance UID>.dcm


class Receiver:
    """A storage application whose instances become jobs.

    Args:
        spool: folder of the listener; each job's series lies in `<spool>/<job>/series`.
        quiet_seconds: without a new instance until a series counts as complete.
        max_queue: series, arriving or queued, from which on a new one is refused as out of resources.
        min_free_bytes: of the disk, below which everything is refused.
    """

    def __init__(
        self, spool: Path, *, quiet_seconds: float = 10.0, max_queue: int = 100, min_free_bytes: int = 1 << 30
    ) -> None:
        self.spool, self.incoming = spool, spool / INCOMING
        self.quiet_seconds, self.max_queue, self.min_free_bytes = quiet_seconds, max_queue, min_free_bytes
        private_folder(spool)
        self.incoming.mkdir(exist_ok=True)
        for part in self.incoming.glob(".*.part"):  # of a process that died
            part.unlink()
        for gone in self.incoming.glob(".*.gone"):
            shutil.rmtree(gone)
        self._lock = threading.Lock()  # between those who receive and the one who looks
        self._waiting = 0  # open jobs when we last looked
        self._began = time.monotonic()  # what lies here then may still be arriving: its sender waits for us
        self._last: dict[str, float] = {}  # series -> when its last instance came

    @contextmanager
    def listening(
        self,
        aet: str,
        where: tuple[str, int],
        *,
        calling: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> Iterator[None]:
        """Accept instances while the block runs.

        Args:
            aet: our AE title; who calls another one is rejected.
            where: address and port.
            calling: AE titles that may send; none: all.
            tls: a server's context.
            limits: of what peers may take; None: the default ones.
        """
        from pynetdicom import evt

        self._began = time.monotonic()
        handlers = [(evt.EVT_C_STORE, self._receive)]
        with receiving(aet, where, handlers, calling=calling, tls=tls, limits=limits):
            yield

    def look(self, queue: SeriesQueue) -> None:
        """Note the series that are complete, and move them to their jobs."""
        self._waiting = queue.waiting()
        found = Found(queue.journal, INCOMING, noted=ARRIVING)  # whose name comes again is another
        found.reconcile(self._arriving())
        for name in found.due(ARRIVING, -1):
            folder = self.incoming / name
            with self._lock:
                if time.monotonic() - self._last.get(name, self._began) < self.quiet_seconds:
                    continue
                found.attempt(name, partial(self._note, folder, queue), partial(self._reject, folder, queue))
                if not folder.exists():
                    self._last.pop(name, None)
                self._waiting = queue.waiting()

    def fetch(self, job: Job, folder: Path) -> None:
        """Do nothing: the files were moved here when the job was recorded."""
        raise PacsError(f"the files of job {job.id} must be in {folder}, got none; send the series again")

    def _note(self, folder: Path, queue: SeriesQueue) -> None:
        if any(folder.glob("*.dcm")):
            self._take(folder, queue)
        else:  # killed before its first instance, or after its last
            _remove(folder)

    def _reject(self, folder: Path, queue: SeriesQueue, reason: str) -> None:
        """Give up what cannot be looked at: its journal names it, its files are deleted as those of other rejects."""
        if folder.is_dir():
            queue.reject(unread_facts(folder), reason)
            _remove(folder)

    def _take(self, folder: Path, queue: SeriesQueue) -> None:
        """Note one series; what came late joins what still waits, what is known or not wanted is deleted."""
        facts = folder_facts(folder)
        names = {path.name for path in folder.glob("*.dcm")}
        emptied = []
        for job in queue.journal.jobs(QUEUED, FAILED):
            waiting = self.spool / str(job.id) / "series"
            if job.series != facts.series or not waiting.is_dir():
                continue
            before = sorted(waiting.glob("*.dcm"))
            if names <= {path.name for path in before}:
                _remove(folder)
                return
            for path in before:
                path.replace(folder / path.name)
            emptied.append(job)
        with queue.journal.transaction():
            for job in emptied:  # also if all of it together is a series that we know
                queue.journal.finish(job, SUPERSEDED)
            job = queue.note(folder_facts(folder))
        target = self.spool / str(job.id) / "series"
        if job.state in OPEN:
            shutil.rmtree(target.parent, ignore_errors=True)
            target.parent.mkdir()
            folder.replace(target)
        else:
            _remove(folder)

    def _receive(self, event: "Event") -> int:
        """Answer a C-STORE; success means that the instance is on our disk under its name."""
        try:
            content = event.encoded_dataset()
            header = parse(BytesIO(content), ["SeriesInstanceUID", "SOPInstanceUID"])
            series, uid = checked_uid(header.SeriesInstanceUID), checked_uid(header.SOPInstanceUID)
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - untrusted bytes can raise anything
            logger.debug("an instance is refused: %s", trace_of(error))
            return CANNOT_UNDERSTAND
        part = self.incoming / f".{uid}.{threading.get_ident()}.part"
        try:
            if self._full(series) or shutil.disk_usage(self.incoming).free < self.min_free_bytes + len(content):
                return OUT_OF_RESOURCES
            part.write_bytes(content)
            with self._lock:
                (self.incoming / series).mkdir(exist_ok=True)
                part.replace(self.incoming / series / f"{uid}.dcm")
                self._last[series] = time.monotonic()
        except (OSError, MemoryError):
            part.unlink(missing_ok=True)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _arriving(self) -> list[str]:
        """UIDs of the series that are not moved to a job yet."""
        return [folder.name for folder in self.incoming.iterdir() if _is_series(folder)]

    def _full(self, series: str) -> bool:
        """Whether a series that is not here yet has no place."""
        arriving = self._arriving()
        return series not in arriving and len(arriving) + self._waiting >= self.max_queue


def _is_series(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _remove(folder: Path) -> None:
    """Delete a series; killed meanwhile, we must not take the rest for one."""
    gone = folder.replace(folder.with_name(f".{folder.name}.gone"))
    shutil.rmtree(gone, ignore_errors=True)  # what is left goes at the next start
