"""Leases of clients; a lease ends when it is released, idle or silent."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .clicked import Clicked


class NoLeaseError(Exception):
    """The request has no valid lease."""


class FullError(Exception):
    """The server has no room for another client."""


@dataclass
class Lease:
    """One client."""

    token: str
    clicked: Clicked
    lock: threading.Lock = field(default_factory=threading.Lock)  # of its requests, one at a time
    used: float = 0.0  # time of the user's last action, seconds
    seen: float = 0.0  # time of the last request, seconds


class Leases:
    """Leases of one server.

    Args:
        make: makes the state of a new client.
        most: maximum number.
        idle: seconds without user action until a lease ends.
        silent: seconds without request until a lease ends.
        clock: returns seconds.
    """

    def __init__(
        self,
        make: Callable[[], Clicked],
        *,
        most: int,
        idle: float,
        silent: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.idle, self.silent = most, idle, silent
        self._make, self._clock = make, clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of leases."""
        self.end_expired()
        return len(self._leases)

    def claim(self) -> Lease:
        """Begin a lease.

        Raises:
            FullError: the maximum is reached.
        """
        self.end_expired()
        with self._lock:
            if len(self._leases) >= self.most:
                raise FullError
            now = self._clock()
            lease = Lease(secrets.token_hex(16), self._make(), used=now, seen=now)
            self._leases[lease.token] = lease
            return lease

    def find(self, token: str | None, *, active: bool) -> Lease:
        """Return the lease of a request.

        Args:
            token: of the request.
            active: whether the user acted, as opposed to a keep-alive.

        Raises:
            NoLeaseError: no such lease.
        """
        self.end_expired()
        with self._lock:
            lease = self._leases.get(token or "")
            if lease is None:
                raise NoLeaseError
            lease.seen = self._clock()
            lease.used = lease.seen if active else lease.used
            return lease

    def used(self, lease: Lease) -> None:
        """Note that a request was answered now; it may have taken longer than a lease may be silent."""
        with self._lock:
            lease.seen = lease.used = self._clock()

    def left(self, lease: Lease) -> float:
        """Return the seconds until a lease ends without user action."""
        return max(0.0, self.idle - (self._clock() - lease.used))

    def release(self, token: str | None) -> None:
        """End a lease, if it exists."""
        with self._lock:
            self._leases.pop(token or "", None)

    def end_expired(self) -> None:
        """End idle and silent leases that are not answering a request."""
        now = self._clock()
        with self._lock:
            for token, lease in list(self._leases.items()):
                if (now - lease.seen > self.silent or now - lease.used > self.idle) and not lease.lock.locked():
                    del self._leases[token]
