"""What trips over a series ends this series only, and never a second time. Knows no server."""

import logging
from contextlib import closing

import pytest

from unetpp_monai.errors import JournalError, UnavailableError
from unetpp_monai.faults import trace_of
from unetpp_monai.pacs import Journal, SeriesQueue, found
from unetpp_monai.pacs.found import ARRIVING, ATTEMPTS, KNOWN, READY, Found
from unetpp_monai.pacs.rules import SeriesFacts

SECRET = "Doe^Jane"


class Panic(BaseException):
    """As decoders written in Rust raise."""


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


@pytest.fixture
def series(journal):
    """Series of one source, of which "a" is ready."""
    found = Found(journal, "source")
    with journal.transaction():
        found.put(["a"], READY)
    return found


def state(series, name="a"):
    return series.journal.execute("SELECT state, tries FROM found WHERE name = ?", (name,)).fetchone()


def attempt(series, fault, rejected):
    def note():
        raise fault

    series.attempt("a", note, rejected.append)


@pytest.mark.parametrize(
    "fault",
    [Panic(SECRET), RecursionError(SECRET), ValueError(SECRET), KeyError(SECRET), AssertionError(SECRET)],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_of_a_series_ends_it_at_once_and_is_named_without_its_words(series, caplog, fault):
    caplog.set_level(logging.DEBUG)
    rejected = []
    attempt(series, fault, rejected)
    assert rejected == [type(fault).__name__]
    assert state(series) == (KNOWN, 0)
    assert "pacs/found.py" in caplog.text and SECRET not in caplog.text


@pytest.mark.parametrize("fault", [OSError(SECRET), MemoryError(SECRET)], ids=lambda fault: type(fault).__name__)
def test_a_fault_of_the_machine_is_tried_again_and_later_each_time(series, monkeypatch, caplog, fault):
    rejected = []
    attempt(series, fault, rejected)
    assert rejected == [] and state(series) == (READY, 1)
    assert series.due(READY, 9) == []  # not yet
    monkeypatch.setattr(found, "FIRST_SECONDS", 0.0)
    for _ in range(ATTEMPTS - 1):
        attempt(series, fault, rejected)
    assert rejected == [type(fault).__name__] and state(series) == (KNOWN, 0)
    assert SECRET not in caplog.text


def test_what_ends_the_process_each_time_is_given_up(series):
    for _ in range(ATTEMPTS):  # as if killed each time
        series._begin("a")
    rejected = []
    series.attempt("a", lambda: pytest.fail("once too often"), rejected.append)
    assert rejected == ["Interrupted"] and state(series) == (KNOWN, 0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit, UnavailableError])
def test_a_request_to_stop_and_a_source_that_is_down_cost_no_attempt(series, stop):
    with pytest.raises(stop):
        attempt(series, stop(), [])
    assert state(series) == (READY, 0) and series.due(READY, 9) == ["a"]


def test_a_journal_that_fails_stops(series):
    with pytest.raises(JournalError):
        attempt(series, JournalError(), [])


def test_it_is_made_what_the_source_holds(journal, series):
    with journal.transaction():
        series.put(["b", "c"], KNOWN)
    series.reconcile(["b", "a", "d"])
    assert (series.count(), state(series, "c"), state(series, "d")) == (3, None, (ARRIVING, 0))
    assert state(series) == (READY, 0) and state(series, "b") == (KNOWN, 0)
    assert Found(journal, "other").count() == 0


def test_turns_are_in_order(journal, series):
    with journal.transaction():
        series.put(["z", "y", "x"], READY)
    assert series.due(READY, 3) == ["a", "z", "y"]


def test_what_cannot_be_looked_at_is_noted_once_and_undoes_nothing(journal):
    good = SeriesFacts("1.2", "1.2.3", ("1.2.3.1",), "MR", "", "", 1, None)
    bare = SeriesFacts("", "1.2.3", ("1.2.3.2",), "", "", "", 0, None)
    queue = SeriesQueue(journal, ())
    with journal.transaction():
        job = journal.add(good, rule=None)
        journal.finish(job, "queued")
    for _ in range(2):
        queue.reject(bare, "Panic")
    assert [(job.series, job.reason) for job in journal.jobs("rejected")] == [("1.2.3", "Panic")]
    assert [job.id for job in journal.jobs("queued")] == [job.id]


def test_a_trace_has_kinds_and_our_lines_only():
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise Panic(SECRET) from error
    except Panic as error:
        assert trace_of(error) == "Panic from ValueError"
