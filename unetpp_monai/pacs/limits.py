"""Limits for peers of the receiver, and which connections are closed when a limit is reached. Uses no DICOM library."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Limits at which a connection is closed, or an association is rejected for now."""

    associations: int = 50  # at once
    per_peer: int = 20  # of them, of one address
    waiting: int = 100  # connections that have not asked for an association yet; then the oldest is closed
    request_seconds: float = 10.0  # from a connection to its request for an association, TLS included (ARTIM)
    idle_seconds: float = 60.0  # of an association without a whole PDU
    spare_seconds: float = 1.0  # of an association without a part of an instance, if another one needs the place
    pdu_bytes: int = 1 << 20  # of one PDU; we ask for 16 KiB, a request for many contexts may be longer
    object_bytes: int = 1 << 30  # of one instance, which is held in memory until it is complete
    arriving_bytes: int = 4 << 30  # of all instances that are arriving; then the largest is closed


@dataclass(eq=False)
class Connection:
    """A peer's connection."""

    socket: socket.socket
    peer: str  # its address
    heard: float  # when it was opened, or its last PDU was complete
    useful: float  # the same, of a PDU with a part of an instance
    association: Any = None  # pynetdicom's; None: it has not asked for one
    accepted: bool = False
    started: bool = False  # the association has threads
    working: bool = False  # we answer it
    closed: bool = False  # by us; its threads end soon
    arriving: int = 0  # bytes of the instance on its way

    def close(self) -> None:
        """Wake its threads, which then find it closed."""
        self.closed = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def is_over(self) -> bool:
        """Whether nothing runs any more."""
        return self.socket.fileno() < 0 or (self.started and not self.association.is_alive())


@dataclass
class Connections:
    """All connections of a receiver."""

    limits: Limits
    _all: list[Connection] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def open(self, opened: socket.socket, peer: str) -> Connection:
        """Add a connection; if too many wait, close the oldest one of the peer with the most."""
        with self._lock:
            waiting = [one for one in self._all if not one.accepted and not one.closed]
            if len(waiting) >= self.limits.waiting:
                most = Counter(one.peer for one in waiting).most_common(1)[0][0]
                next(one for one in waiting if one.peer == most).close()
            connection = Connection(opened, peer, time.monotonic(), time.monotonic())
            self._all.append(connection)
            return connection

    def is_crowded(self) -> bool:
        """Whether the threads of closed connections do not end as fast as new ones come."""
        return len(self._all) > 2 * (self.limits.associations + self.limits.waiting)

    def of(self, association: Any) -> Connection:
        """The connection of an association."""
        with self._lock:
            return next(one for one in self._all if one.association is association)

    def at(self, opened: socket.socket) -> Connection:
        """The connection of a socket."""
        with self._lock:
            return next(one for one in self._all if one.socket is opened)

    def admit(self, association: Any) -> bool:
        """Accept an association if there is a place, or an idle one can be closed."""
        with self._lock:
            connection = self.of(association)
            others = [one for one in self._all if one.accepted and not one.closed and not one.is_over()]
            same = [one for one in others if one.peer == connection.peer]
            for group, most in ((same, self.limits.per_peer), (others, self.limits.associations)):
                live = [one for one in group if not one.closed]
                if len(live) >= most and not self._spare(live):
                    return False
            connection.accepted, connection.heard, connection.useful = True, time.monotonic(), time.monotonic()
            return True

    def _spare(self, group: list[Connection]) -> bool:
        """Close the one that has sent no data for the longest time."""
        longest = min((one for one in group if not one.working), key=lambda one: one.useful, default=None)
        if longest is None or time.monotonic() - longest.useful < self.limits.spare_seconds:
            return False
        longest.close()
        return True

    def hear(self, association: Any, count: int = 0) -> None:
        """Note a whole PDU, with bytes of an instance; close what grows too large."""
        with self._lock:
            connection = self.of(association)
            connection.heard = time.monotonic()
            connection.useful = connection.heard if count else connection.useful
            connection.arriving += count
            if connection.arriving > self.limits.object_bytes:
                connection.close()
            elif count and sum(one.arriving for one in self._all) > self.limits.arriving_bytes:
                max(self._all, key=lambda one: one.arriving).close()

    def arrived(self, association: Any) -> None:
        """Note that an instance is complete."""
        self.of(association).arriving = 0

    def during(self, handler: Callable[..., int]) -> Callable[..., int]:
        """Make a handler during which its peer, who waits for us, does not count as idle."""

        def handle(event: Any, *arguments: Any) -> int:
            with self._working(self.of(event.assoc)):
                return handler(event, *arguments)

        return handle

    @contextmanager
    def _working(self, connection: Connection) -> Iterator[None]:
        connection.working = True
        try:
            yield
        finally:
            connection.working, connection.heard, connection.useful = False, time.monotonic(), time.monotonic()

    def close_idle(self) -> None:
        """Close connections that were idle too long, and remove those that ended."""
        now = time.monotonic()
        with self._lock:
            for one in self._all:
                most = self.limits.idle_seconds if one.accepted else self.limits.request_seconds
                if not one.closed and not one.working and now - one.heard > most:
                    one.close()
            over = [one for one in self._all if one.is_over()]
            self._all = [one for one in self._all if one not in over]
        for one in over:
            one.socket.close()

    def close(self) -> None:
        """Close all, and wait a little for their threads."""
        with self._lock:
            for one in self._all:
                one.close()
            left = list(self._all)
        until = time.monotonic() + 5
        for one in left:
            if one.started:
                one.association.join(max(0.0, until - time.monotonic()))
            one.socket.close()
