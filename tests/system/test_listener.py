"""The listener against a real Orthanc: each series once, whatever fails or is killed in between."""

import doctest
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from helpers import BUNDLE, HELPERS, ROOT
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.listener_run import MOMENTS, look_until, make_listener, threshold
from helpers.orthanc import free_port, orthanc
from helpers.waiting import DEADLINE, wait_for
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

from unetpp_monai import Segmenter
from unetpp_monai.cli.listen import listen
from unetpp_monai.depth import Depth
from unetpp_monai.errors import InputError, OutputError, PacsError, UnavailableError
from unetpp_monai.pacs import (
    Journal,
    Listener,
    OrthancInput,
    Rule,
    Schedule,
    SeriesQueue,
    Service,
    connect,
    push,
    read_rules,
    segmenting,
)
from unetpp_monai.pacs.series_queue import folder_facts

SPACE = 1000.0  # seconds between two tries
PHI = ("Phantom", "PHANTOM-1", "secret words")  # of the series below


@pytest.fixture
def server(tmp_path):
    with orthanc(tmp_path / "orthanc") as running:
        yield running


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


def describe(dataset, _):
    dataset.SeriesDescription = "secret words"


def new_series(folder, **options):
    return make_series(folder, axial_affine(), **{"change": describe, **options})[0]


def states(journal):
    return {state: count for state, count in journal.counts().items() if count}


def segs(server):
    """SOP Instance UIDs of the results in the archive."""
    return [one["SOPInstanceUID"] for one in server.find("Instance", Modality="SEG")]


def queue(listener, count=1):
    look_until(listener, lambda: listener.queue.waiting() == count)


def until_stable(server):
    """Wait until nothing more than what the archive's feed says now is to come."""
    wait_for(lambda: server.rest("/changes?last")["Changes"][0]["ChangeType"] == "StablePatient", "the end of the feed")


def until_stored(journal, count=1):
    wait_for(lambda: states(journal).get("stored") == count, f"{count} stored jobs")


def test_a_series_is_segmented_once_and_results_are_no_input(tmp_path, server, journal, caplog):
    caplog.set_level(logging.INFO)
    header = new_series(tmp_path / "series")
    push(connect(f"dimse://{server.aet}@127.0.0.1:{server.dicom_port}"), [tmp_path / "series"])
    listener = make_listener(server, journal, rules=[Rule("MR"), Rule("CT")])
    queue(listener)
    assert listener.work()
    (seg,) = server.find("Series", Modality="SEG")
    assert server.rest(f"/series/{seg['ID']}/study")["MainDicomTags"]["StudyInstanceUID"] == header.StudyInstanceUID
    assert not listener.work()
    look_until(listener, lambda: states(journal) == {"stored": 1, "ignored": 1})
    (ignored,) = journal.jobs("ignored")
    assert (ignored.series, ignored.reason) == (seg["SeriesInstanceUID"], "result")
    assert not list(listener.spool.iterdir())
    assert "job 1: 1 results stored" in caplog.text
    assert not any(
        word in record.getMessage()
        for record in caplog.records
        for word in (*PHI, header.SeriesInstanceUID)
        if record.name.startswith("unetpp_monai") and record.levelno >= logging.INFO
    )


def test_results_are_known_by_their_uids_too(tmp_path, server, journal):
    """Where results are images of the modality that the rules accept, the modality does not tell them."""

    def copy(series_folder, output, *, rule):
        uid = pydicom.uid.generate_uid()
        for path in series_folder.glob("*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = uid
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            dataset.save_as(output / path.name)
        return list(output.iterdir())

    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    listener = make_listener(server, journal, processor=copy)
    queue(listener)
    assert listener.work()
    look_until(listener, lambda: states(journal) == {"stored": 1, "ignored": 1})


def test_a_series_sent_again_is_known_and_one_with_more_instances_is_not(tmp_path, server, journal):
    new_series(tmp_path / "series")
    files = sorted((tmp_path / "series").iterdir())
    server.upload(files[:6])
    listener = make_listener(server, journal)
    queue(listener)
    assert listener.work()
    (series,) = server.find("Series", Modality="MR")
    server.rest(f"/series/{series['ID']}", method="DELETE")
    place = journal.place(server.url)
    server.upload(files[:6])
    look_until(listener, lambda: journal.place(server.url) > place + 6 and len(server.find(Modality="MR")) == 1)
    until_stable(server)
    listener.source.look(listener.queue)
    assert states(journal)["stored"] == 1 and listener.queue.waiting() == 0
    server.upload(files[6:])
    queue(listener)
    assert [job.instances for job in journal.jobs("queued")] == [9]
    assert listener.work()
    assert states(journal)["stored"] == 2
    assert len(segs(server)) == 2


def test_instances_that_come_while_a_series_waits_replace_its_job(tmp_path, server, journal):
    new_series(tmp_path / "series")
    files = sorted((tmp_path / "series").iterdir())
    server.upload(files[:6])
    listener = make_listener(server, journal)
    queue(listener)
    server.upload(files[6:8])
    look_until(listener, lambda: states(journal) == {"queued": 1, "superseded": 1})
    server.upload(files[8:])  # between the look and the work
    assert listener.work()
    assert states(journal) == {"queued": 1, "superseded": 2}
    assert listener.work()
    look_until(listener, lambda: states(journal) == {"stored": 1, "superseded": 2, "ignored": 1})
    assert len(segs(server)) == 1


def test_a_new_journal_begins_now(tmp_path, server):
    new_series(tmp_path / "old")
    server.upload((tmp_path / "old").iterdir())
    until_stable(server)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        listener = make_listener(server, journal, everything=False)
        listener.source.look(listener.queue)
        new = new_series(tmp_path / "new")
        server.upload((tmp_path / "new").iterdir())
        queue(listener)
        assert [job.series for job in journal.jobs("queued")] == [new.SeriesInstanceUID]


def test_an_archive_that_was_begun_anew_is_read_from_its_start(tmp_path, server, journal):
    for name in ("a", "b", "c"):
        new_series(tmp_path / name)
        server.upload((tmp_path / name).iterdir())
    queue(make_listener(server, journal), 3)
    server.kill()
    for path in sorted((tmp_path / "orthanc" / "storage").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    server.start()
    new = new_series(tmp_path / "d")
    server.upload((tmp_path / "d").iterdir())
    until_stable(server)
    queue(make_listener(server, journal), 4)
    assert journal.jobs("queued")[-1].series == new.SeriesInstanceUID


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of pydicom, while we spoil the headers
def test_nonsense_in_headers_does_not_stop_the_feed(tmp_path, server, journal):
    def nonsense(dataset, index):
        dataset.add_new("NumberOfFrames", "LO", "many")
        dataset.add_new("PixelSpacing", "LO", "wide")
        dataset.ImageOrientationPatient = [1, 0, 0]

    def nameless(dataset, index):
        dataset.SeriesInstanceUID = "no/uid"

    new_series(tmp_path / "a", change=nameless)
    new_series(tmp_path / "b", change=nonsense)
    for name in ("a", "b"):
        server.upload((tmp_path / name).iterdir())
    listener = make_listener(server, journal)
    queue(listener)
    assert not listener.source.look(listener.queue)
    assert [job.instances for job in journal.jobs("queued")] == [9]


def test_what_cannot_be_segmented_is_rejected_for_good(tmp_path, server, journal):
    def refuse(series_folder, output, *, rule):
        raise InputError(f"a slice is missing in {series_folder}")

    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    listener = make_listener(server, journal, processor=refuse)
    queue(listener)
    assert listener.work() and not listener.work()
    assert [(job.reason, job.attempts) for job in journal.jobs("rejected")] == [("InputError", 1)]
    assert not list(listener.spool.iterdir())


def test_after_the_last_try_a_series_is_a_dead_letter_until_it_is_tried_anew(tmp_path, server, journal):
    broken = [True]

    def trip(series_folder, output, *, rule):
        if broken[0]:
            raise RuntimeError(f"{PHI[0]} made us stumble")
        return threshold(series_folder, output, rule=rule)

    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    listener = make_listener(server, journal, processor=trip, attempts=2)
    queue(listener)
    assert listener.work()
    assert [(job.reason, job.attempts) for job in journal.jobs("failed")] == [("RuntimeError", 1)]
    assert listener.work() and not listener.work()
    assert states(journal) == {"dead": 1}
    listener.recover()
    shown = status(journal.path)
    assert "job 1  dead  RuntimeError  2 tries" in shown
    assert not any(word in shown for word in PHI)
    broken[0] = False
    assert "1 dead letters queued again" in status(journal.path, "--retry-dead")
    assert listener.work()
    assert (states(journal), len(segs(server))) == ({"stored": 1}, 1)


def test_tries_are_spaced_as_stated():
    assert [Schedule().delay(attempt) for attempt in (1, 2, 3, 10, 11, 1000)] == [5, 10, 20, 2560, 3600, 3600]
    assert sum(Schedule().delay(attempt) for attempt in range(1, Schedule().attempts)) / 3600 == pytest.approx(
        11, abs=1
    )


def test_a_failed_job_waits_for_its_next_try(tmp_path, server, journal):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    listener = make_listener(server, journal, first_seconds=SPACE)
    queue(listener)
    server.kill()
    before = time.time()
    assert listener.work()
    (job,) = journal.jobs("failed")
    assert job.reason == "UnavailableError"
    assert before + SPACE <= job.next_try <= time.time() + SPACE
    assert not listener.work()
    with pytest.raises(UnavailableError):
        listener.source.look(listener.queue)
    server.start()
    with journal.transaction():
        journal.finish(job, "failed", next_try=time.time())
    assert listener.work()
    assert len(segs(server)) == 1


def test_results_are_kept_while_the_archive_takes_none(tmp_path, server, journal):
    calls = []

    def once(series_folder, output, *, rule):
        calls.append(series_folder)
        return threshold(series_folder, output, rule=rule)

    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    down = connect(f"http://127.0.0.1:{free_port()}/dicom-web")
    listener = make_listener(server, journal, processor=once, store=down)
    queue(listener)
    assert listener.work()
    assert states(journal) == {"failed": 1}
    listener = make_listener(server, journal, processor=once)
    listener.recover()
    assert listener.work()
    assert (states(journal), len(segs(server)), len(calls)) == ({"stored": 1}, 1, 1)


def test_an_archive_that_is_down_costs_no_tries(tmp_path, server, journal):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    down = connect(f"http://127.0.0.1:{free_port()}/dicom-web")
    listener = make_listener(server, journal, store=down, attempts=1)
    queue(listener)
    for _ in range(3):
        assert listener.work()
        assert [(job.state, job.reason, job.attempts) for job in journal.jobs("failed")] == [
            ("failed", "UnavailableError", 0)
        ]
    listener.schedule = Schedule(1, first_seconds=1000)
    before = time.time()
    assert listener.work()
    (job,) = journal.jobs("failed")
    assert before + 60 <= job.next_try <= time.time() + 60  # however long it lasts
    with journal.transaction():
        journal.finish(job, "failed")
    listener.store = listener.source.archive
    assert listener.work()
    assert ([job.attempts for job in journal.jobs("stored")], len(segs(server))) == ([1], 1)


def test_an_archive_that_is_down_is_not_asked_without_a_pause(tmp_path, journal, monkeypatch):
    looks, pauses = [], []

    class Source:
        def look(self, queue):
            looks.append(time.time())
            if len(looks) == 4:
                raise PacsError("enough")

    class Down:
        def push(self, files):
            raise UnavailableError("down")

    new_series(tmp_path / "series")
    with journal.transaction():
        job = journal.add(folder_facts(tmp_path / "series"), rule=Rule("MR"))
    spool, schedule = tmp_path / "spool", Schedule(first_seconds=0)
    listener = Listener(
        Source(), SeriesQueue(journal, ()), processor=threshold, store=Down(), spool=spool, schedule=schedule
    )
    (spool / str(job.id) / "results").mkdir(parents=True)
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(PacsError, match="enough"):
        listener.run(poll_seconds=5)
    assert pauses == [5, 5, 5]


def test_results_that_nobody_wants_any_more_are_removed(tmp_path, journal):
    class Changed:
        """A source that finds a series larger than it was, and ends the second time."""

        def look(self, queue):
            if not journal.jobs("failed"):
                raise PacsError("enough")
            with journal.transaction():
                journal.finish(journal.jobs("failed")[0], "superseded")

    new_series(tmp_path / "series")
    facts = folder_facts(tmp_path / "series")
    with journal.transaction():
        job = journal.add(facts, rule=Rule("MR"))
        journal.finish(job, "failed", next_try=time.time() + 60)
    spool = tmp_path / "spool"
    listener = Listener(Changed(), SeriesQueue(journal, ()), processor=threshold, store=None, spool=spool)
    (spool / str(job.id) / "results").mkdir(parents=True)
    with pytest.raises(PacsError, match="enough"):
        listener.run(poll_seconds=0)
    assert not list(spool.iterdir())


def test_a_full_queue_leaves_the_rest_in_the_archive(tmp_path, server, journal):
    for name in ("a", "b", "c"):
        new_series(tmp_path / name)
        server.upload((tmp_path / name).iterdir())
    listener = make_listener(server, journal, max_queue=1)
    stored = 0
    queue(listener)
    until_stable(server)
    while stored < 3:
        listener.source.look(listener.queue)
        assert states(journal)["queued"] == 1
        assert listener.work()
        stored += 1
    assert (states(journal)["stored"], len(segs(server))) == (3, 3)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule("CT"), "modality"),
        (Rule("MR", description="hippocamp"), "description"),
        (Rule("MR", description="SECRET.words"), ""),
        (Rule("MR", body_part="HEAD"), "body_part"),
        (Rule("MR", min_slices=10), "min_slices"),
        (Rule("MR", min_slices=9, max_slices=9), ""),
        (Rule("MR", max_slices=8), "max_slices"),
        (Rule("MR", spacing_mm={"min": 0.79, "max": 2.51}), ""),
        (Rule("MR", spacing_mm={"max": 2.4}), "spacing_mm"),
        (Rule("MR", spacing_mm={"min": 0.9}), "spacing_mm"),
    ],
)
def test_rules(archive, tmp_path, rule, reason):
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        listener = make_listener(archive, journal, rules=[Rule("US"), rule])
        look_until(listener, lambda: journal.jobs("queued", "ignored"))
        (job,) = journal.jobs("queued", "ignored")
        assert (job.state, job.reason) == ("ignored" if reason else "queued", reason)
        assert job.rule == (None if reason else rule)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive with one stable series."""
    folder = tmp_path_factory.mktemp("archive")
    with orthanc(folder) as running:
        new_series(folder / "series")
        running.upload((folder / "series").iterdir())
        yield running


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "rules must be a JSON file"),
        ("{}", "must hold a list of at least one rule, got dict"),
        ("[]", "must hold a list of at least one rule"),
        ("[7]", "rule 1 of .* must be an object"),
        ('[{"modality": "MR", "colour": "red"}]', "rule 1 of .* must have only the keys modality, .*, got colour"),
        ('[{"modality": "MR"}, {"description": "x"}]', "rule 2 of .* must name the modality of images"),
        ('[{"modality": "SEG"}]', "must name the modality of images, .*got 'SEG'"),
        ('[{"modality": "MR", "description": "("}]', "must have a regular expression"),
        ('[{"modality": "MR", "description": 3}]', "must have a text as description"),
        ('[{"modality": "MR", "min_slices": 0}]', "whole number >= 1 as min_slices, got 0"),
        ('[{"modality": "MR", "max_slices": "9"}]', "whole number >= 1 as max_slices, got '9'"),
        ('[{"modality": "MR", "min_slices": 9, "max_slices": 3}]', "min_slices <= max_slices"),
        ('[{"modality": "MR", "spacing_mm": 3}]', "must have spacing_mm such as"),
        ('[{"modality": "MR", "spacing_mm": {"mean": 1}}]', "must have spacing_mm such as"),
        ('[{"modality": "MR", "spacing_mm": {"min": -1}}]', "bounds > 0 mm"),
        ('[{"modality": "MR", "any_modality": "yes"}]', "must have true or false as any_modality, got 'yes'"),
        ('[{"modality": "MR", "depth": 0}]', "depth must be a number >= 1, auto or full, got 0"),
    ],
)
def test_wrong_rules_are_named(tmp_path, content, message):
    (tmp_path / "rules.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_rules(tmp_path / "rules.json")


def test_rules_are_read(tmp_path):
    (tmp_path / "ct").mkdir()
    rules = [{"modality": "MR", "depth": 3, "min_slices": 20}, {"modality": "CT", "bundle": "ct", "depth": "auto"}]
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    first, second = read_rules(tmp_path / "rules.json")
    assert first == Rule("MR", depth=Depth(3), min_slices=20)
    assert second == Rule("CT", depth=Depth(adaptive=True), bundle=str(tmp_path / "ct"))
    with pytest.raises(InputError, match="rules must be a JSON file"):
        read_rules(tmp_path / "missing.json")


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.from_bundle(BUNDLE, device="cpu", runtime="eager")


@pytest.mark.parametrize(
    ("depths", "default", "wrong"),
    [
        (("1", "9"), None, "rule 2: depth must be from 1 to 3, auto or full, got 9"),
        (("full", None), "deep", "rule 2: depth must be a number >= 1, auto or full, got deep"),
        (("auto", "1"), "9", None),
        ((None, None), None, None),
    ],
)
def test_a_depth_that_a_network_does_not_have_is_known_at_the_start(segmenter, depths, default, wrong):
    rules = [Rule("MR", depth=depth) for depth in depths]
    if wrong is None:
        assert segmenting(rules, lambda _: segmenter, depth=default, formats=["dicomseg"])
        return
    with pytest.raises(InputError, match=wrong):
        segmenting(rules, lambda _: segmenter, depth=default, formats=["dicomseg"])


@pytest.mark.parametrize("any_modality", [False, True])
def test_a_rule_can_say_that_any_modality_will_do(tmp_path, segmenter, any_modality):
    """The bundle was trained on MR; else a CT is refused, as `unetpp segment` does without `--any-modality`."""
    new_series(tmp_path / "series", modality="CT")
    (tmp_path / "rules.json").write_text(json.dumps([{"modality": "CT", "any_modality": any_modality}]))
    rules = read_rules(tmp_path / "rules.json")
    process = segmenting(rules, lambda _: segmenter, depth=1, formats=["dicomseg"])
    (tmp_path / "results").mkdir()
    if any_modality:
        assert [path.suffix for path in process(tmp_path / "series", tmp_path / "results", rule=rules[0])] == [".dcm"]
    else:
        with pytest.raises(InputError, match="must be of modality MR"):
            process(tmp_path / "series", tmp_path / "results", rule=rules[0])
    assert Rule.from_json(rules[0].to_json()) == rules[0]  # as the journal keeps it


def test_a_service_in_python(tmp_path, server):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    source = OrthancInput(server.url, everything=True)
    service = Service(source, [Rule("MR")], threshold, journal=tmp_path / "journal.sqlite")
    with service.listener() as listener:
        queue(listener)
        assert listener.work()
        with pytest.raises(OutputError, match="serves one listener"), service.listener():
            pass
    assert len(segs(server)) == 1
    with closing(Journal.existing(service.journal)) as journal:
        assert states(journal)["stored"] == 1


def test_the_example_of_the_service(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (one for one in doctest.DocTestFinder().find(Service, "Service", globs={}) if one.name == "Service")
    assert doctest.DocTestRunner().run(example) == (0, 4)


@contextmanager
def listening(server, path, *moment):
    """A listener process; give it, and its messages when it ended."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    with path.with_suffix(".log").open("ab") as log:
        command = [sys.executable, str(HELPERS / "listener_run.py"), server.url, str(path), *moment]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_stores_exactly_one_result(tmp_path, server, journal, moment):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    with listening(server, journal.path, moment) as process:
        assert process.wait(DEADLINE) == -signal.SIGKILL
    assert states(journal) == {"running": 1}
    with listening(server, journal.path):
        until_stored(journal)
        wait_for(lambda: journal.jobs("ignored"), "a result that became stable")
    assert len(segs(server)) == 1
    (job,) = journal.jobs("stored")
    assert job.attempts == 2
    assert not list(journal.path.with_suffix(".spool").iterdir())
    log = journal.path.with_suffix(".log").read_text()
    assert "job 1: interrupted in try 1" in log
    assert not any(word in log for word in (*PHI, job.series, job.study))


def test_a_job_that_kills_the_process_each_time_becomes_a_dead_letter(tmp_path, server, journal):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    listener = make_listener(server, journal, attempts=2)
    queue(listener)
    for attempts in (1, 2):
        with journal.transaction():
            assert journal.claim().attempts == attempts
        listener.recover()
    assert [(job.reason, job.attempts) for job in journal.jobs("dead")] == [("Interrupted", 2)]


def test_told_to_stop_it_gives_its_job_back(tmp_path, server, journal):
    new_series(tmp_path / "series")
    server.upload((tmp_path / "series").iterdir())
    with listening(server, journal.path, "wait") as process:
        wait_for(journal.path.with_suffix(".busy").exists, "a job")
        process.terminate()
        assert process.wait(DEADLINE) == 143
    assert [(job.state, job.attempts) for job in journal.jobs("queued")] == [("queued", 0)]


def test_an_archive_may_be_down_at_the_start_and_in_between(tmp_path, server, journal):
    log = journal.path.with_suffix(".log")

    def until_missed():
        missed = log.read_text().count("cannot be reached")
        wait_for(lambda: log.read_text().count("cannot be reached") > missed, "a look that finds the archive down")

    server.kill()
    with listening(server, journal.path) as process:
        until_missed()
        server.start()
        new_series(tmp_path / "a")
        server.upload((tmp_path / "a").iterdir())
        until_stored(journal)
        server.kill()
        until_missed()
        server.start()
        new_series(tmp_path / "b")
        server.upload((tmp_path / "b").iterdir())
        until_stored(journal, 2)
        assert process.poll() is None
    assert len(segs(server)) == 2


def test_a_journal_serves_one_listener_and_is_readable_for_its_owner_only(tmp_path):
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path, exclusive=True)):
        with pytest.raises(OutputError, match="serves one listener"):
            Journal(path, exclusive=True)
        with closing(Journal.existing(path)) as second:
            assert sum(second.counts().values()) == 0
        assert path.stat().st_mode & 0o077 == 0
    Journal(path, exclusive=True).close()
    path.with_name("text.sqlite").write_text("no database, but long enough to look at" * 100)
    with pytest.raises(InputError, match="must be an SQLite file of ours"):
        Journal(path.with_name("text.sqlite"))
    with pytest.raises(InputError, match="a journal must exist"):
        Journal.existing(tmp_path / "missing.sqlite")


@pytest.mark.parametrize("verbose", [False, True])
def test_what_a_log_never_says(verbose):
    """What libraries and remarks say, and how a thread ended, for they quote headers."""
    script = (
        "import logging, threading, warnings\n"
        "from unetpp_monai.cli.listen import start_logging\n"
        f"start_logging(verbose={verbose})\n"
        "for name in ('pydicom', 'pynetdicom', 'unetpp_monai.dicom.seg'):\n"
        "    logging.getLogger(name).error('Doe^Jane')\n"
        "warnings.warn('Doe^Jane')\n"
        "def trip():\n"
        "    raise ValueError('Doe^Jane')\n"
        "threading.Thread(target=trip).start()\n"
        "logging.getLogger('unetpp_monai.pacs.listener').debug('where')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE)
    assert run.returncode == 0 and run.stdout == ""
    assert "Doe" not in run.stderr and "a thread ended: ValueError" in run.stderr
    assert ("DEBUG where" in run.stderr) == verbose


def status(path, *options):
    result = run_listen(["--status", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def run_listen(arguments):
    app = Typer()
    app.command()(listen)
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--rules", "rules.json"],
        ["--rules", "rules.json", "--dimse", "US:104"],
        ["--rules", "rules.json", "--orthanc", "http://127.0.0.1:1", "--dimse", "US:104"],
        ["--rules", "missing.json", "--orthanc", "http://127.0.0.1:1"],
        ["--rules", "rules.json", "--orthanc", "http://127.0.0.1:1", "--format", "nifti"],
        ["--rules", "rules.json", "--orthanc", "http://127.0.0.1:1", "--format", "sr"],
        ["--status", "missing.sqlite"],
    ],
)
def test_options_that_do_not_add_up(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("rules.json").write_text('[{"modality": "MR"}]')
    assert isinstance(run_listen(arguments).exception, InputError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rules.json"]


def test_help_groups_every_option_of_the_archive_and_of_segmenting():
    app = Typer()
    app.command()(listen)
    panels = {}
    for option in get_command(app).params:
        panels.setdefault(option.rich_help_panel, set()).add(option.name)
    assert set(panels) == {None, "Archive", "Segmentation"}
    assert {"bundle", "depth", "rules"} <= panels["Segmentation"] and {"dimse", "user", "ca"} <= panels["Archive"]


def test_the_demo_in_the_readme(tmp_path, server):
    """One command: archive and listener start, a series is sent, SEG and SR come back (`server` only skips)."""
    server.kill()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "docs" / "listener_demo.py")]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "job 1: 2 results stored" in run.stdout
    kinds = {
        pydicom.dcmread(path, stop_before_pixels=True).Modality for path in tmp_path.rglob("listener_demo/**/*.dcm")
    }
    assert kinds == {"MR", "SEG", "SR"}
