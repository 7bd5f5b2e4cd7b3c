"""Interface of an archive: find, pull and push series; and its errors."""

import logging
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ..errors import InputError, PacsError

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UID = re.compile(r"[0-9][0-9.]{0,63}")  # nothing else becomes the name of a file, such as ".."
AET = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")  # printable ASCII without backslash, not spaces alone


@dataclass(frozen=True)
class SeriesRef:
    """A series of an archive."""

    study: str  # Study Instance UID
    series: str  # Series Instance UID


@dataclass(frozen=True)
class Query:
    """What to look for; what is None matches everything, what is given must match all at once."""

    study: str | None = None  # Study Instance UID
    series: str | None = None  # Series Instance UID
    patient: str | None = None  # Patient ID
    modality: str | None = None  # such as "MR"

    def tags(self) -> dict[str, str]:
        """The query as DICOM keywords and values.

        Raises:
            InputError: nothing says which patient, study or series.
        """
        if not (self.study or self.series or self.patient):
            raise InputError(
                "a query must name a study, a series or a patient, got none; a whole archive is not pulled"
            )
        values = {
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": self.series,
            "PatientID": self.patient,
            "Modality": self.modality,
        }
        return {keyword: value for keyword, value in values.items() if value}


@dataclass(frozen=True)
class Pushed:
    """Result of sending instances."""

    stored: tuple[str, ...]  # SOP Instance UIDs that the archive confirmed one by one
    failed: Mapping[str, str]  # SOP Instance UID -> why not


class Remote(Protocol):
    """An archive to which we can connect."""

    def find(self, query: Query) -> list[SeriesRef]:
        """List the series that match, by UID."""

    def pull(self, series: SeriesRef, folder: Path) -> int:
        """Write every instance of a series to `folder/<SOP Instance UID>.dcm`; return how many the archive holds."""

    def push(self, files: Sequence[Path]) -> Pushed:
        """Send instances, and have each one confirmed."""


@dataclass(frozen=True)
class Credentials:
    """Credentials, certificates and AE title for one archive."""

    user: str | None = None  # basic authentication
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)  # bearer token
    ca: Path | None = None  # PEM file of authorities to trust instead of the system's
    certificate: Path | None = None  # PEM file of our own certificate
    key: Path | None = None  # PEM file of its key, unless the certificate's file holds it
    aet: str = "UNETPP"  # our own AE title, for DIMSE

    def __post_init__(self) -> None:
        for path in (self.ca, self.certificate, self.key):
            if path is not None and not path.is_file():
                raise InputError(f"certificates and keys must be PEM files, got {path}; check the path")
        checked_aet(self.aet)

    def session(self, url: str) -> "requests.Session":
        """Make an HTTP session with these credentials."""
        with pacs_packages():
            import requests
        address = urlsplit(url)
        if address.scheme == "http" and address.hostname not in LOOPBACK and (self.user or self.token):
            logger.warning("credentials go over plain http, which everybody on the way can read; use https")
        session = requests.Session()
        if self.user is not None:
            session.auth = (self.user, self.password or "")
        if self.token is not None:
            session.headers["Authorization"] = f"Bearer {self.token}"
        if self.ca is not None:
            session.verify = str(self.ca)
            session.merge_environment_settings = partial(_keep_verify, session, session.merge_environment_settings)
        if self.certificate is not None:
            session.cert = (str(self.certificate), str(self.key)) if self.key else str(self.certificate)
        return session

    def tls(self, *, server: bool = False) -> ssl.SSLContext:
        """Make a TLS context for DIMSE; a server with `ca` accepts only clients whose certificate it has signed.

        Raises:
            InputError: a server without certificate, or files that are not PEM.
        """
        if server and self.certificate is None:
            raise InputError(
                "TLS needs a certificate to show, got none; name its file and its key's", option="certificate"
            )
        purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            raise InputError(f"certificates and keys must be readable PEM files, got {error}") from error
        if server and self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _keep_verify(session: "requests.Session", merge: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Settings of a request; `requests` prefers the variable REQUESTS_CA_BUNDLE to what the session says."""
    return {**merge(*arguments), "verify": session.verify}


def checked_uid(value: object) -> str:
    """Check that a UID from an archive can be used as a file name.

    Raises:
        PacsError: it is not a valid UID.
    """
    uid = str(value)
    if not UID.fullmatch(uid):
        raise PacsError(f"a UID must be up to 64 digits and dots, a digit first, got {uid!r}")
    return uid


def checked_aet(title: str) -> str:
    """An AE title.

    Raises:
        InputError: it is not a valid AE title.
    """
    if not AET.fullmatch(title):
        raise InputError(f"an AE title must be 1 to 16 ASCII characters without backslash, got {title!r}; name another")
    return title


@contextmanager
def pacs_packages() -> Iterator[None]:
    """Report a missing optional package in one sentence."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"talking to a PACS needs a package that is not installed ({error.name}); pip install 'unetpp_monai[pacs]'"
        ) from error
