"""HTTP server with one thread per connection and one prediction at a time. Loopback by default."""

import ctypes
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
from .options import ServerOptions, capabilities_of
from .protocol import Connection

CONNECTIONS = 64  # at the same time

logger = logging.getLogger(__name__)


class ClickServer(ThreadingHTTPServer):
    """Serve clicks until shut down.

    Args:
        segmenter: of a bundle with prompts.
        options: settings of the server.

    Raises:
        InputError: the bundle has no prompts or no such label, blosc2 is not installed, or the address is in use.

    Example:
        >>> from unetpp_monai.click_server import Setting
        >>> segmenter = Segmenter.from_bundle("interactive_bundle", depth=1, runtime="eager")
        >>> setting = Setting("anterior hippocampus", "SPL")
        >>> with ClickServer(segmenter, ServerOptions(setting, port=0)) as server:  # 0: a free port
        ...     server.server_address[0]
        '127.0.0.1'
    """

    daemon_threads = True

    def __init__(self, segmenter: Segmenter, options: ServerOptions) -> None:
        if find_spec("blosc2") is None:
            raise InputError(NEEDED)
        check_axes(options.setting.axes)
        self.segmenter, self.options = segmenter, options
        self.predicting, self.worker = threading.Lock(), threading.current_thread()
        self.leases = Leases(
            lambda: Clicked(segmenter, options.setting), most=options.most, idle=options.idle, silent=options.silent
        )
        self.capabilities = capabilities_of(segmenter, options.setting)
        try:
            super().__init__((options.host, options.port), Connection)
        except OSError as error:
            message = f"an address must be free, got {options.host}:{options.port} ({error.strerror})"
            raise InputError(f"{message}; choose another port", option="port") from error
        self._places = threading.BoundedSemaphore(CONNECTIONS)

    def service_actions(self) -> None:
        """End idle and silent leases; called twice a second."""
        self.leases.end_expired()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a new thread; drop it if there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, then free its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def end_prediction(self) -> None:
        """End the running prediction, and begin no other; a thread that computes crashes a process that ends."""
        while not self.predicting.acquire(timeout=0.1):
            number = ctypes.c_ulong(self.worker.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(ConnectionAbortedError))
        if self.worker is not threading.current_thread():
            self.worker.join(1)  # s; it may wait for its client's next request

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection, which affects no other client."""
        logger.debug("a connection ended early", exc_info=True)


def serve(segmenter: Segmenter, options: ServerOptions) -> None:
    """Serve until the process is stopped.

    Args:
        segmenter: of an interactive bundle.
        options: settings of the server.

    Raises:
        InputError: as for `ClickServer`.

    Example:
        >>> from unetpp_monai.click_server import Setting
        >>> segmenter = Segmenter.from_bundle("interactive_bundle", depth=1, runtime="eager")
        >>> options = ServerOptions(Setting("anterior hippocampus", "SPL"))
        >>> serve(segmenter, options)  # doctest: +SKIP
    """
    with ClickServer(segmenter, options) as server:
        logger.info("%s at http://%s:%d", server.capabilities["model"], *server.server_address[:2])
        try:
            server.serve_forever()
        finally:
            server.end_prediction()
