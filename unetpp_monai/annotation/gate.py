"""Access control of the server: an ASGI middleware before everything else. Independent of MONAI Label."""

import hmac
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import InputError
from .endpoints import Endpoint, Kind, fault_of_name, find_endpoint, methods_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Knows = Callable[[Kind, str, dict[str, str]], str]  # kind, name, all parameters -> fault; empty: none

PORTS = {"http": 80, "https": 443}
FOREIGN = ("cross-site", "same-site")  # Sec-Fetch-Site of pages of other servers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """Access rules."""

    host: str  # address to listen at
    origins: frozenset[str] = frozenset()  # of pages of other servers, as from `origin_of`
    token: str | None = None  # required in every request
    opened: frozenset[Endpoint] = frozenset()  # among those closed by default

    def knows_host(self, host: str) -> bool:
        """Tell whether a request's `Host` is this server (prevents DNS rebinding)."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        named = {"localhost", self.host.lower(), *(urlsplit(origin).hostname for origin in self.origins)}
        address = _address(name)
        if address is None:
            return name != "" and name in (named | {socket.gethostname().lower()} if self._everywhere else named)
        return name in named or address.is_loopback or self._everywhere

    def knows_origin(self, origin: str, *, scheme: str, host: str) -> bool:
        """Tell whether pages of an origin may send requests: ours, or an allowed one."""
        try:
            return origin_of(origin) in {*self.origins, origin_of(f"{scheme}://{host}")}
        except InputError:  # such as "null"
            return False

    @property
    def _everywhere(self) -> bool:
        address = _address(self.host)
        return address is not None and address.is_unspecified


def origin_of(url: str) -> str:
    """Format an origin as browsers do: scheme, host, and port unless it is the default.

    Raises:
        InputError: invalid origin.
    """
    try:
        parts = urlsplit(url.rstrip("/"))
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    exact = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in PORTS or not parts.hostname or "*" in parts.netloc or not exact:
        raise InputError(f"an origin must be such as https://viewer.example or http://localhost:3000, got {url!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, PORTS[parts.scheme]) else f":{port}")


class Gate:
    """Forwards allowed requests, and refuses others with one line.

    Args:
        app: the application behind.
        rules: access rules.
        knows: checks that named objects exist.
    """

    def __init__(self, app: App, *, rules: Rules, knows: Knows) -> None:
        self.app, self.rules, self.knows = app, rules, knows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                self._check(scope)
            except _RefusedError as refusal:
                logger.warning("%s refused with %d: %s", scope["method"], refusal.status, refusal)
                await _answer(receive, send, refusal)
            else:
                await self.app(scope, receive, self._framed(send))

    def _check(self, scope: Scope) -> None:
        headers: dict[str, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = _only(headers, "host")
        if host is None or not self.rules.knows_host(host):
            raise _RefusedError(403, "Host must be this server, got another; allow that origin when the server starts")
        self._check_origin(scope, headers, host)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers and "origin" in headers:
            return  # a CORS preflight, which has no token
        self._check_token(headers)
        self._check_endpoint(scope)

    def _check_origin(self, scope: Scope, headers: dict[str, list[str]], host: str) -> None:
        refusal = _RefusedError(
            403, "pages of other servers may not send requests; allow their origin when the server starts"
        )
        if "origin" in headers:
            origin = _only(headers, "origin")
            if origin is None or not self.rules.knows_origin(origin, scheme=scope["scheme"], host=host):
                raise refusal
        elif set(headers.get("sec-fetch-site", ())) & set(FOREIGN):
            to_us = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (["navigate"], ["document"])
            if scope["method"] != "GET" or not to_us:  # following a link is not a request of the page
                raise refusal

    def _check_token(self, headers: dict[str, list[str]]) -> None:
        if self.rules.token is not None:
            scheme, _, token = (_only(headers, "authorization") or "").partition(" ")
            ours = self.rules.token.encode()
            if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("latin-1"), ours):
                raise _RefusedError(401, "every request must have the server's token as Authorization: Bearer")

    def _check_endpoint(self, scope: Scope) -> None:
        method, path = scope["method"], scope["path"]
        found = find_endpoint(method, path)
        if found is None:
            other = path[:-1] if path.endswith("/") else path + "/"
            if find_endpoint(method, other) is not None:
                return  # redirected; sends another request
            known = methods_of(path)
            message = f"method must be one of {', '.join(known)}, got {method}" if known else "no such path"
            raise _RefusedError(405 if known else 404, message)
        endpoint, parameters = found
        if endpoint.closed and endpoint not in self.rules.opened:
            way = f"; open '{endpoint.methods} {endpoint.path}' when the server is started" if endpoint.openable else ""
            raise _RefusedError(403, f"{method} of this is closed: {endpoint.closed}{way}")
        self._check_names(endpoint, parameters, scope["query_string"].decode("latin-1"))

    def _check_names(self, endpoint: Endpoint, parameters: dict[str, str], query: str) -> None:
        asked = parse_qs(query, keep_blank_values=True)
        given = {**{name: values[-1] for name, values in asked.items()}, **parameters}
        for name, kind in endpoint.names.items():
            if len(asked.get(name, ())) > 1:
                raise _RefusedError(400, f"{name} must be given once, got several")
            value = given.get(name)
            if value is None or (value == "" and name in endpoint.optional):
                continue
            if fault := fault_of_name(kind, value):
                raise _RefusedError(400 if kind in (Kind.NEW_IMAGE, Kind.CHECKSUM) else 404, fault)
            if fault := self.knows(kind, value, given):
                raise _RefusedError(404, fault)

    def _framed(self, send: Send) -> Send:
        """Add headers against framing by other pages, and against cross-origin reads."""
        ancestors = " ".join(["'self'", *sorted(self.rules.origins)])
        added = [
            (b"content-security-policy", f"frame-ancestors {ancestors}".encode("latin-1")),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

        async def framed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        return framed


class _RefusedError(Exception):
    """Refusal of a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _answer(receive: Receive, send: Send, refusal: _RefusedError) -> None:
    while (await receive()).get("more_body"):  # a client still sending would miss the answer
        pass
    headers = [(b"content-type", b"application/json")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps({"detail": str(refusal)}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _only(headers: dict[str, list[str]], name: str) -> str | None:
    """Return the value of a header that must occur once; None if it does not."""
    values = headers.get(name, [])
    return values[0] if len(values) == 1 else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def allowed(origins: Iterable[str]) -> frozenset[str]:
    """Normalise a user's origins for `Rules`.

    Raises:
        InputError: an invalid origin.
    """
    return frozenset(map(origin_of, origins))
