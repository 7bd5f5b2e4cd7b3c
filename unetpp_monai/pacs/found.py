"""The series of one source that were seen, and how far each is; what trips over one of them takes no other with it."""

import logging
import time
from collections.abc import Callable, Iterable

from ..errors import JournalError, PacsError, UnavailableError
from ..faults import STOP, trace_of
from .journal import Journal

logger = logging.getLogger(__name__)

ARRIVING, READY, KNOWN = "arriving", "ready", "known"  # known: noted as a job, or there before the journal began
ATTEMPTS = 8  # at noting a series, where a machine is at fault
FIRST_SECONDS = 5.0  # until the second attempt; then twice as long each time, 10 minutes in all
MACHINE = (OSError, MemoryError, PacsError)  # faults that may be gone next time; all others are the series' own


class Found:
    """Names of series, as their source calls them, in the journal.

    Args:
        journal: that holds them.
        source: of the series.
        noted: state of what was noted or given up.
    """

    def __init__(self, journal: Journal, source: str, *, noted: str = KNOWN) -> None:
        self.journal, self.source, self.noted = journal, source, noted

    def put(self, names: Iterable[str], state: str) -> None:
        """Note series, new or known, in the order of their turns; inside a transaction."""
        for name in names:
            self.journal.execute(
                "INSERT INTO found VALUES (?, ?, ?, 0, ?) ON CONFLICT (source, name) DO UPDATE SET"
                " state = excluded.state, tries = 0, next_try = excluded.next_try",
                (self.source, name, state, time.time()),
            )

    def drop(self, names: Iterable[str]) -> None:
        """Forget series; inside a transaction."""
        for name in names:
            self.journal.execute("DELETE FROM found WHERE source = ? AND name = ?", (self.source, name))

    def reconcile(self, names: Iterable[str], *, new: str = ARRIVING) -> None:
        """Make it hold just what the source holds.

        Args:
            names: of all series of the source.
            new: state of those that were not seen before.
        """
        held = set(names)
        rows = self.journal.execute("SELECT name FROM found WHERE source = ?", (self.source,))
        seen = {name for (name,) in rows}
        if held != seen:
            with self.journal.transaction():
                self.drop(sorted(seen - held))
                self.put(sorted(held - seen), new)

    def count(self) -> int:
        """How many series were seen."""
        (count,) = self.journal.execute("SELECT COUNT(*) FROM found WHERE source = ?", (self.source,)).fetchone()
        return int(count)

    def due(self, state: str, most: int) -> list[str]:
        """Series in a state whose turn it is, longest waiting first."""
        query = "SELECT name FROM found WHERE source = ? AND state = ? AND next_try <= ? ORDER BY next_try LIMIT ?"
        return [name for (name,) in self.journal.execute(query, (self.source, state, time.time(), most))]

    def attempt(self, name: str, note: Callable[[], None], reject: Callable[[str], None]) -> None:
        """Try to note a series; whatever it raises ends this series only.

        An attempt counts before it begins, so that a series which ends the process is given up, too.

        Args:
            name: of the series.
            note: notes it; may be called again after a process that was killed.
            reject: gives it up for a reason, which holds no data of a patient.

        Raises:
            JournalError: nothing can be remembered.
            UnavailableError: the source cannot be reached, which costs no attempt.
        """
        tries = self._begin(name)
        if tries > ATTEMPTS:
            self._give_up(name, "Interrupted", reject)
            return
        try:
            note()
        except (*STOP, UnavailableError):
            self._wait(name, tries - 1, 0.0)
            raise
        except JournalError:
            raise
        except BaseException as error:  # noqa: BLE001 - untrusted bytes can raise anything, Rust's panics included
            logger.debug("a series could not be noted: %s", trace_of(error))
            if isinstance(error, MACHINE) and tries < ATTEMPTS:
                self._wait(name, tries, FIRST_SECONDS * 2.0 ** (tries - 1))
                logger.warning("a series could not be noted in attempt %d, %s", tries, type(error).__name__)
            else:
                self._give_up(name, type(error).__name__, reject)
        else:
            with self.journal.transaction():
                self.put([name], self.noted)

    def _begin(self, name: str) -> int:
        """Count an attempt; return how many there were."""
        key = (self.source, name)
        with self.journal.transaction():
            self.journal.execute("UPDATE found SET tries = tries + 1 WHERE source = ? AND name = ?", key)
        (tries,) = self.journal.execute("SELECT tries FROM found WHERE source = ? AND name = ?", key).fetchone()
        return int(tries)

    def _wait(self, name: str, tries: int, seconds: float) -> None:
        with self.journal.transaction():
            self.journal.execute(
                "UPDATE found SET tries = ?, next_try = ? WHERE source = ? AND name = ?",
                (tries, time.time() + seconds, self.source, name),
            )

    def _give_up(self, name: str, reason: str, reject: Callable[[str], None]) -> None:
        reject(reason)
        with self.journal.transaction():
            self.put([name], self.noted)
