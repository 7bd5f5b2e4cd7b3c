"""All endpoints of MONAI Label: open or closed, and rules for names in requests. Independent of the server."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from ..errors import InputError

LONGEST, LONGEST_NEW = 255, 200  # most bytes of a name, and of a new one, leaving room for a suffix
ENCODED = re.compile(r"%(2e|2f|5c|00)", re.IGNORECASE)  # . / \ and NUL, double-encoded
DRIVE = re.compile(r"[A-Za-z]:")
SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CHECKSUM = re.compile(r"((SHA256|SHA512|MD5):)?[0-9A-Fa-f]+")


class Kind(StrEnum):
    """Kind of object that a parameter names; `Gate.knows` checks that it exists."""

    IMAGE = "image"
    NEW_IMAGE = "new image"  # need not exist
    LABEL = "label"
    TAG = "tag"
    SESSION = "session"
    MODEL = "model"
    TRAINER = "trainer"
    METHOD = "scoring method"
    STRATEGY = "strategy"
    CHECKSUM = "check_sum"
    DICOMWEB = "path"  # below a DICOMweb server's root
    FILE = "file"  # below a folder of pages


@dataclass(frozen=True, eq=False)
class Endpoint:
    """An endpoint, or several with one path."""

    methods: str  # such as "GET HEAD"
    path: str  # {name} matches a part, {name:path} the rest
    names: Mapping[str, Kind] = field(default_factory=dict)  # by parameter of path or query
    optional: tuple[str, ...] = ()  # names that may be empty
    closed: str = ""  # reason for refusal; empty: open
    openable: bool = False  # by an option

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters of a path; None if it does not match."""
        found = _pattern(self.path).fullmatch(path)
        return found.groupdict() if found else None


DELETES = "uploads and submitted labels are not deleted over the network"
LOGS = "logs name images and folders, and their page runs scripts of other servers"
WEIGHTS = "weights change by training and by `unetpp label rollback` only"
SLIDES = "the bundles segment volumes and pictures, not slides"
ARCHIVE = "only submitted labels are written to the archive"
RELOAD = "reloading loses sessions and running tasks"

ENDPOINTS = (
    Endpoint("GET", "/"),
    Endpoint("GET HEAD", "/docs"),
    Endpoint("GET HEAD", "/openapi.json"),
    Endpoint("GET", "/favicon.ico"),
    Endpoint("GET HEAD", "/static/{path:path}", {"path": Kind.FILE}, ("path",)),
    Endpoint("GET", "/ohif/{path:path}", {"path": Kind.FILE}, ("path",)),
    Endpoint("GET", "/info/"),
    Endpoint("POST", "/reload", closed=RELOAD, openable=True),
    Endpoint("GET", "/auth/"),  # these three only with MONAI Label's own authentication
    Endpoint("POST", "/auth/token"),
    Endpoint("GET", "/auth/token/valid"),
    Endpoint("GET", "/model/{model}", {"model": Kind.MODEL}),
    Endpoint("GET", "/model/info/{model}", {"model": Kind.MODEL}),
    Endpoint("PUT DELETE", "/model/{model}", closed=WEIGHTS),
    Endpoint(
        "POST",
        "/infer/{model}",
        {"model": Kind.MODEL, "image": Kind.IMAGE, "session_id": Kind.SESSION},
        ("image", "session_id"),
    ),
    Endpoint("POST", "/infer/wsi/{model}", closed=SLIDES),
    Endpoint("POST", "/infer/wsi_v2/{model}", closed=SLIDES),
    Endpoint("GET DELETE", "/batch/infer"),
    Endpoint("POST", "/batch/infer/{model}", {"model": Kind.MODEL}),
    Endpoint("GET POST DELETE", "/train/"),
    Endpoint("POST", "/train/{model}", {"model": Kind.TRAINER}),
    Endpoint("GET POST DELETE", "/scoring/"),
    Endpoint("POST", "/scoring/{method}", {"method": Kind.METHOD}),
    Endpoint("POST", "/activelearning/{strategy}", {"strategy": Kind.STRATEGY}),
    Endpoint("GET", "/datastore/"),
    Endpoint("PUT", "/datastore/", {"image": Kind.NEW_IMAGE}, ("image",)),
    Endpoint("DELETE", "/datastore/", {"id": Kind.IMAGE}, closed=DELETES, openable=True),
    Endpoint("GET", "/datastore/image", {"image": Kind.IMAGE}),
    Endpoint("HEAD", "/datastore/image", {"image": Kind.IMAGE, "check_sum": Kind.CHECKSUM}, ("check_sum",)),
    Endpoint("PUT", "/datastore/image", {"image": Kind.NEW_IMAGE}, ("image",)),
    Endpoint("DELETE", "/datastore/image", {"id": Kind.IMAGE}, closed=DELETES, openable=True),
    Endpoint("GET PUT", "/datastore/image/info", {"image": Kind.IMAGE}),
    Endpoint("GET", "/datastore/label", {"label": Kind.LABEL, "tag": Kind.TAG}),
    Endpoint("HEAD", "/datastore/label", {"image": Kind.LABEL, "tag": Kind.TAG}),
    Endpoint("PUT", "/datastore/label", {"image": Kind.IMAGE, "tag": Kind.TAG}, ("tag",)),
    Endpoint("DELETE", "/datastore/label", {"id": Kind.LABEL, "tag": Kind.TAG}, closed=DELETES, openable=True),
    Endpoint("GET PUT", "/datastore/label/info", {"label": Kind.LABEL, "tag": Kind.TAG}),
    Endpoint("PUT", "/datastore/updatelabelinfo", {"label": Kind.LABEL, "tag": Kind.TAG}),
    Endpoint("GET", "/datastore/dataset"),
    Endpoint("GET", "/logs/", closed=LOGS, openable=True),
    Endpoint("GET", "/logs/gpu", closed=LOGS, openable=True),
    Endpoint("GET", "/proxy/dicom/{path:path}", {"path": Kind.DICOMWEB}),  # starts with wado, qido or stow
    Endpoint("POST", "/proxy/dicom/{path:path}", {"path": Kind.DICOMWEB}, closed=ARCHIVE, openable=True),
    Endpoint("PUT", "/session/"),
    Endpoint("GET DELETE", "/session/{session_id}", {"session_id": Kind.SESSION}),
)


def find_endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """Return the endpoint of a request and the parameters in its path; None if unknown."""
    for endpoint in ENDPOINTS:
        parameters = endpoint.match(path)
        if parameters is not None and method in endpoint.methods.split():
            return endpoint, parameters
    return None


def methods_of(path: str) -> list[str]:
    """List the methods with an endpoint at a path."""
    return sorted({method for one in ENDPOINTS if one.match(path) is not None for method in one.methods.split()})


def opened(names: Iterable[str]) -> frozenset[Endpoint]:
    """Return the closed endpoints that a user opens, named as in "DELETE /datastore/image".

    Raises:
        InputError: unknown, or cannot be opened.
    """
    choices = {f"{one.methods} {one.path}": one for one in ENDPOINTS if one.openable}
    if unknown := [name for name in names if name not in choices]:
        raise InputError(f"an endpoint to open must be one of {', '.join(map(repr, choices))}, got {unknown[0]!r}")
    return frozenset(choices[name] for name in names)


def fault_of_name(kind: Kind, value: str) -> str:
    """Return the fault in the spelling of a name; empty if none."""
    if kind == Kind.SESSION:
        return "" if SESSION_ID.fullmatch(value) else "session must be an open one, got another; create one"
    if kind == Kind.CHECKSUM:
        return "" if CHECKSUM.fullmatch(value) else "check_sum must be such as SHA256:12ab, got another"
    parts = value.split("/") if kind in (Kind.FILE, Kind.DICOMWEB) else [value]
    odd = kind == Kind.NEW_IMAGE and (
        value.startswith(".") or value != value.strip() or len(value.encode("utf-8", "replace")) > LONGEST_NEW
    )
    if all(is_name(part) for part in parts) and not odd:
        return ""
    if kind == Kind.NEW_IMAGE:
        return f"image must be a name of at most {LONGEST_NEW} bytes, not a path or hidden, got {value[:80]!r}"
    what = "an id of the datastore" if kind in (Kind.IMAGE, Kind.LABEL) else "a name, not a path"
    return f"{kind} must be {what}, got {value[:80]!r}"


def is_name(value: str) -> bool:
    """Tell whether text is a plain file name on any system, even if decoded twice."""
    return (
        value not in ("", ".", "..")
        and not any(letter < " " or letter in "/\\\x7f" or "\ud800" <= letter <= "\udfff" for letter in value)
        and not ENCODED.search(value)
        and not DRIVE.match(value)
        and len(value.encode("utf-8", "surrogatepass")) <= LONGEST
    )


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """Compile a path pattern."""
    parts = re.split(r"\{(\w+)(:path)?\}", path)  # literal, name, ":path" or None, literal, ...
    text = re.escape(parts[0])
    for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.*' if rest else '[^/]+'}){re.escape(literal)}"
    return re.compile(text, re.DOTALL)
