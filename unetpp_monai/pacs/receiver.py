"""Series from whoever sends them by C-STORE; a series is complete when no instance came for a while."""

import shutil
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PacsError
from ..files import private_folder
from .archive import checked_uid
from .dimse_association import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS, receiving
from .intake import Intake, folder_facts
from .journal import FAILED, OPEN, QUEUED, SUPERSEDED, Job

if TYPE_CHECKING:
    from pynetdicom.events import Event

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

    @contextmanager
    def listening(
        self,
        aet: str,
        where: tuple[str, int],
        *,
        calling: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> Iterator[None]:
        """Accept instances while the block runs.

        Args:
            aet: our AE title; who calls another one is rejected.
            where: address and port.
            calling: AE titles that may send; none: all.
            tls: a server's context.
        """
        from pynetdicom import evt

        with receiving(aet, where, [(evt.EVT_C_STORE, self._receive)], calling=calling, ssl_context=tls):
            yield

    def look(self, intake: Intake) -> None:
        """Note the series that are complete, and move them to their jobs."""
        self._waiting = intake.waiting()
        for folder in sorted(self.incoming.iterdir()):
            if not _is_series(folder) or time.time() - folder.stat().st_mtime < self.quiet_seconds:
                continue
            with self._lock:
                if any(folder.glob("*.dcm")):
                    self._take(folder, intake)
                else:  # killed before its first instance, or after its last
                    _remove(folder)
                self._waiting = intake.waiting()

    def fetch(self, job: Job, folder: Path) -> None:
        """Nothing to bring: the files were moved here when the job was noted."""
        raise PacsError(f"the files of job {job.id} must be in {folder}, got none; send the series again")

    def _take(self, folder: Path, intake: Intake) -> None:
        """Note one series; what came late joins what still waits, what is known or not wanted is deleted."""
        facts = folder_facts(folder)
        names = {path.name for path in folder.glob("*.dcm")}
        emptied = []
        for job in intake.journal.jobs(QUEUED, FAILED):
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
        with intake.journal.transaction():
            for job in emptied:  # also if all of it together is a series that we know
                intake.journal.finish(job, SUPERSEDED)
            job = intake.note(folder_facts(folder))
        target = self.spool / str(job.id) / "series"
        if job.state in OPEN:
            shutil.rmtree(target.parent, ignore_errors=True)
            target.parent.mkdir()
            folder.replace(target)
        else:
            _remove(folder)

    def _receive(self, event: "Event") -> int:
        """Answer a C-STORE; success means that the instance is on our disk under its name."""
        import pydicom

        content = event.encoded_dataset()
        try:
            header = pydicom.dcmread(
                BytesIO(content), stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"]
            )
            series, uid = checked_uid(header.SeriesInstanceUID), checked_uid(header.SOPInstanceUID)
        except (PacsError, AttributeError, ValueError, OSError, EOFError, NotImplementedError):
            return CANNOT_UNDERSTAND
        part = self.incoming / f".{uid}.{threading.get_ident()}.part"
        try:
            if self._full(series) or shutil.disk_usage(self.incoming).free < self.min_free_bytes + len(content):
                return OUT_OF_RESOURCES
            part.write_bytes(content)
            with self._lock:
                (self.incoming / series).mkdir(exist_ok=True)
                part.replace(self.incoming / series / f"{uid}.dcm")
        except OSError:
            part.unlink(missing_ok=True)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _full(self, series: str) -> bool:
        """Whether a series that is not here yet has no place."""
        arriving = [folder.name for folder in self.incoming.iterdir() if _is_series(folder)]
        return series not in arriving and len(arriving) + self._waiting >= self.max_queue


def _is_series(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _remove(folder: Path) -> None:
    """Delete a series; killed meanwhile, we must not take the rest for one."""
    gone = folder.replace(folder.with_name(f".{folder.name}.gone"))
    shutil.rmtree(gone)
