"""What a real Orthanc forgets when it is restarted, or when its change log is deleted, the feed finds again: once."""

import shutil
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.listener_run import threshold
from helpers.orthanc import orthanc
from helpers.waiting import wait_for

from unetpp_monai.errors import UnavailableError
from unetpp_monai.pacs import Journal, Listener, OrthancFeed, Rule, SeriesQueue, found

LONG = 3600  # seconds until Orthanc itself calls a series stable: never within a test
SHAPE = (12, 10, 6)


@pytest.fixture
def server(tmp_path):
    with orthanc(tmp_path / "orthanc", settings={"StableAge": LONG}) as running:
        yield running


@contextmanager
def following(server, path, **options):
    """A listener of its own, as after a start, with the journal at a path."""
    with closing(Journal(path)) as journal:
        feed = OrthancFeed(server.url, **{"everything": True, "settle_seconds": 1.0, "compare_seconds": 0.0, **options})
        queue = SeriesQueue(journal, (Rule("MR"),))
        yield Listener(feed, queue, processor=threshold, store=feed.archive, spool=path.with_suffix(".spool"))


def new_files(folder):
    header = make_series(folder, axial_affine(), SHAPE)[0]
    return str(header.SeriesInstanceUID), sorted(folder.iterdir())


def restart(server):
    server.kill()
    server.start()


def look(listener, seconds=0.0):
    """Look once, or for a while; return the jobs that a rule accepted."""
    until = time.monotonic() + seconds
    while True:
        listener.source.look(listener.queue)
        if time.monotonic() >= until:
            return [(job.series, job.instances) for job in accepted(listener)]
        time.sleep(0.1)


def accepted(listener):
    return listener.journal.jobs("queued", "failed", "stored", "superseded")


def look_until(listener, count):
    wait_for(lambda: len(look(listener)) >= count, f"{count} series")
    return look(listener, 2.5)  # none too many


@pytest.mark.parametrize("seen", [True, False])
def test_a_series_that_was_not_stable_when_orthanc_was_restarted(tmp_path, server, seen):
    series, files = new_files(tmp_path / "series")
    with following(server, tmp_path / "journal.sqlite") as listener:
        assert look(listener) == []
        server.upload(files)
        if seen:
            assert look(listener, 2.0) == []  # it may still arrive: Orthanc says that it is not stable
        restart(server)
        assert look_until(listener, 1) == [(series, 6)]
        assert listener.work() and not listener.work()
        look(listener, 2.5)
        assert [job.state for job in accepted(listener)] == ["stored"]


def test_a_series_of_which_half_comes_after_the_restart_is_one(tmp_path, server):
    series, files = new_files(tmp_path / "series")
    with following(server, tmp_path / "journal.sqlite", settle_seconds=4.0) as listener:
        server.upload(files[:3])
        look(listener)
        restart(server)
        look(listener, 1.0)
        server.upload(files[3:])
        look(listener, 1.0)
        restart(server)
        assert look_until(listener, 1) == [(series, 6)]


def test_instances_of_a_known_series_that_come_before_the_restart(tmp_path, server):
    series, files = new_files(tmp_path / "series")
    with following(server, tmp_path / "journal.sqlite") as listener:
        server.upload(files[:3])
        restart(server)
        assert look_until(listener, 1) == [(series, 3)]
        assert listener.work()
        server.upload(files[3:])
        restart(server)
        assert look_until(listener, 2) == [(series, 3), (series, 6)]


def test_orthanc_is_restarted_while_nobody_listens(tmp_path, server):
    path = tmp_path / "journal.sqlite"
    with following(server, path, everything=False) as listener:
        assert look(listener) == []
    series, files = new_files(tmp_path / "series")
    server.upload(files)
    restart(server)
    with following(server, path, everything=False) as listener:
        assert look_until(listener, 1) == [(series, 6)]


@pytest.mark.parametrize("again", [False, True])
def test_a_change_log_that_was_deleted(tmp_path, server, again):
    """Also if nothing comes after it, or while nobody listens."""
    path = tmp_path / "journal.sqlite"
    with following(server, path) as listener:
        assert look(listener) == []
        if not again:
            series, files = new_files(tmp_path / "series")
            server.upload(files)
            restart(server)
            server.rest("/changes", method="DELETE")
            assert look_until(listener, 1) == [(series, 6)]
    if again:
        series, files = new_files(tmp_path / "series")
        server.upload(files)
        server.rest("/changes", method="DELETE")
        restart(server)
        with following(server, path, compare_seconds=3600.0) as listener:  # it compares when it starts
            assert look_until(listener, 1) == [(series, 6)]


def test_a_new_journal_begins_now_also_without_a_change_log(tmp_path, server):
    _, files = new_files(tmp_path / "old")
    server.upload(files)
    server.rest("/changes", method="DELETE")
    restart(server)
    with following(server, tmp_path / "now.sqlite", everything=False) as listener:
        assert look(listener, 2.5) == []
        series, files = new_files(tmp_path / "new")
        server.upload(files)
        restart(server)
        assert look_until(listener, 1) == [(series, 6)]
    with following(server, tmp_path / "all.sqlite") as listener:
        assert len(look_until(listener, 2)) == 2


def test_a_journal_of_an_older_package_does_not_take_what_was_there_before(tmp_path, server):
    path = tmp_path / "journal.sqlite"
    _, files = new_files(tmp_path / "old")
    server.upload(files)
    with following(server, path, everything=False) as listener:
        look(listener)
    with closing(sqlite3.connect(path)) as connection:  # as schema 1 left it
        connection.executescript("DROP TABLE found; ALTER TABLE places DROP COLUMN listed; PRAGMA user_version = 1;")
    series, files = new_files(tmp_path / "new")
    server.upload(files)
    restart(server)
    with following(server, path, everything=False) as listener:
        assert look_until(listener, 1) == [(series, 6)]


def test_a_series_that_is_deleted_while_it_arrives_is_forgotten(tmp_path, server):
    _, files = new_files(tmp_path / "series")
    with following(server, tmp_path / "journal.sqlite") as listener:
        server.upload(files)
        look(listener)
        (one,) = server.rest("/series")
        server.rest(f"/series/{one}", method="DELETE")
        assert look(listener, 2.0) == []
        assert listener.journal.execute("SELECT COUNT(*) FROM found").fetchone() == (0,)


def test_an_archive_that_comes_back_empty(tmp_path, server):
    path = tmp_path / "journal.sqlite"
    with following(server, path) as listener:
        for name in ("a", "b"):
            server.upload(new_files(tmp_path / name)[1])
        restart(server)
        look_until(listener, 2)
        server.kill()
        with pytest.raises(UnavailableError):
            look(listener)
        shutil.rmtree(tmp_path / "orthanc" / "storage")
        (tmp_path / "orthanc" / "storage").mkdir()
        server.start()
        series, files = new_files(tmp_path / "c")
        server.upload(files)
        restart(server)
        assert look_until(listener, 3)[-1] == (series, 6)


def test_a_series_that_orthanc_cannot_read_holds_nothing_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(found, "FIRST_SECONDS", 0.0)
    with following(server, tmp_path / "journal.sqlite") as listener:
        server.upload(new_files(tmp_path / "lost")[1])
        (lost,) = server.rest("/series")
        for path in (tmp_path / "orthanc" / "storage").glob("??/??/*"):
            path.unlink()
        series, files = new_files(tmp_path / "sound")
        server.upload(files)
        restart(server)
        wait_for(lambda: look(listener) and listener.journal.jobs("rejected"), "its end")
        assert look(listener, 1.0) == [(series, 6)]
        assert [(job.series, job.reason) for job in listener.journal.jobs("rejected")] == [(lost, "PacsError")]


def test_what_is_known_costs_no_requests(tmp_path, server):
    asked = []
    with following(server, tmp_path / "journal.sqlite", compare_seconds=3600.0) as listener:
        for name in "abcd":
            server.upload(new_files(tmp_path / name)[1])
        restart(server)
        look_until(listener, 4)
        listener.source.session.hooks["response"].append(lambda response, **_: asked.append(response.url))
        look(listener)
        assert len(asked) == 1 and "/changes" in asked[0]
        listener.source.compare_seconds = 0.0
        look(listener)
        assert [url.partition("?")[0].rpartition("/")[2] for url in asked] == ["changes", "changes", "statistics"]
