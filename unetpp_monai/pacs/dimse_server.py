"""pynetdicom's DICOM server with limits, so that no peer can block it.

Its own time-outs do not reach a thread that waits for the rest of a PDU, it takes a PDU of any length, shakes hands for
TLS in the thread that accepts, and counts a connection that says nothing as an association. Imported where it is used.
"""

import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ..faults import trace_of
from .limits import Connections, Limits

logger = logging.getLogger(__name__)

HEADER_BYTES = 6  # of a PDU: kind, nothing, length
REQUEST = 1  # kind of a PDU that asks for an association
SEEN_BYTES = 1 << 15  # of a request, waited for before an association has its two threads; fits into a socket's buffer
AGAIN_SECONDS = 0.05
COMMAND = 1  # bit of the first byte of a value that is no part of an instance
NO_PLACE = (0x02, 0x03, 0x02)  # rejected for now, by presentation, local limit exceeded
MOST_MESSAGES = 2  # that wait for us; a peer must wait for its answer before it sends the next one


@contextmanager
def serving(
    entity: AE, where: tuple[str, int], handlers: Sequence[Any], *, tls: ssl.SSLContext | None, limits: Limits
) -> Iterator[None]:
    """Run a server in threads of its own.

    Args:
        entity: with AE titles and contexts.
        where: address and port to listen at.
        handlers: of pynetdicom's events; those of C-STORE come first.
        tls: a server's context.
        limits: of what peers may take.

    Raises:
        OSError: the port is taken.
    """
    connections = Connections(limits)
    entity.acse_timeout = limits.request_seconds
    entity.network_timeout = limits.idle_seconds
    entity.maximum_associations = 1 << 16  # we count
    watched = [
        (event, connections.during(handler) if event is evt.EVT_C_STORE else handler, *arguments)
        for event, handler, *arguments in handlers
    ]
    server = entity.make_server(where, evt_handlers=[*watched, *_watching(connections)], server_class=_Server)
    server.connections, server.tls = connections, tls
    thread = threading.Thread(target=server.serve_forever, name="dimse server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        BaseServer.shutdown(server)  # pynetdicom's own would look for servers that it started
        server.server_close()
        connections.close()


class _Handler(RequestHandler):
    """Makes the association of a connection."""

    server: "_Server"

    def _create_association(self) -> Any:
        association = super()._create_association()
        stream = association.dul.socket
        stream.recv = partial(_receive, stream.recv, self.server.connections.limits.pdu_bytes)
        self.server.connections.at(self.request).association = association
        return association


class _Server(ThreadedAssociationServer):
    """Accepts connections; none of them waits for another."""

    request_queue_size = 128  # connections that the system holds for us
    daemon_threads = True
    connections: Connections
    tls: ssl.SSLContext | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, request_handler=_Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its own thread does the TLS handshake."""
        accepted, address = self.socket.accept()
        accepted.setblocking(True)
        if self.tls is not None:
            accepted = self.tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return accepted, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.connections.is_crowded()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.open(request, client_address[0])
        threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="dimse request", daemon=True
        ).start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Wait until the peer asks for an association, and let pynetdicom answer."""
        try:
            if self._is_asked(request):
                self.finish_request(request, client_address)
                self.connections.at(request).started = True
                return
        except Exception as error:  # noqa: BLE001 - of one connection, none of which may end the service
            logger.debug("a connection failed: %s", trace_of(error))
        self.shutdown_request(request)

    def _is_asked(self, request: Any) -> bool:
        """Whether a request for an association has come; over TLS, whether the handshake is done."""
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
            return True
        header = self._peek(request, HEADER_BYTES)
        length = int.from_bytes(header[2:], "big")
        if header[:1] != bytes([REQUEST]) or length > self.connections.limits.pdu_bytes:
            return False
        return bool(self._peek(request, min(HEADER_BYTES + length, SEEN_BYTES)))

    def _peek(self, request: socket.socket, count: int) -> bytes:
        """Wait for bytes without consuming them; empty if the connection is closed first."""
        connection = self.connections.at(request)
        seen = b""
        while not connection.closed:
            seen = request.recv(count, socket.MSG_PEEK | getattr(socket, "MSG_WAITALL", 0))
            if len(seen) == count or not seen:
                return seen
            time.sleep(AGAIN_SECONDS)  # the peer has ended, or a system does not wait for all
        return b""

    def service_actions(self) -> None:
        """Called twice a second."""
        super().service_actions()
        self.connections.close_idle()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing on stderr, as the library would."""
        error = sys.exception()
        logger.debug("a connection failed: %s", "" if error is None else trace_of(error))


def _receive(receive: Any, most: int, count: int) -> Any:
    """Read from a peer no more than a PDU may hold."""
    if count > most:
        raise OSError(f"a PDU must have at most {most} bytes, got one of {count}")
    return receive(count)


def _watching(connections: Connections) -> list[tuple[Any, Any]]:
    """Handlers that tell the connections what happens."""

    def requested(event: evt.Event) -> None:
        if not connections.admit(event.assoc):
            logger.warning("an association is rejected for now: too many are open")
            event.assoc.acse.send_reject(*NO_PLACE)
            event.assoc.kill()

    def received(event: evt.Event) -> None:
        items = event.pdu.presentation_data_value_items if isinstance(event.pdu, P_DATA_TF) else ()
        values = [item.presentation_data_value for item in items]
        connections.hear(event.assoc, sum(len(value) for value in values if value and not value[0] & COMMAND))

    def arrived(event: evt.Event) -> None:
        connections.arrived(event.assoc)
        if event.assoc.dimse.msg_queue.qsize() >= MOST_MESSAGES:
            connections.of(event.assoc).close()

    def closed(event: evt.Event) -> None:
        if event.assoc.requestor.primitive is None:  # its other thread would wait on for a request
            event.assoc.dul.to_user_queue.put(None)

    return [
        (evt.EVT_REQUESTED, requested),
        (evt.EVT_PDU_RECV, received),
        (evt.EVT_DIMSE_RECV, arrived),
        (evt.EVT_CONN_CLOSE, closed),
    ]
