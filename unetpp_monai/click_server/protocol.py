"""Answer requests of nnInteractive's clients.

Source: MIC-DKFZ/nnInteractive, SERVER_CLIENT.md.
"""

import hmac
import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socket import gethostname
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..errors import InputError, UnetppError
from .arrays import MOST_BYTES, pack, unpack
from .clicked import Change
from .leases import FullError, Lease, Leases, NoLeaseError
from .options import ServerOptions

META, LEASE = "X-Meta", "X-Lease-Token"
MOST_TEXT = 1 << 20  # most bytes of JSON in a body or header
WAIT = 120.0  # seconds for the next bytes of a request
NO_BOX = "this network takes points, scribbles and lassos, not boxes; click in the structure instead"

logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer with another status than 200."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Serves(Protocol):
    """Interface of the server for its connections."""

    options: ServerOptions
    leases: Leases
    capabilities: dict[str, Any]
    predicting: threading.Lock  # one at a time
    worker: threading.Thread  # of the last prediction


class Connection(BaseHTTPRequestHandler):
    """One connection of a client, for any number of requests."""

    server: Any  # a `Serves`
    protocol_version, timeout = "HTTP/1.1", WAIT

    def do_GET(self) -> None:
        """Answer requests that change nothing."""
        self._answer({"/healthz": self._health, "/capabilities": self._capabilities, "/lease_status": self._status})

    def do_POST(self) -> None:
        """Answer all other requests."""
        self._answer({
            "/claim": self._claim,
            "/release": self._release,
            "/heartbeat": self._heartbeat,
            "/set_image": self._with(self._set_image),
            "/set_target_buffer": self._with(self._set_target_buffer),
            "/set_do_autozoom": self._with(lambda lease: {}),
            "/reset_interactions": self._with(self._reset),
            "/undo": self._with(lambda lease: lease.clicked.undo()),
            "/predict": self._with(lambda lease: lease.clicked.predict()),
            "/add_point_interaction": self._with(self._point),
            "/add_scribble_interaction": self._with(lambda lease: self._mask(lease, filled=False)),
            "/add_lasso_interaction": self._with(lambda lease: self._mask(lease, filled=True)),
            "/add_initial_seg_interaction": self._with(self._initial),
            "/add_bbox_interaction": self._no_box,
        })  # fmt: skip

    def _answer(self, known: Mapping[str, Callable[[], Any]]) -> None:
        self._body: bytes | None = None
        try:
            found = self._found(known)
            self._skip()
            self._send_found(found)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a request; the trace is logged
            status, detail = self._told(error)
            self._skip()
            self._refuse(status, detail)

    def _found(self, known: Mapping[str, Callable[[], Any]]) -> Any:
        if "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none") != "none":
            raise Refusal(403, "requests must come from a viewer, got one from a web page")
        if not is_ours(self.headers.get("Host", "localhost"), self.server.options.host):
            raise Refusal(403, "Host must be this server's address or name, got another")
        if self.path not in known:
            raise Refusal(404, f"no such path: {self.path[:80]}")
        if self.path != "/healthz":
            self._check_token()
        return known[self.path]()

    def _told(self, error: Exception) -> tuple[int, str]:
        """Return status and one-line message of an error."""
        if isinstance(error, Refusal):
            return error.status, error.detail
        if isinstance(error, NoLeaseError):
            return 410, "a session must be open, got none for this lease; it was released, idle or silent"
        if isinstance(error, FullError):
            return 503, f"at most {self.server.options.most} sessions are open at a time; try again later"
        if isinstance(error, UnetppError):
            return 400, str(error)
        logger.error("a request could not be answered", exc_info=error)
        return 500, "the server could not answer; its log says why"

    def _check_token(self) -> None:
        token = self.server.options.token
        if token is not None and not hmac.compare_digest(
            (self.headers.get("Authorization") or "").encode(), f"Bearer {token}".encode()
        ):
            raise Refusal(401, "requests must have the server's token")

    def _with(self, action: Callable[[Lease], Any]) -> Callable[[], Any]:
        """Run a step under a client's lease, with the network locked for it."""

        def run() -> Any:
            lease = self.server.leases.find(self.headers.get(LEASE), active=True)
            with lease.lock:
                self._read()  # before others have to wait for this client
                try:
                    with self.server.predicting:
                        self.server.worker = threading.current_thread()
                        return action(lease)
                finally:
                    self.server.leases.used(lease)

        return run

    def _health(self) -> Any:
        return {"ok": True}

    def _capabilities(self) -> Any:
        return self.server.capabilities

    def _claim(self) -> Any:
        lease, options = self.server.leases.claim(), self.server.options
        limits = {"idle_timeout_seconds": options.idle, "liveness_timeout_seconds": options.silent}
        return {"lease_token": lease.token, **limits, "max_sessions": options.most}

    def _release(self) -> Any:
        self.server.leases.release(self.headers.get(LEASE))
        return {"released": True}

    def _heartbeat(self) -> Any:
        lease = self.server.leases.find(self.headers.get(LEASE), active=False)
        return {"remaining_seconds": self.server.leases.left(lease)}

    def _status(self) -> Any:
        return {**self._heartbeat(), "idle_timeout_seconds": self.server.options.idle}

    def _set_image(self, lease: Lease) -> Any:
        properties = self._meta().get("image_properties")
        array = unpack(self._read(), axes=4)
        shape = lease.clicked.set_image(array, properties if isinstance(properties, dict) else {})
        return {"original_image_shape": shape}

    def _set_target_buffer(self, lease: Lease) -> Any:
        asked = self._json()
        lease.clicked.set_target_buffer(asked.get("shape"), asked.get("dtype"))
        return {}

    def _reset(self, lease: Lease) -> Any:
        lease.clicked.reset()
        return {}

    def _point(self, lease: Lease) -> Any:
        asked = self._json()
        return lease.clicked.point(asked.get("coordinates"), **_choices(asked))

    def _mask(self, lease: Lease, *, filled: bool) -> Any:
        meta, mask = self._meta(), unpack(self._read(), axes=3)
        return lease.clicked.scribble(mask, meta.get("interaction_bbox"), filled=filled, **_choices(meta))

    def _initial(self, lease: Lease) -> Any:
        run = _flag(self._meta(), "run_prediction", default=False)
        return lease.clicked.initial(unpack(self._read(), axes=3), run=run)

    def _no_box(self) -> Any:
        raise Refusal(400, NO_BOX)

    def _read(self) -> bytes:
        """Read the whole body, unless it is too long."""
        if self._body is None:
            length = self._length()
            if length < 0 or self.headers.get("Transfer-Encoding"):
                raise Refusal(411, "a request must state its length")
            if length > MOST_BYTES:
                raise Refusal(413, f"a request must have at most {MOST_BYTES} bytes, got {length}")
            self._body = self.rfile.read(length)
            if len(self._body) < length:
                raise ConnectionResetError("the client disconnected")
        return self._body

    def _skip(self) -> None:
        """Read what is left of a request, which would be taken for the next; clients that still send hear no answer."""
        left = 0 if self._body is not None else self._length()
        if self.headers.get("Transfer-Encoding") or not 0 <= left <= MOST_BYTES:
            self.close_connection = True
            return
        while left:
            part = self.rfile.read(min(left, MOST_TEXT))
            if not part:
                raise ConnectionResetError("the client disconnected")
            left -= len(part)

    def _length(self) -> int:
        """Return the body's length in bytes; -1: not stated."""
        stated = self.headers.get("Content-Length") or "0"
        return int(stated) if stated.isdecimal() and len(stated) < 20 else -1

    def _json(self) -> dict[str, Any]:
        return _object(self._read(), "a request")

    def _meta(self) -> dict[str, Any]:
        return _object((self.headers.get(META) or "{}").encode(), META)

    def _send_found(self, found: Any) -> None:
        if not isinstance(found, Change):
            self._send(200, json.dumps(found).encode(), "application/json")
            return
        meta = {"ran_prediction": found.ran, "bbox": found.box}
        content = b"" if found.part is None else pack(found.part)
        self._send(200, content, "application/octet-stream", {META: json.dumps(meta)})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request of this protocol, and end the connection."""
        self.close_connection, self.request_version = True, self.protocol_version
        self._refuse(code, f"a request must be of HTTP/1.1, and GET or POST, got {(message or str(code))[:80]}")

    def _refuse(self, status: int, detail: str) -> None:
        self._send(status, json.dumps({"detail": detail}).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        retry = {"Retry-After": "10"} if status == 503 else {}
        closing = {"Connection": "close"} if self.close_connection else {}
        for key, value in {"Content-Type": kind, **retry, **closing, **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        """Return the name of the server, without versions of its libraries."""
        return "unetpp"

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""
        logger.debug(format, *args)


def is_ours(host: str, own: str) -> bool:
    """Tell whether `Host` is an address or a name of this computer, not one that a web page chose (DNS rebinding)."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        return name in ("localhost", own.lower(), gethostname().lower()) or bool(ip_address(name))
    except ValueError:
        return False


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(content) if len(content) <= MOST_TEXT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{what} must be a JSON object of at most {MOST_TEXT} bytes, got another")
    return found


def _choices(asked: Mapping[str, Any]) -> dict[str, bool]:
    return {"include": _flag(asked, "include_interaction"), "run": _flag(asked, "run_prediction", default=True)}


def _flag(asked: Mapping[str, Any], key: str, *, default: bool | None = None) -> bool:
    value = asked.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, got {str(value)[:20]}")
    return value
