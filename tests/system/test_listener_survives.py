"""Objects that a sender can make, by C-STORE and in Orthanc: each ends itself, not the listener; no log names it."""

import logging
import warnings
from contextlib import closing, contextmanager
from random import Random

import pydicom
import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.listener_run import look_until, make_listener, threshold
from helpers.orthanc import free_port, orthanc
from hostile.dicom_elements import KINDS, TEXTS, raw_element
from hostile.poison import KEYWORDS, make_poison
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag
from pynetdicom import AE

from unetpp_monai.pacs import Journal, Listener, Receiver, Rule, Schedule, SeriesQueue, connect, orthanc_feed, receiver
from unetpp_monai.pacs.rules import CONDITIONS
from unetpp_monai.pacs.series_queue import folder_facts

AET = "SEGMENTER"
POISONED = 40
NAMES = ("Phantom^", "PHANTOM-1", "Phantom Works")
RULES = (Rule("MR", description=".*", min_slices=1, max_slices=10**6, spacing_mm={"max": 1e6}), Rule("MR"))
READ = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", *KEYWORDS)

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom, of what we make and read


class Panic(BaseException):
    """As decoders written in Rust raise."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


@contextmanager
def receiving(archive, journal, *, processor=threshold, **options):
    """A listener that receives, and its port."""
    spool, port = journal.path.with_suffix(".spool"), free_port()
    source = Receiver(spool, **{"quiet_seconds": 0.3, "min_free_bytes": 0, **options})
    store, schedule = connect(archive.dicomweb_url), Schedule(2, first_seconds=0)
    with source.listening(AET, ("127.0.0.1", port)):
        yield (
            Listener(
                source, SeriesQueue(journal, RULES), processor=processor, store=store, spool=spool, schedule=schedule
            ),
            port,
        )


def store(files, port):
    """Send files as they are, each over an association of its own; return the statuses."""
    answers = []
    for path in files:
        dataset = pydicom.dcmread(path)
        entity = AE("MODALITY")
        entity.add_requested_context(dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", port, ae_title=AET)
        try:
            answers.append(association.send_c_store(dataset).get("Status"))
        except (RuntimeError, ValueError, AttributeError, TypeError):  # pynetdicom cannot send it
            answers.append(None)
        if association.is_established:
            association.release()
    return answers


def work_until_stored(listener, series):
    """Look and work until a series has its result, and nothing is left to do."""

    def done():
        worked = listener.work()
        stored = [job.series for job in listener.journal.jobs("stored")]
        return series in stored and not worked and not listener.journal.jobs("queued", "failed", "running")

    look_until(listener, done)


def ends(journal):
    """Series UID -> what became of it."""
    return {job.series: job.state for job in journal.jobs("stored", "rejected", "ignored", "dead")}


@pytest.mark.slow
def test_poison_by_c_store(tmp_path, archive, journal, caplog):
    caplog.set_level(logging.DEBUG, "unetpp_monai")
    poison = make_poison(tmp_path / "poison", POISONED, seed=7)
    sound = str(make_series(tmp_path / "sound", axial_affine())[0].SeriesInstanceUID)
    with receiving(archive, journal) as (listener, port):
        answers = dict(zip(poison, store(poison.values(), port), strict=True))
        assert set(store(sorted((tmp_path / "sound").iterdir()), port)) == {0}
        work_until_stored(listener, sound)
        look_until(listener, lambda: not any(listener.source.incoming.iterdir()))
        kept = {str(job.id) for job in journal.jobs("dead")} | {"incoming"}
        assert {folder.name for folder in listener.spool.iterdir()} <= kept
    taken = [series for series, answer in answers.items() if answer == 0]
    assert len(taken) > POISONED / 2 and set(taken) <= set(ends(journal))
    assert not any(name in caplog.text for name in (*NAMES, sound, *poison))


@pytest.mark.slow
def test_poison_in_orthanc(tmp_path, archive, journal, caplog):
    caplog.set_level(logging.DEBUG, "unetpp_monai")
    poison = make_poison(tmp_path / "poison", POISONED, seed=8)
    sound = str(make_series(tmp_path / "sound", axial_affine())[0].SeriesInstanceUID)
    listener = make_listener(archive, journal, rules=RULES, everything=False, attempts=2)
    listener.source.look(listener.queue)
    for path in poison.values():
        try:
            archive.upload([path])
        except OSError:  # it refuses some
            continue
    archive.upload(sorted((tmp_path / "sound").iterdir()))
    work_until_stored(listener, sound)
    assert len(ends(journal)) > POISONED / 2
    assert not any(name in caplog.text for name in (*NAMES, sound, *poison))


@pytest.mark.parametrize("fault", [Panic, RecursionError, MemoryError, KeyError, OSError])
def test_whatever_noting_raises(tmp_path, archive, journal, monkeypatch, caplog, fault):
    """The series is rejected by the name of the fault, others go on, and the next start is quiet."""
    bad, good = (str(make_series(tmp_path / name, axial_affine())[0].SeriesInstanceUID) for name in "ab")

    def facts(folder):
        if folder.name == bad:
            raise fault("Phantom^Patient")
        return folder_facts(folder)

    monkeypatch.setattr(receiver, "folder_facts", facts)
    monkeypatch.setattr("unetpp_monai.pacs.found.FIRST_SECONDS", 0.0)
    with receiving(archive, journal) as (listener, port):
        store([*sorted((tmp_path / "a").iterdir()), *sorted((tmp_path / "b").iterdir())], port)
        work_until_stored(listener, good)
        look_until(listener, lambda: journal.jobs("rejected"))
        assert [(job.series, job.instances, job.reason) for job in journal.jobs("rejected")] == [
            (bad, 9, fault.__name__)
        ]
        assert not list(listener.source.incoming.iterdir())
        store(sorted((tmp_path / "a").iterdir())[:1], port)  # a sender that tries again
        look_until(listener, lambda: len(journal.jobs("rejected")) == 2)
    with receiving(archive, journal) as (listener, _):
        listener.recover()
        listener.source.look(listener.queue)
        assert not listener.work()
    assert "Phantom^" not in caplog.text


def test_late_poison_undoes_no_series_that_waits(tmp_path, archive, journal, monkeypatch):
    series = str(make_series(tmp_path / "series", axial_affine())[0].SeriesInstanceUID)
    files = sorted((tmp_path / "series").iterdir())
    with receiving(archive, journal) as (listener, port):
        store(files[:5], port)
        look_until(listener, lambda: listener.queue.waiting() == 1)
        with monkeypatch.context() as patch:
            patch.setattr(receiver, "folder_facts", lambda folder: {}["nothing"])
            store(files[5:], port)
            look_until(listener, lambda: journal.jobs("rejected"))
        work_until_stored(listener, series)
        assert [job.instances for job in journal.jobs("stored")] == [5]


@pytest.mark.parametrize("fault", [Panic, RecursionError, AssertionError])
def test_whatever_a_change_of_the_feed_raises(tmp_path, archive, journal, monkeypatch, fault):
    listener = make_listener(archive, journal, everything=False)
    listener.source.look(listener.queue)
    bad, good = (str(make_series(tmp_path / name, axial_affine())[0].SeriesInstanceUID) for name in "ab")
    facts_of = orthanc_feed.OrthancFeed._facts

    def facts(feed, series):
        if (found := facts_of(feed, series)).series == bad:
            raise fault("Phantom^Patient")
        return found

    monkeypatch.setattr(orthanc_feed.OrthancFeed, "_facts", facts)
    for name in "ab":
        archive.upload(sorted((tmp_path / name).iterdir()))
    look_until(listener, lambda: journal.jobs("rejected") and journal.jobs("queued"))
    (job,) = journal.jobs("rejected")
    assert job.reason == fault.__name__
    assert archive.rest(f"/series/{job.series}")["MainDicomTags"]["SeriesInstanceUID"] == bad
    assert [one.series for one in journal.jobs("queued")] == [good]
    assert listener.work()


@pytest.mark.parametrize("fault", [Panic, RecursionError, AssertionError])
def test_whatever_a_job_raises(tmp_path, archive, journal, caplog, fault):
    def trip(series_folder, output, *, rule):
        raise fault("Phantom^Patient")

    caplog.set_level(logging.DEBUG, "unetpp_monai")
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal, processor=trip) as (listener, port):
        store(sorted((tmp_path / "series").iterdir()), port)
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work() and listener.work() and not listener.work()
        assert [(job.reason, job.attempts) for job in journal.jobs("dead")] == [(fault.__name__, 2)]
    assert "Phantom^" not in caplog.text and "pacs/listener.py" in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_ends_it(tmp_path, archive, journal, monkeypatch, stop):
    def facts(folder):
        raise stop

    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal) as (listener, port):
        store(sorted((tmp_path / "series").iterdir()), port)
        with monkeypatch.context() as patch, pytest.raises(stop):
            patch.setattr(receiver, "folder_facts", facts)
            look_until(listener, lambda: False)
        look_until(listener, lambda: listener.queue.waiting() == 1)


def test_a_source_that_raises_anything_is_looked_at_again(journal, tmp_path, monkeypatch):
    looks, pauses = [], []

    class Source:
        def look(self, queue):
            looks.append(1)
            raise [Panic("Phantom^"), TypeError("Phantom^"), OSError("Phantom^"), KeyboardInterrupt][len(looks) - 1]

    monkeypatch.setattr("time.sleep", pauses.append)
    listener = Listener(Source(), SeriesQueue(journal, ()), processor=None, store=None, spool=tmp_path / "spool")
    with pytest.raises(KeyboardInterrupt):
        listener.run(poll_seconds=1.0)
    assert len(pauses) == 3 and pauses[0] < pauses[2]


@pytest.mark.parametrize("keyword", READ)
def test_every_kind_of_every_attribute_that_we_read(tmp_path, keyword):
    """Facts, or a fault that ends the series: nothing in between, and no value that a rule cannot look at."""
    rng, seen = Random(keyword), 0
    make_series(tmp_path, axial_affine(), (4, 4, 1))
    (path,) = tmp_path.iterdir()
    for kind in KINDS:
        for value in rng.sample(TEXTS, 6):
            dataset = pydicom.dcmread(path)
            tag = BaseTag(tag_for_keyword(keyword))
            dataset._dict[tag] = raw_element(tag, kind, value + b" " * (len(value) % 2), dataset)
            folder = tmp_path / f"{kind}_{seen}"
            folder.mkdir()
            dataset.save_as(folder / "one.dcm", enforce_file_format=False)
            seen += 1
            try:
                facts = folder_facts(folder)
            except Exception:  # noqa: BLE001 - which one is for the source to name
                continue
            for rule in RULES:
                assert rule.objection(facts) in (None, *CONDITIONS)
            assert facts.fingerprint and len(facts.description) <= 1024


def test_a_description_that_is_a_sequence_is_none(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_series(tmp_path, axial_affine(), (4, 4, 1), change=lambda dataset, _: dataset.pop("SeriesDescription"))
        (path,) = tmp_path.iterdir()
        dataset = pydicom.dcmread(path)
        item = pydicom.Dataset()
        item.PatientName = "Phantom^Patient"
        dataset.add_new("SeriesDescription", "SQ", [item])
        dataset.save_as(path)
    assert folder_facts(tmp_path).description == ""
