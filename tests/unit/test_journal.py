"""The listener's memory over versions of the package, and when its file fails. Knows no server."""

import json
import sqlite3
from contextlib import closing

import pytest

from unetpp_monai.errors import InputError, JournalError
from unetpp_monai.pacs import Journal, Listener, Rule, SeriesQueue
from unetpp_monai.pacs.rules import SeriesFacts

WRITTEN_BY_0_5_2 = """
CREATE TABLE IF NOT EXISTS places (source TEXT PRIMARY KEY, place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, series TEXT NOT NULL, fingerprint TEXT NOT NULL,
    instances INTEGER NOT NULL, rule TEXT, state TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_try REAL NOT NULL, changed REAL NOT NULL, UNIQUE (series, fingerprint));
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state);
CREATE TABLE IF NOT EXISTS outputs (uid TEXT PRIMARY KEY, job INTEGER NOT NULL);
INSERT INTO places VALUES ('http://127.0.0.1:8042', 41);
INSERT INTO outputs VALUES ('1.2.9', 1);
"""
RULE = Rule("MR", description="brain", spacing_mm={"min": 0.4, "max": 1.6}, bundle="/bundles/brain", depth="auto")
RULE_OF_0_5_2 = {
    **{"modality": "MR", "description": "brain", "body_part": None, "min_slices": None, "max_slices": None},
    **{"spacing_mm": {"min": 0.4, "max": 1.6}, "bundle": "/bundles/brain", "depth": "auto"},
}
NEW = SeriesFacts("1.2", "1.2.5", ("1.2.5.1",), "MR", "", "", 1, None)


@pytest.fixture
def old(tmp_path):
    """A journal as package 0.5.2 wrote it: a stored, a queued and an ignored job."""
    path = tmp_path / "journal.sqlite"
    insert = (
        "INSERT INTO jobs (study, series, fingerprint, instances, rule, state, reason, attempts, next_try, changed)"
        " VALUES ('1.2', ?, ?, 9, ?, ?, ?, ?, 0, 1762000000.5)"
    )
    rule = json.dumps(RULE_OF_0_5_2)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(WRITTEN_BY_0_5_2)
        connection.execute(insert, ("1.2.3", "a", rule, "stored", "", 1))
        connection.execute(insert, ("1.2.4", "b", rule, "queued", "", 0))
        connection.execute(insert, ("1.2.9", "c", None, "ignored", "result", 0))
    return path


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_a_journal_of_an_older_package_goes_on(old):
    assert schema_of(old) == 0
    with closing(Journal.existing(old)) as journal:
        assert journal.place("http://127.0.0.1:8042") == 41
        assert [(job.id, job.series, job.rule, job.changed) for job in journal.jobs("stored", "queued")] == [
            (1, "1.2.3", RULE, 1762000000.5),
            (2, "1.2.4", RULE, 1762000000.5),
        ]
        assert [(job.rule, job.reason) for job in journal.jobs("ignored")] == [(None, "result")]
        assert journal.is_own(SeriesFacts("1.2", "1.2.9", (), "MR", "", "", 1, None)) and not journal.is_own(NEW)
        with journal.transaction():
            job = journal.add(NEW, rule=RULE)
            assert (job.id, job.rule) == (4, RULE) and journal.claim().id == 2
    assert schema_of(old) == 2
    with closing(Journal(old)) as journal:
        assert sum(journal.counts().values()) == 4


def test_a_journal_of_a_newer_package_is_refused_by_name_and_left_as_it_is(old):
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA user_version = 3")
        connection.execute("PRAGMA journal_mode = DELETE")
    before = old.read_bytes()
    with pytest.raises(InputError, match=f"a schema up to 2, got 3 in {old}; update unetpp_monai, or name another"):
        Journal(old)
    assert old.read_bytes() == before and not list(old.parent.glob("*-wal"))


def test_a_new_journal_has_the_schema(tmp_path):
    Journal(tmp_path / "journal.sqlite").close()
    assert schema_of(tmp_path / "journal.sqlite") == 2


def fill(journal):
    """As a disk without space."""
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_an_error_of_ours(old):
    with closing(Journal(old)) as journal:
        fill(journal)
        with (
            pytest.raises(JournalError, match=f"the journal {old} must be writable, got .*full"),
            journal.transaction(),
        ):
            journal.own((f"1.2.9.{number}" for number in range(10_000)), journal.jobs("stored")[0])
        assert not journal.is_own(SeriesFacts("1.2", "1.2.9.1", (), "MR", "", "", 1, None))  # all of it or nothing


def test_a_listener_that_cannot_remember_stops(old, tmp_path, monkeypatch):
    """It is no fault of the job, which is interrupted and gets its next try."""
    with closing(Journal(old)) as journal:
        listener = Listener(None, SeriesQueue(journal, ()), processor=None, store=None, spool=tmp_path / "spool")
        (listener.spool / "2" / "results").mkdir(parents=True)
        monkeypatch.setattr("unetpp_monai.pacs.listener._uids", lambda files: {f"1.2.9.{n}" for n in range(10_000)})
        fill(journal)
        with pytest.raises(JournalError):
            listener.work()
        assert [job.id for job in journal.jobs("running")] == [2]
        listener.recover()
        assert [(job.id, job.attempts, job.reason) for job in journal.jobs("queued")] == [(2, 1, "Interrupted")]
