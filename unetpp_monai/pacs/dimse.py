"""An archive over DIMSE: C-FIND, C-GET or C-MOVE, C-STORE; each association ends with the call that opened it."""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .remotes import Access, PacsError, Pushed, Query, SeriesRef, UnavailableError, checked_uid, pacs_packages

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event

CONNECT_SECONDS, ANSWER_SECONDS = 10, 300
MAX_CONTEXTS = 128  # of one association, as the standard says
SUCCESS, PENDING, WARNINGS = 0x0000, (0xFF00, 0xFF01), (0xB000, 0xB006, 0xB007)
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000
NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # explicit and implicit VR little endian
COMPRESSED = (  # JPEG baseline and lossless, JPEG-LS, JPEG 2000 (lossless first), RLE
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 70, 80, 81, 90, 91)),
    "1.2.840.10008.1.2.5",
)


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
            InputError: it is none.
        """
        match = re.fullmatch(r"(dimses?)://([^@/\\]{1,16})@(\[[0-9a-fA-F:]+\]|[^:/@]+):(\d{1,5})/?", text)
        if match is None or not 0 < int(match[4]) < 65536:
            raise InputError(f"a DIMSE address must be like dimse://AET@host:port, got {text!r}")
        return cls(match[2], match[3].strip("[]"), int(match[4]), match[1] == "dimses")


class Dimse:
    """A DICOM application that stores and finds.

    Args:
        address: where it listens.
        access: our AE title and, for TLS, certificates.
        move_port: retrieve by C-MOVE to this port of ours, which the archive knows by our AE title; None: by C-GET.
        bind: address of ours to receive C-MOVE at.
    """

    def __init__(
        self,
        address: DimseAddress,
        access: Access | None = None,
        *,
        move_port: int | None = None,
        bind: str = "127.0.0.1",
    ) -> None:
        with pacs_packages():
            import pynetdicom  # noqa: F401  its absence is to be known at once
        self.address, self.access, self.move_port, self.bind = address, access or Access(), move_port, bind
        self.tls = self.access.tls() if address.tls else None

    def find(self, query: Query) -> list[SeriesRef]:
        """List the series that match, by UID; studies first, as archives that follow the hierarchy want it."""
        study = {key: value for key, value in query.tags().items() if key in ("StudyInstanceUID", "PatientID")}
        series = {key: value for key, value in query.tags().items() if key not in ("PatientID", "StudyInstanceUID")}
        with self._finding() as association:
            if set(study) - {"StudyInstanceUID"} or not study:
                studies = [row.StudyInstanceUID for row in self._find(association, "STUDY", study)]
            else:
                studies = [query.study]
            found = {
                SeriesRef(checked_uid(uid), checked_uid(row.SeriesInstanceUID))
                for uid in dict.fromkeys(studies)
                for row in self._find(association, "SERIES", {"Modality": "", **series, "StudyInstanceUID": uid})
            }
        return sorted(found, key=lambda ref: (ref.study, ref.series))

    def pull(self, series: SeriesRef, folder: Path) -> int:
        """Write every instance to `folder/<SOP Instance UID>.dcm`, encoded as it comes.

        Returns:
            How many instances the archive lists for the series.
        """
        where = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
        with self._finding() as association:
            rows = self._find(association, "IMAGE", {"SOPClassUID": "", "SOPInstanceUID": "", **where})
        classes = sorted({str(row.get("SOPClassUID", "")) for row in rows} - {""})
        if self.move_port is None:
            self._get(where, classes, folder)
        else:
            self._move(where, folder, self.move_port)
        return len({str(row.SOPInstanceUID) for row in rows})

    def push(self, files: Sequence[Path]) -> Pushed:
        """Store instances one by one; each association offers what its files need, one syntax a context."""
        from pynetdicom import build_context

        stored: list[str] = []
        failed: dict[str, str] = {}
        for group in _by_contexts(files):
            contexts = [build_context(kind, syntax) for kind, syntax in group]
            with self._association(contexts) as association:
                for uid, path in (item for items in group.values() for item in items):
                    if reason := _store(association, path):
                        failed[uid] = reason
                    else:
                        stored.append(uid)
        return Pushed(tuple(stored), failed)

    def _get(self, where: dict[str, str], classes: Sequence[str], folder: Path) -> None:
        from pynetdicom import build_context, build_role, evt, sop_class

        model = sop_class.StudyRootQueryRetrieveInformationModelGet
        contexts = [build_context(kind, syntax) for kind in classes for syntax in (*NATIVE, *COMPRESSED)]
        roles = [build_role(kind, scp_role=True) for kind in classes]
        handlers = [(evt.EVT_C_STORE, receive, [folder])]
        chosen = [build_context(model), *contexts[: MAX_CONTEXTS - 1]]
        with self._association(chosen, ext_neg=roles, evt_handlers=handlers) as association:
            self._responses(association.send_c_get(_identifier("SERIES", where), model), "C-GET")

    def _move(self, where: dict[str, str], folder: Path, port: int) -> None:
        from pynetdicom import evt, sop_class

        model = sop_class.StudyRootQueryRetrieveInformationModelMove
        with (
            receiving(self.access.aet, (self.bind, port), [(evt.EVT_C_STORE, receive, [folder])]),
            self._association(_contexts(model)) as association,
        ):
            self._responses(association.send_c_move(_identifier("SERIES", where), self.access.aet, model), "C-MOVE")

    @contextmanager
    def _finding(self) -> Iterator["Association"]:
        from pynetdicom import sop_class

        with self._association(_contexts(sop_class.StudyRootQueryRetrieveInformationModelFind)) as association:
            yield association

    def _find(self, association: "Association", level: str, keys: dict[str, Any]) -> "list[Dataset]":
        from pynetdicom import sop_class

        keys = {"StudyInstanceUID": "", **({"SeriesInstanceUID": ""} if level != "STUDY" else {}), **keys}
        model = sop_class.StudyRootQueryRetrieveInformationModelFind
        return self._responses(association.send_c_find(_identifier(level, keys), model), "C-FIND")

    def _responses(self, responses: "Iterable[tuple[Dataset, Dataset | None]]", service: str) -> "list[Dataset]":
        """Identifiers of the pending responses, once the last one says that all went well."""
        rows = []
        for status, identifier in responses:
            if "Status" not in status:
                raise UnavailableError(f"{self._name} must answer {service}, got no answer; is the server overloaded?")
            if status.Status in PENDING:
                rows += [identifier] if identifier is not None else []
            elif status.Status != SUCCESS:
                left = status.get("NumberOfFailedSuboperations", 0)
                raise PacsError(
                    f"{self._name} must carry out {service}, got status 0x{status.Status:04X} with {left} failed "
                    "transfers; does it know our AE title and port?"
                )
        return rows

    @contextmanager
    def _association(self, contexts: Sequence[Any], **options: Any) -> Iterator["Association"]:
        from pynetdicom import AE

        entity = AE(ae_title=self.access.aet)
        entity.connection_timeout = entity.acse_timeout = CONNECT_SECONDS
        entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
        address = self.address
        tls = (self.tls, address.host) if self.tls else None
        with warnings.catch_warnings():
            # pynetdicom drops a socket that could not connect without closing it
            warnings.filterwarnings("ignore", "unclosed <", ResourceWarning)
            association = entity.associate(
                address.host, address.port, list(contexts), ae_title=address.aet, tls_args=tls, **options
            )
        if association.is_rejected:
            raise PacsError(f"{self._name} must accept us, {self.access.aet}, got a rejection; check both AE titles")
        if not association.is_established:
            raise UnavailableError(f"{self._name} must be reachable, got no association; is the server up, with TLS?")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    @property
    def _name(self) -> str:
        return f"{self.address.aet} at {self.address.host}:{self.address.port}"


@contextmanager
def receiving(aet: str, where: tuple[str, int], handlers: Sequence[Any], **options: Any) -> Iterator[Any]:
    """Run a DICOM application that others may store to, in threads of its own.

    Args:
        aet: its AE title; who calls another one is rejected.
        where: address and port to listen at.
        handlers: of pynetdicom's events.
        options: `ssl_context`, and `calling`: AE titles that may call, all if there are none.

    Raises:
        UnavailableError: the port is taken.
    """
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, sop_class

    entity = AE(ae_title=aet)
    entity.require_called_aet = True
    entity.require_calling_aet = list(options.pop("calling", ()))
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(sop_class.Verification)
    try:
        server = entity.start_server(where, block=False, evt_handlers=list(handlers), **options)
    except OSError as error:
        raise UnavailableError(f"port {where[1]} of {where[0]} must be free, got {error.strerror}") from error
    try:
        yield server
    finally:
        entity.shutdown()


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


def _contexts(model: Any) -> list[Any]:
    from pynetdicom import build_context

    return [build_context(model)]


def _identifier(level: str, keys: dict[str, Any]) -> "Dataset":
    from pydicom import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


Contexts = dict[tuple[str, str], list[tuple[str, Path]]]  # SOP class, transfer syntax -> SOP Instance UID, file


def _by_contexts(files: Sequence[Path]) -> Iterator[Contexts]:
    """Group files so that no association needs more contexts than it may have."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    groups: Contexts = defaultdict(list)
    for path in files:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
            syntax = str(header.file_meta.TransferSyntaxUID)
            groups[str(header.SOPClassUID), syntax].append((str(header.SOPInstanceUID), path))
        except (InvalidDicomError, OSError, EOFError, AttributeError, ValueError) as error:
            raise InputError(f"only DICOM files can be sent, got {path} ({type(error).__name__})") from error
    items = list(groups.items())
    for first in range(0, len(items), MAX_CONTEXTS):
        yield dict(items[first : first + MAX_CONTEXTS])


def _store(association: "Association", path: Path) -> str:
    """Send one instance; return why it was not stored, or nothing."""
    if not association.is_established:
        return "the association ended"
    try:
        status = association.send_c_store(path)
    except ValueError:
        return "its kind or encoding is not accepted"
    if "Status" not in status:
        return "no answer"
    return "" if status.Status == SUCCESS or status.Status in WARNINGS else f"status 0x{status.Status:04X}"
