"""Peers that hold connections, or send more than they may: others still get through within seconds."""

import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.orthanc import free_port, make_certificates
from helpers.waiting import wait_for
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage, Verification

from unetpp_monai.errors import PacsError
from unetpp_monai.pacs import Credentials, Limits, Receiver, connect, push

pytestmark = pytest.mark.slow

AET = "SEGMENTER"
SECONDS = 30  # within which a sender must get through; a few on an idle machine
REQUEST, DATA = 1, 4  # kinds of PDU


@contextmanager
def receiving(tmp_path, tls=None, **limits):
    """A receiver, and its port."""
    receiver, port = Receiver(tmp_path / "spool", min_free_bytes=0), free_port()
    with receiver.listening(AET, ("127.0.0.1", port), tls=tls, limits=Limits(**limits)):
        yield port


def send(tmp_path, port, access=None):
    """Send a series as a modality does, again until it gets through; return after how many seconds it did."""
    if not (tmp_path / "series").exists():
        make_series(tmp_path / "series", axial_affine(), (12, 10, 4))
    begin = time.monotonic()
    while True:
        with suppress(PacsError):
            scheme = "dimse" if access is None else "dimses"
            pushed = push(connect(f"{scheme}://{AET}@127.0.0.1:{port}", access), [tmp_path / "series"])
            if len(pushed.stored) == 4:
                return time.monotonic() - begin
        assert time.monotonic() - begin < 10 * SECONDS
        time.sleep(0.2)


def pdu(kind, length, content=b""):
    """The beginning of a PDU that says how long it is."""
    return struct.pack(">BBL", kind, 0, length) + content


@contextmanager
def held(port, count, data=b""):
    """Connections on which `data` was sent, and nothing more."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)]
        for connection in opened:
            with suppress(OSError):
                connection.sendall(data)
        yield opened


def is_closed(connection):
    """Whether the other side has ended a connection; whatever it had to say is read."""
    connection.setblocking(False)
    try:
        return not connection.recv(1 << 16)
    except BlockingIOError:
        return False
    except OSError:
        return True


UNASKED = {
    "none": b"",
    "byte": b"\x01",
    "header": pdu(REQUEST, 200)[:5],
    "no body": pdu(REQUEST, 200),
    "half": pdu(REQUEST, 200, b"\0\1\0\0" + AET.encode()),
    "4 GiB": pdu(REQUEST, 0xFFFFFFFF, b"\0" * 1000),
    "long": pdu(REQUEST, 60_000, b"\0" * 40_000),  # more than we wait for
    "data": pdu(DATA, 0xFFFFFFFF),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "noise": b"\xff" * 5000,
}


@pytest.mark.parametrize("kind", UNASKED)
def test_connections_that_ask_for_nothing(tmp_path, kind):
    with receiving(tmp_path) as port, held(port, 10, UNASKED[kind]):
        assert send(tmp_path, port) < SECONDS


def test_a_hundred_of_each(tmp_path):
    """More than may wait; those that ask for nothing come last."""
    with receiving(tmp_path) as port, ExitStack() as stack:
        for kind in ("noise", "4 GiB", "half", "byte", "none"):
            stack.enter_context(held(port, 100, UNASKED[kind]))
            assert send(tmp_path, port) < SECONDS


def test_they_are_closed_and_their_threads_end(tmp_path):
    before = threading.active_count()
    with receiving(tmp_path, request_seconds=1.0) as port, held(port, 30, pdu(REQUEST, 200, b"\0\1")) as opened:
        wait_for(lambda: all(is_closed(connection) for connection in opened), "the end of idle connections")
    wait_for(lambda: threading.active_count() <= before, "the end of their threads")


def test_the_oldest_connection_of_the_peer_that_has_most_gives_way(tmp_path):
    with receiving(tmp_path, waiting=5) as port, socket.socket() as other, held(port, 5, b"\1") as opened:
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", port))
        other.sendall(b"\1")
        wait_for(lambda: is_closed(opened[0]), "the end of the oldest")
        with held(port, 1, b"\1"):
            wait_for(lambda: is_closed(opened[1]), "the end of the next one")
            assert not is_closed(other) and not any(is_closed(one) for one in opened[2:])


@contextmanager
def associated(port, count, context=MRImageStorage):
    """Associations of real peers that then say nothing, as many as are accepted."""
    entity = AE("HOLDER")
    entity.add_requested_context(context)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 120
    opened = [entity.associate("127.0.0.1", port, ae_title=AET) for _ in range(count)]
    sockets = [one.dul.socket.socket for one in opened if one.is_established]  # pynetdicom leaves some open
    try:
        yield [one for one in opened if one.is_established]
    finally:
        for one in opened:
            if one.is_established:
                one.abort()
        for one in sockets:
            one.close()


def test_associations_that_are_idle_give_way(tmp_path):
    with receiving(tmp_path, per_peer=8) as port, associated(port, 10) as idle:
        assert len(idle) >= 8
        assert send(tmp_path, port) < SECONDS


@pytest.mark.parametrize(
    "data",
    [pdu(DATA, 100)[:3], pdu(DATA, 100, b"\0" * 50), pdu(DATA, 0xFFFFFFFF, b"\0" * 50)],
    ids=["header", "half", "4 GiB"],
)
def test_associations_that_stop_within_a_pdu_give_way(tmp_path, data):
    with receiving(tmp_path, per_peer=8) as port, associated(port, 8) as idle:
        for one in idle:
            one.dul.socket.socket.sendall(data)
        assert send(tmp_path, port) < SECONDS


def test_associations_that_only_chat_give_way(tmp_path):
    with receiving(tmp_path, per_peer=3) as port, associated(port, 3, Verification) as peers:
        ended = threading.Event()

        def chat():
            while not ended.wait(0.2):
                for one in peers:
                    if one.is_established:
                        one.send_c_echo()

        thread = threading.Thread(target=chat)
        thread.start()
        try:
            assert send(tmp_path, port) < SECONDS
        finally:
            ended.set()
            thread.join()


def test_an_association_that_is_idle_ends(tmp_path):
    with receiving(tmp_path, idle_seconds=1.0) as port, associated(port, 2, Verification) as idle:
        idle[1].dul.socket.socket.sendall(pdu(DATA, 100)[:4])
        wait_for(lambda: not any(one.is_established for one in idle), "the end of idle associations")


def test_more_than_a_peer_may_have_are_rejected_for_now(tmp_path):
    limits = {"per_peer": 2, "associations": 3, "spare_seconds": 60.0}
    with receiving(tmp_path, **limits) as port, associated(port, 4) as idle:
        assert len(idle) == 2
        entity = AE("OTHER")
        entity.add_requested_context(Verification)
        third, fourth = (
            entity.associate("127.0.0.1", port, ae_title=AET, bind_address=(address, 0))
            for address in ("127.0.0.2", "127.0.0.3")
        )
        assert third.is_established and fourth.is_rejected
        idle[0].release()
        wait_for(lambda: entity.associate("127.0.0.1", port, ae_title=AET).is_established, "a place")
        for one in (third, *entity.active_associations):
            one.abort()


@pytest.mark.parametrize("limits", [{"object_bytes": 100_000}, {"arriving_bytes": 100_000}])
def test_an_object_that_is_too_large_ends_its_association_only(tmp_path, limits):
    make_series(tmp_path / "large", axial_affine(), (300, 300, 1))
    with receiving(tmp_path, **limits) as port:
        assert len(push(connect(f"dimse://{AET}@127.0.0.1:{port}"), [tmp_path / "large"]).failed) == 1
        assert send(tmp_path, port) < SECONDS
    assert not list((tmp_path / "spool" / "incoming").glob(".*"))


def test_a_peer_that_does_not_wait_for_answers_ends(tmp_path):
    """Each message of it would wait in memory."""
    with receiving(tmp_path) as port, associated(port, 1, Verification) as (peer,):
        from pynetdicom.dimse_primitives import C_ECHO

        context = peer.accepted_contexts[0].context_id
        for number in range(2000):
            message = C_ECHO()
            message.MessageID, message.AffectedSOPClassUID = number, Verification
            peer.dimse.send_msg(message, context)
        wait_for(lambda: not peer.is_established, "the end of its association")
        assert send(tmp_path, port) < SECONDS


def test_hands_that_are_not_shaken_keep_nobody_out(tmp_path):
    certificates = make_certificates(tmp_path)
    cert, key = certificates / "cert.pem", certificates / "key.pem"
    ours = Credentials(ca=cert, certificate=cert, key=key)
    with receiving(tmp_path, ours.tls(server=True)) as port:
        for data in (b"", b"\x16\x03\x01", b"\x01" * 100):
            with held(port, 20, data):
                assert send(tmp_path, port, ours) < SECONDS


def test_a_receiver_stops_although_others_hold_connections(tmp_path):
    receiver, port = Receiver(tmp_path / "spool", min_free_bytes=0), free_port()
    with ExitStack() as stack:
        with receiver.listening(AET, ("127.0.0.1", port)):
            opened = stack.enter_context(held(port, 5, b"\1"))
            stack.enter_context(associated(port, 2))
            begin = time.monotonic()
        assert time.monotonic() - begin < SECONDS
        wait_for(lambda: all(is_closed(connection) for connection in opened), "the end of all connections")
