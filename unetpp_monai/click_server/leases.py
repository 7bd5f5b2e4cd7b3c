"""Which clients there are: each has a lease, which ends when it is released, not used, or silent."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .clicked import Clicked


class NoLeaseError(Exception):
    """A request without a lease that exists."""


class FullError(Exception):
    """No client more is taken now."""


@dataclass
class Lease:
    """One client."""

    token: str
    clicked: Clicked
    lock: threading.Lock = field(default_factory=threading.Lock)  # of its requests, one at a time
    used: float = 0.0  # when its user did something, seconds
    seen: float = 0.0  # when anything came from it


class Leases:
    """Leases of one server.

    Args:
        make: what a new client corrects.
        most: how many there are at most.
        idle: seconds without anything that a user does, after which one ends.
        silent: seconds without any request, after which one ends.
        clock: seconds.
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
        """How many there are."""
        self.end_expired()
        return len(self._leases)

    def claim(self) -> Lease:
        """Begin a lease.

        Raises:
            FullError: there are as many as there may be.
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
        """Give the lease of a request.

        Args:
            token: of the request.
            active: whether a user did something, rather than a client saying that it is there.

        Raises:
            NoLeaseError: there is none.
        """
        self.end_expired()
        with self._lock:
            lease = self._leases.get(token or "")
            if lease is None:
                raise NoLeaseError
            lease.seen = self._clock()
            lease.used = lease.seen if active else lease.used
            return lease

    def left(self, lease: Lease) -> float:
        """Seconds until a lease ends if its user does nothing."""
        return max(0.0, self.idle - (self._clock() - lease.used))

    def release(self, token: str | None) -> None:
        """End a lease, if there is one."""
        with self._lock:
            self._leases.pop(token or "", None)

    def end_expired(self) -> None:
        """End idle or silent leases, except while a request is answered."""
        now = self._clock()
        with self._lock:
            for token, lease in list(self._leases.items()):
                if (now - lease.seen > self.silent or now - lease.used > self.idle) and not lease.lock.locked():
                    del self._leases[token]
