"""The listener's state in an SQLite file: position in the archive, state of each series, what we stored.

It holds UIDs but no name, description or other text of a patient, and only its owner may read it.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputError, JournalError, OutputError
from .rules import Rule, SeriesFacts

QUEUED, RUNNING, FAILED = "queued", "running", "failed"  # failed: waits for its next try
STORED, REJECTED, IGNORED, SUPERSEDED, DEAD = "stored", "rejected", "ignored", "superseded", "dead"
STATES = (QUEUED, RUNNING, FAILED, STORED, REJECTED, IGNORED, SUPERSEDED, DEAD)
OPEN = (QUEUED, RUNNING, FAILED)
# The step to schema 1, 2, ... from the one before; a file's is its `user_version`. A file of 0 is new, or was written
# before schemas were counted (up to 0.5.2) with the tables of 1.
STEPS = (
    """
CREATE TABLE IF NOT EXISTS places (source TEXT PRIMARY KEY, place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, series TEXT NOT NULL, fingerprint TEXT NOT NULL,
    instances INTEGER NOT NULL, rule TEXT, state TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_try REAL NOT NULL, changed REAL NOT NULL, UNIQUE (series, fingerprint));
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state);
CREATE TABLE IF NOT EXISTS outputs (uid TEXT PRIMARY KEY, job INTEGER NOT NULL);
""",
    """
ALTER TABLE places ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE found (
    source TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL, next_try REAL NOT NULL,
    PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE INDEX found_state ON found (source, state, next_try);
""",
)


@dataclass(frozen=True)
class Job:
    """One series, as it was when it was found."""

    id: int  # what logs call it
    study: str  # Study Instance UID
    series: str  # Series Instance UID
    fingerprint: str  # of its set of instances
    instances: int  # how many
    rule: Rule | None  # that accepted it; None: none did
    state: str  # one of STATES
    reason: str  # condition or kind of error that led to the state, without data of the patient
    attempts: int  # tries begun
    next_try: float  # seconds since 1970, not before
    changed: float  # seconds since 1970


COLUMNS = tuple(field.name for field in fields(Job))


class Journal:
    """The memory of one listener.

    Raises:
        InputError: `path` is not a journal, or one of a newer version of this package.
        OutputError: it cannot be written, or another listener uses it.

    Every method raises `JournalError` if the file can no longer be read or written.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path = path
        self._lock: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise InputError(f"a journal must be an SQLite file of ours, got {path} ({error})") from error
        except OSError as error:
            raise OutputError(f"{path} must be writable, got {error.strerror}; choose another folder") from error
        if exclusive:
            self._claim_file()

    @classmethod
    def existing(cls, path: Path) -> "Journal":
        """Open a journal that must exist.

        Raises:
            InputError: it does not.
        """
        if not path.is_file():
            raise InputError(f"a journal must exist, got {path}; a listener makes it")
        return cls(path)

    def close(self) -> None:
        """Close the files."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def place(self, source: str) -> int | None:
        """How far a source was read; None: never."""
        row = self.execute("SELECT place FROM places WHERE source = ?", (source,)).fetchone()
        return None if row is None else int(row[0])

    def set_place(self, source: str, place: int) -> None:
        """Remember how far a source was read; inside `transaction`, together with what was found there."""
        self.execute(
            "INSERT INTO places (source, place) VALUES (?, ?)"
            " ON CONFLICT (source) DO UPDATE SET place = excluded.place",
            (source, place),
        )

    def is_listed(self, source: str) -> bool:
        """Whether `Found` knows what a source held when its place was first noted; older packages did not note it."""
        return bool(self.execute("SELECT 1 FROM places WHERE source = ? AND listed", (source,)).fetchone())

    def set_listed(self, source: str) -> None:
        """Remember that it does."""
        self.execute("UPDATE places SET listed = 1 WHERE source = ?", (source,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of it or nothing, whatever ends the process."""
        with self._errors(), self._connection:  # commits, or rolls back whatever was raised
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    def add(self, facts: SeriesFacts, *, rule: Rule | None, reason: str = "") -> Job:
        """Note a series, queued if a rule accepts it; the same set of instances is noted once.

        An open job of the same series with another set is superseded, unless it is running.

        Returns:
            The job, new or known, and what became of it so far.
        """
        known = self.find(facts)
        if known and (known.state not in (IGNORED, SUPERSEDED) or rule is None):
            return known
        self.execute(
            "UPDATE jobs SET state = ?, changed = ? WHERE series = ? AND state IN (?, ?)",
            (SUPERSEDED, time.time(), facts.series, QUEUED, FAILED),
        )
        return self._insert(facts, IGNORED if rule is None else QUEUED, rule=rule, reason=reason)

    def reject(self, facts: SeriesFacts, reason: str) -> Job:
        """Note a series that cannot even be looked at; what waits of the same series stays queued."""
        return self.find(facts) or self._insert(facts, REJECTED, rule=None, reason=reason)

    def _insert(self, facts: SeriesFacts, state: str, *, rule: Rule | None, reason: str) -> Job:
        now = time.time()
        stored_rule = None if rule is None else rule.to_json()  # the file may change before the job's turn
        values = (*(facts.study, facts.series, facts.fingerprint), len(facts.instances), stored_rule)
        self.execute(
            "INSERT INTO jobs (study, series, fingerprint, instances, rule, state, reason, attempts, next_try, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (series, fingerprint) DO UPDATE SET"
            " rule = excluded.rule, state = excluded.state, reason = excluded.reason, attempts = 0,"
            " next_try = excluded.next_try, changed = excluded.changed",
            (*values, state, reason, 0, now, now),
        )
        return self._select("series = ? AND fingerprint = ?", (facts.series, facts.fingerprint))[0]

    def find(self, facts: SeriesFacts) -> Job | None:
        """The job of a series with just this set of instances."""
        known = self._select("series = ? AND fingerprint = ?", (facts.series, facts.fingerprint))
        return known[0] if known else None

    def claim(self) -> Job | None:
        """Begin the oldest job that is due: it runs, and its attempt counts even if the process dies."""
        due = self._select("state IN (?, ?) AND next_try <= ? ORDER BY id LIMIT 1", (QUEUED, FAILED, time.time()))
        if not due:
            return None
        self.execute(
            "UPDATE jobs SET state = ?, attempts = attempts + 1, changed = ? WHERE id = ?",
            (RUNNING, time.time(), due[0].id),
        )
        return self._select("id = ?", (due[0].id,))[0]

    def give_back(self, job: Job) -> None:
        """Undo `claim`."""
        self.execute(
            "UPDATE jobs SET state = ?, attempts = attempts - 1 WHERE id = ? AND state = ?", (QUEUED, job.id, RUNNING)
        )

    def finish(self, job: Job, state: str, *, reason: str = "", next_try: float = 0.0) -> None:
        """Record the result of a job."""
        self.execute(
            "UPDATE jobs SET state = ?, reason = ?, next_try = ?, changed = ? WHERE id = ?",
            (state, reason, next_try, time.time(), job.id),
        )

    def retry_dead(self) -> int:
        """Queue the dead letters anew; return how many."""
        return self.execute(
            "UPDATE jobs SET state = ?, attempts = 0, next_try = 0, changed = ? WHERE state = ?",
            (QUEUED, time.time(), DEAD),
        ).rowcount

    def own(self, uids: Iterable[str], job: Job) -> None:
        """Remember UIDs of instances and series that we are about to store."""
        for uid in uids:
            self.execute("INSERT OR IGNORE INTO outputs VALUES (?, ?)", (uid, job.id))

    def is_own(self, facts: SeriesFacts) -> bool:
        """Whether we stored a series, or one of its instances."""
        query = "SELECT 1 FROM outputs WHERE uid = ?"
        uids = (facts.series, *facts.instances)
        return any(self.execute(query, (uid,)).fetchone() for uid in uids)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = dict(self.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"))
        return {state: int(rows.get(state, 0)) for state in STATES}

    def jobs(self, *states: str) -> list[Job]:
        """Jobs in these states, oldest first."""
        return self._select(f"state IN ({', '.join('?' * len(states))}) ORDER BY id", states)

    def _select(self, condition: str, values: tuple[object, ...]) -> list[Job]:
        rows = self.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE {condition}", values)
        return [_job(row) for row in rows]

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        with self._errors():
            return self._connection.execute(statement, values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"the journal {self.path} must be writable, got {error}; is the disk full?"
            raise JournalError(message) from error

    def _migrate(self) -> None:
        """Migrate the file to our schema, completely or not at all; a newer one is not changed."""
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > len(STEPS):
            self._connection.close()
            raise InputError(
                f"a journal must have a schema up to {len(STEPS)}, got {found} in {self.path}; update unetpp_monai, or "
                "name another journal"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        for number, step in enumerate(STEPS[found:], found + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE;{step}PRAGMA user_version = {number};COMMIT;")

    def _claim_file(self) -> None:
        """Hold a lock beside the journal until this process ends, however it ends."""
        path = self.path.with_name(f"{self.path.name}.lock")
        self._lock = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            self._lock.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._lock.close()
            self._connection.close()
            raise OutputError(f"a journal serves one listener, {self.path} is in use; name another one") from error


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(COLUMNS, row, strict=True))
    return Job(**{**values, "rule": values["rule"] and Rule.from_json(values["rule"])})
