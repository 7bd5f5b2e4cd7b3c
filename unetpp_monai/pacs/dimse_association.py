"""DIMSE associations: one that we open, and a server for those that others open."""

import re
import socket
import ssl
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PacsError, UnavailableError
from ..posix_only import acknowledge_at_once
from .archive import checked_aet, checked_uid
from .limits import Limits

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

CONNECT_SECONDS, ANSWER_SECONDS = 10, 300
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000  # statuses of a C-STORE


@dataclass(frozen=True)
class DimseAddress:
    """Where a DICOM application listens."""

    aet: str  # AE title, up to 16 characters
    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> "DimseAddress":
        """Read `dimse://AET@host:port`, or `dimses://` for TLS.

        Raises:
            InputError: it is not such an address.
        """
        match = re.fullmatch(r"(dimses?)://([^@/\\]{1,16})@(\[[0-9a-fA-F:]+\]|[^:/@]+):(\d{1,5})/?", text)
        if match is None or not 0 < int(match[4]) < 65536:
            raise InputError(f"a DIMSE address must be like dimse://AET@host:port, got {text!r}")
        return cls(checked_aet(match[2]), match[3].strip("[]"), int(match[4]), match[1] == "dimses")

    def __str__(self) -> str:
        return f"{self.aet} at {self.host}:{self.port}"


@contextmanager
def associated(
    address: DimseAddress,
    contexts: Sequence[Any],
    *,
    aet: str,
    tls: ssl.SSLContext | None = None,
    evt_handlers: Sequence[Any] = (),
    ext_neg: Sequence[Any] = (),
) -> "Iterator[Association]":
    """Open an association that ends with the block.

    Args:
        address: of the peer.
        contexts: presentation contexts to offer.
        aet: our AE title.
        tls: a client's context, for `dimses`.
        evt_handlers: of pynetdicom's events.
        ext_neg: such as roles.

    Raises:
        PacsError: the peer rejects us, or offers nothing of what we need.
        UnavailableError: it cannot be reached.
    """
    from pynetdicom import AE, evt
    from pynetdicom.pdu import A_ASSOCIATE_RJ

    rejections: list[Any] = []

    def note(event: "Event") -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append(event.pdu)

    entity = AE(ae_title=aet)
    entity.connection_timeout = entity.acse_timeout = CONNECT_SECONDS
    entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
    options = {"ext_neg": list(ext_neg), "evt_handlers": [*evt_handlers, (evt.EVT_PDU_RECV, note), *_prompt()]}
    tls_args = (tls, address.host) if tls else None
    with warnings.catch_warnings():
        # pynetdicom drops a socket that could not connect without closing it
        warnings.filterwarnings("ignore", "unclosed <", ResourceWarning)
        association = entity.associate(
            address.host, address.port, list(contexts), ae_title=address.aet, tls_args=tls_args, **options
        )
    if rejections:  # `is_rejected` is not set where the peer closed before pynetdicom looked at the connection
        raise PacsError(f"{address} must accept us, {aet}, got a rejection; check both AE titles")
    try:
        _check_accepted(association, address)
        if not association.is_established:
            raise UnavailableError(f"{address} must be reachable, got no association; is the server up, with TLS?")
        yield association
    finally:
        if association.is_established:
            association.release()


@contextmanager
def receiving(
    aet: str,
    where: tuple[str, int],
    handlers: Sequence[Any],
    *,
    calling: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
) -> Iterator[None]:
    """Run a DICOM application that others may store to, in threads of its own.

    Args:
        aet: its AE title; who calls another one is rejected.
        where: address and port to listen at.
        handlers: of pynetdicom's events.
        calling: AE titles that may call; none: all.
        tls: a server's context.
        limits: of what peers may take; None: the default ones.

    Raises:
        InputError: an AE title is not valid.
        UnavailableError: the port is taken.
    """
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, sop_class

    from .dimse_server import serving

    entity = AE(ae_title=checked_aet(aet))
    entity.require_called_aet = True
    entity.require_calling_aet = [checked_aet(title) for title in calling]
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(sop_class.Verification)
    with ExitStack() as stack:
        try:
            stack.enter_context(serving(entity, where, [*handlers, *_prompt()], tls=tls, limits=limits or Limits()))
        except OSError as error:
            raise UnavailableError(f"port {where[1]} of {where[0]} must be free, got {error.strerror}") from error
        yield


def receive(event: "Event", folder: Path) -> int:
    """Answer a C-STORE by writing the instance, complete or not at all; return the status."""
    try:
        uid = checked_uid(event.request.AffectedSOPInstanceUID)
    except PacsError:
        return CANNOT_UNDERSTAND
    part = folder / f".{uid}.part"
    try:
        part.write_bytes(event.encoded_dataset())
        part.replace(folder / f"{uid}.dcm")
    except OSError:
        part.unlink(missing_ok=True)
        return OUT_OF_RESOURCES
    return SUCCESS


def _check_accepted(association: "Association", address: DimseAddress) -> None:
    """Tell a peer that answered, but refused what we need, from one that is down."""
    from pynetdicom import sop_class

    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    refused = {context.abstract_syntax for context in association.rejected_contexts} - accepted
    if sop_class.StudyRootQueryRetrieveInformationModelGet in refused:
        raise PacsError(f"{address} must offer C-GET, got a refusal; retrieve by C-MOVE", option="move_port")
    if refused and not accepted:
        names = ", ".join(sorted(uid.name for uid in refused))
        raise PacsError(f"{address} must take part of what we ask for, got a refusal of {names}; does it offer that?")


def _prompt() -> list[tuple[Any, Any]]:
    """Handlers that have messages sent and acknowledged at once.

    Without them each instance waits two times 40 ms for delayed acknowledgements (measured against Orthanc).
    """
    from pynetdicom import evt

    def no_delay(event: "Event") -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def acknowledge(event: "Event") -> None:
        acknowledge_at_once(event.assoc.dul.socket.socket)

    return [(evt.EVT_CONN_OPEN, no_delay), (evt.EVT_PDU_SENT, acknowledge)]
