"""Series that are sent to the listener by C-STORE; results go to a real Orthanc."""

import os
import shutil
import socket
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.listener_run import MR, look_until, threshold
from helpers.orthanc import free_port, make_certificates, orthanc

from unetpp_monai.errors import InputError, OutputError, PacsError, UnavailableError
from unetpp_monai.pacs import (
    Credentials,
    DimseInput,
    Journal,
    Listener,
    Receiver,
    Rule,
    Schedule,
    SeriesQueue,
    Service,
    connect,
    push,
)

AET = "SEGMENTER"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


@contextmanager
def receiving(archive, journal, *, rules=MR, calling=(), processor=threshold, **options):
    """A listener that receives, and the address that it receives at."""
    spool = journal.path.with_suffix(".spool")
    receiver = Receiver(spool, **{"quiet_seconds": 0.5, "min_free_bytes": 0, **options})
    queue = SeriesQueue(journal, tuple(rules))
    store = connect(archive.dicomweb_url)
    listener = Listener(
        receiver, queue, processor=processor, store=store, spool=spool, schedule=Schedule(3, first_seconds=0)
    )
    port = free_port()
    with receiver.listening(AET, ("127.0.0.1", port), calling=calling):
        yield listener, f"dimse://{AET}@127.0.0.1:{port}"


def segs(archive, header):
    return archive.find("Instance", StudyInstanceUID=header.StudyInstanceUID, Modality="SEG")


def incoming(listener):
    return list((listener.spool / "incoming").rglob("*"))


def test_a_series_that_is_sent_comes_back_as_a_result(tmp_path, archive, journal):
    header = make_series(tmp_path / "series", axial_affine())[0]
    with receiving(archive, journal) as (listener, address):
        pushed = push(connect(address), [tmp_path / "series"])
        assert (len(pushed.stored), dict(pushed.failed)) == (9, {})
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work()
        assert len(segs(archive, header)) == 1
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: not incoming(listener))
        assert (journal.counts()["stored"], listener.queue.waiting()) == (1, 0)
        assert [path.name for path in listener.spool.iterdir()] == ["incoming"]


def test_a_service_that_receives(tmp_path, archive):
    header = make_series(tmp_path / "series", axial_affine())[0]
    given = DimseInput(AET, free_port(), quiet_seconds=0.5, min_free_bytes=0)
    service = Service(given, MR, threshold, tmp_path / "journal.sqlite", store_to=archive.dicomweb_url)
    with service.listener() as listener:
        push(connect(f"dimse://{AET}@127.0.0.1:{given.port}"), [tmp_path / "series"])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work()
    assert len(segs(archive, header)) == 1


@pytest.mark.parametrize(
    ("aet", "port", "store_to", "message"),
    [
        ("", 104, "http://127.0.0.1:1", "an AE title must be 1 to 16 ASCII characters"),
        (AET, 0, "http://127.0.0.1:1", "a port must be from 1 to 65535, got 0"),
        (AET, 104, None, "need an archive, got no store_to"),
    ],
)
def test_a_service_that_cannot_receive(aet, port, store_to, message):
    with pytest.raises(InputError, match=message):
        Service(DimseInput(aet, port), MR, threshold, store_to=store_to)


def test_other_tools_can_send(tmp_path, archive, journal):
    storescu = next((path for path in ("/usr/bin/storescu", "/usr/local/bin/storescu") if Path(path).exists()), None)
    if storescu is None:
        pytest.skip("needs storescu of dcmtk: apt-get install dcmtk")
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal) as (listener, address):
        port = address.rpartition(":")[2]
        command = [storescu, "-aec", AET, "+sd", "127.0.0.1", port, str(tmp_path / "series")]
        assert subprocess.run(command, capture_output=True).returncode == 0
        look_until(listener, lambda: [job.instances for job in journal.jobs("queued")] == [9])


def test_unwanted_series_and_results_are_not_kept(tmp_path, archive, journal):
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal, rules=[Rule("CT")]) as (listener, address):
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: [job.reason for job in journal.jobs("ignored")] == ["modality"])
        assert not incoming(listener)
        threshold(tmp_path / "series", tmp_path, rule=MR[0])
        push(connect(address), [tmp_path / "result.dcm"])
        look_until(listener, lambda: [job.reason for job in journal.jobs("ignored")] == ["modality", "result"])


def test_what_comes_late_joins_what_waits(tmp_path, archive, journal):
    header = make_series(tmp_path / "series", axial_affine())[0]
    files = sorted((tmp_path / "series").iterdir())
    with receiving(archive, journal) as (listener, address):
        push(connect(address), files[:5])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        push(connect(address), files[3:])
        look_until(listener, lambda: journal.counts()["superseded"] == 1)
        assert [job.instances for job in journal.jobs("queued")] == [9]
        push(connect(address), files[3:])  # again, while it waits
        look_until(listener, lambda: not incoming(listener))
        assert listener.work() and not listener.work()
        assert len(segs(archive, header)) == 1


def test_a_resent_series_does_not_undo_results_that_wait(tmp_path, archive, journal):
    calls = []

    def once(series_folder, output, *, rule):
        calls.append(rule)
        return threshold(series_folder, output, rule=rule)

    header = make_series(tmp_path / "series", axial_affine())[0]
    with receiving(archive, journal, processor=once) as (listener, address):
        up, listener.store = listener.store, connect(f"http://127.0.0.1:{free_port()}/dicom-web")
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work()
        assert journal.counts()["failed"] == 1
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: not incoming(listener))
        listener.store = up
        assert listener.work()
        assert (len(calls), len(segs(archive, header))) == (1, 1)


def test_what_was_received_survives_a_restart(tmp_path, archive, journal):
    header = make_series(tmp_path / "series", axial_affine())[0]
    with receiving(archive, journal) as (listener, address):
        push(connect(address), [tmp_path / "series"])
        (listener.spool / "incoming" / ".1.2.3.4.part").write_bytes(b"half")
    with receiving(archive, journal) as (listener, _):
        listener.recover()
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert not incoming(listener)
        assert listener.work()
    assert len(segs(archive, header)) == 1


def test_killed_between_journal_and_folder_it_still_has_the_series(tmp_path, archive, journal):
    header = make_series(tmp_path / "series", axial_affine())[0]
    with receiving(archive, journal) as (listener, address):
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        (job,) = journal.jobs("queued")
        folder = listener.spool / str(job.id)
        (folder / "series").rename(listener.spool / "incoming" / job.series)  # as if the last step had not been done
        folder.rmdir()
    with receiving(archive, journal) as (listener, _):
        listener.recover()
        look_until(listener, lambda: not incoming(listener))
        assert listener.work()
    assert len(segs(archive, header)) == 1


@pytest.mark.parametrize("aged", [False, True])
def test_a_restart_in_the_middle_of_a_series_does_not_end_it(tmp_path, archive, journal, aged):
    """What lies there may be half of a series, whose sender waits for us, however long we were away."""
    header = make_series(tmp_path / "series", axial_affine())[0]
    files = sorted((tmp_path / "series").iterdir())
    with receiving(archive, journal, quiet_seconds=3.0) as (listener, address):
        push(connect(address), files[:4])
    if aged:
        for path in (listener.spool / "incoming" / header.SeriesInstanceUID, *incoming(listener)):
            os.utime(path, (0, 0))
    with receiving(archive, journal, quiet_seconds=3.0) as (listener, address):
        listener.recover()
        listener.source.look(listener.queue)
        assert listener.queue.waiting() == 0
        push(connect(address), files[4:])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert [job.instances for job in journal.jobs("queued")] == [9]
        assert listener.work() and not listener.work()
    assert len(segs(archive, header)) == 1


def test_what_nobody_completes_after_a_restart_is_taken_as_it_is(tmp_path, archive, journal):
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal, quiet_seconds=1.0) as (listener, address):
        push(connect(address), sorted((tmp_path / "series").iterdir())[:4])
    with receiving(archive, journal, quiet_seconds=1.0) as (listener, _):
        look_until(listener, lambda: [job.instances for job in journal.jobs("queued")] == [4])


def test_the_spool_is_for_its_owner_only(tmp_path, archive, journal):
    with receiving(archive, journal) as (listener, _):
        assert listener.spool.stat().st_mode & 0o077 == 0
    listener.spool.chmod(0o755)
    Receiver(listener.spool)
    assert listener.spool.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be a folder of ours"):
        Receiver(tmp_path / "file")


def test_killed_before_the_first_instance_it_starts_again(archive, journal):
    with receiving(archive, journal, quiet_seconds=0) as (listener, _):
        (listener.spool / "incoming" / "1.2.3").mkdir()
        listener.source.look(listener.queue)
        assert not incoming(listener)


def test_killed_while_a_known_series_is_deleted_the_rest_is_no_series(tmp_path, archive, journal, monkeypatch):
    class Killed(SystemExit):
        pass

    def die(folder, **options):
        for path in sorted(folder.iterdir())[:4]:
            path.unlink()
        raise Killed

    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal) as (listener, address):
        push(connect(address), [tmp_path / "series"])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work()
        push(connect(address), [tmp_path / "series"])
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(shutil, "rmtree", die)
            look_until(listener, lambda: False)
        assert len(list((listener.spool / "incoming").rglob("*.dcm"))) == 5
    with receiving(archive, journal, quiet_seconds=0) as (listener, _):
        listener.recover()
        listener.source.look(listener.queue)
        assert not incoming(listener)
        assert (journal.counts()["stored"], listener.queue.waiting()) == (1, 0)


def test_late_slices_that_complete_a_known_series_leave_no_job(tmp_path, archive, journal):
    make_series(tmp_path / "series", axial_affine())
    files = sorted((tmp_path / "series").iterdir())
    with receiving(archive, journal) as (listener, address):
        push(connect(address), files)
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert listener.work()
        push(connect(address), files[:5])
        look_until(listener, lambda: listener.queue.waiting() == 1)
        push(connect(address), files[5:])
        look_until(listener, lambda: not incoming(listener))
        assert (journal.counts()["stored"], journal.counts()["superseded"], listener.queue.waiting()) == (1, 1, 0)
        listener.recover()
        assert [path.name for path in listener.spool.iterdir()] == ["incoming"]


def failures(address, folder):
    return set(push(connect(address), [folder]).failed.values())


def test_a_full_queue_refuses_new_series_and_takes_the_rest_of_old_ones(tmp_path, archive, journal):
    for name in ("a", "b"):
        make_series(tmp_path / name, axial_affine())
    files = sorted((tmp_path / "a").iterdir())
    with receiving(archive, journal, max_queue=1) as (listener, address):
        assert not push(connect(address), files[:4]).failed
        assert failures(address, tmp_path / "b") == {"status 0xA700"}
        assert not push(connect(address), files[4:]).failed
        look_until(listener, lambda: listener.queue.waiting() == 1)
        assert failures(address, tmp_path / "b") == {"status 0xA700"}
        assert listener.work()
        listener.source.look(listener.queue)
        assert failures(address, tmp_path / "b") == set()


def test_a_full_disk_refuses_everything(tmp_path, archive, journal):
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal, min_free_bytes=1 << 60) as (listener, address):
        assert failures(address, tmp_path / "series") == {"status 0xA700"}
        assert not incoming(listener)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # of pydicom, on both sides
@pytest.mark.parametrize("uid", ["../../outside", "..", "."])
def test_names_of_files_do_not_come_from_strangers(tmp_path, archive, journal, uid):
    def spoil(dataset, index):
        dataset.SeriesInstanceUID = uid

    make_series(tmp_path / "series", axial_affine(), change=spoil)
    with receiving(archive, journal) as (listener, address):
        assert failures(address, tmp_path / "series") == {"status 0xC000"}
        assert not incoming(listener)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of pydicom; the listener's process ignores it too
def test_nonsense_in_headers_does_not_stop_the_listener(tmp_path, archive, journal):
    def nonsense(dataset, index):
        dataset.add_new("NumberOfFrames", "LO", "many")  # stored as text, read as a number
        dataset.add_new("PixelSpacing", "LO", "wide")
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian

    make_series(tmp_path / "series", axial_affine(), change=nonsense)
    with receiving(archive, journal, rules=[Rule("MR", spacing_mm={"max": 5})]) as (listener, address):
        assert not push(connect(address), [tmp_path / "series"]).failed
        look_until(listener, lambda: [job.reason for job in journal.jobs("ignored")] == ["spacing_mm"])


def test_an_element_of_no_known_kind_does_not_stop_the_listener(tmp_path, archive, journal):
    header = make_series(tmp_path / "series", axial_affine())[0]
    with receiving(archive, journal, rules=[Rule("MR", body_part="HEAD")], quiet_seconds=0) as (listener, _):
        folder = listener.spool / "incoming" / header.SeriesInstanceUID
        folder.mkdir()
        for path in (tmp_path / "series").iterdir():
            content = path.read_bytes()
            assert content.count(b"\x18\0\x50\0DS") == 1
            (folder / path.name).write_bytes(content.replace(b"\x18\0\x50\0DS", b"\x18\0\x50\0ZZ"))  # SliceThickness
        listener.source.look(listener.queue)
        assert [job.reason for job in journal.jobs("ignored")] == ["body_part"]


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "A\\B", "\u00c4"])
def test_titles_that_are_none(tmp_path, title):
    receiver = Receiver(tmp_path / "spool")
    for aet, calling in ((title, ()), (AET, [title])):
        listening = receiver.listening(aet, ("127.0.0.1", free_port()), calling=calling)
        with pytest.raises(InputError, match="an AE title must be 1 to 16 ASCII characters"), listening:
            pass


def test_only_those_who_may(tmp_path, archive, journal):
    make_series(tmp_path / "series", axial_affine())
    with receiving(archive, journal, calling=["SCANNER"]) as (_, address):
        for wrong, us in ((address, "STRANGER"), (address.replace(AET, "OTHER"), "SCANNER")):
            with pytest.raises(PacsError, match="check both AE titles"):
                push(connect(wrong, Credentials(aet=us)), [tmp_path / "series"])
        assert not push(connect(address, Credentials(aet="SCANNER")), [tmp_path / "series"]).failed
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", int(address.rpartition(":")[2])))  # loopback, but not where we listen


def test_a_port_that_is_taken(tmp_path, archive, journal):
    with receiving(archive, journal) as (listener, address):
        port = int(address.rpartition(":")[2])
        taken = listener.source.listening(AET, ("127.0.0.1", port))
        with pytest.raises(UnavailableError, match=f"port {port} of 127.0.0.1 must be free"), taken:
            pass


def test_tls(tmp_path):
    certificates = make_certificates(tmp_path)
    cert, key = certificates / "cert.pem", certificates / "key.pem"
    ours = Credentials(ca=cert, certificate=cert, key=key)
    make_series(tmp_path / "series", axial_affine())
    receiver, port = Receiver(tmp_path / "spool", min_free_bytes=0), free_port()
    with receiver.listening(AET, ("127.0.0.1", port), tls=ours.tls(server=True)):
        assert not push(connect(f"dimses://{AET}@127.0.0.1:{port}", ours), [tmp_path / "series"]).failed
