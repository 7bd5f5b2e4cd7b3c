"""The server: Python's own, one thread a connection, one prediction at a time. Loopback unless it is said."""

import logging
import threading
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

from ..errors import InputError
from ..segmenter import Segmenter
from .arrays import NEEDED
from .clicked import Clicked, check_axes
from .leases import Leases
from .protocol import Connection
from .site import Site, capabilities_of

CONNECTIONS = 64  # at a time

logger = logging.getLogger(__name__)


class ClickServer(ThreadingHTTPServer):
    """Serve clicks until shut down.

    Args:
        segmenter: of a bundle that takes prompts.
        site: where, and for how many.

    Raises:
        InputError: the bundle takes no prompts or lacks the label, blosc2 is not installed, or the address is taken.
    """

    daemon_threads = True

    def __init__(self, segmenter: Segmenter, site: Site) -> None:
        if find_spec("blosc2") is None:
            raise InputError(NEEDED)
        check_axes(site.setting.axes)
        self.segmenter, self.site = segmenter, site
        self.predicting = threading.Lock()
        self.leases = Leases(
            lambda: Clicked(segmenter, site.setting), most=site.most, idle=site.idle, silent=site.silent
        )
        self.capabilities = capabilities_of(segmenter, site.setting)
        try:
            super().__init__((site.host, site.port), Connection)
        except OSError as error:
            message = f"an address must be free to be served, got {site.host}:{site.port} ({error.strerror})"
            raise InputError(f"{message}; choose another port", option="port") from error
        self._places = threading.BoundedSemaphore(CONNECTIONS)

    def service_actions(self) -> None:
        """End leases that are idle or silent; called between connections, twice a second."""
        self.leases.end_expired()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own; of too many, not at all."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection: it concerns no other client."""
        logger.debug("a connection ended early", exc_info=True)


def serve(segmenter: Segmenter, site: Site) -> None:
    """Serve until the process is stopped.

    Args:
        segmenter: of an interactive bundle.
        site: what is served, where, and for how many.

    Raises:
        InputError: as `ClickServer`.
    """
    with ClickServer(segmenter, site) as server:
        logger.info("%s at http://%s:%d", server.capabilities["model"], *server.server_address[:2])
        server.serve_forever()
