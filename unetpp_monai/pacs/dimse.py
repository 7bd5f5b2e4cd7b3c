"""An archive over DIMSE: C-FIND, C-GET or C-MOVE, C-STORE; each association ends with the call that opened it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PacsError, UnavailableError
from .archive import Credentials, Pushed, Query, SeriesRef, checked_uid, pacs_packages
from .dimse_association import SUCCESS, DimseAddress, associated, receive, receiving

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

MAX_CONTEXTS = 128  # of one association, as the standard says
PENDING, WARNINGS = (0xFF00, 0xFF01), (0xB000, 0xB006, 0xB007)  # statuses, beside SUCCESS
NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # explicit and implicit VR little endian
COMPRESSED = (  # JPEG baseline and lossless, JPEG-LS, JPEG 2000 (lossless first), RLE
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 70, 80, 81, 90, 91)),
    "1.2.840.10008.1.2.5",
)


STORE_SECONDS = 30  # without an answer to a C-STORE; an association that ended is not always noticed
SENDINGS = 2  # of an instance that got none, or of a query whose answers got lost
ENDED, SILENT = UNANSWERED = ("the association ended", "no answer")


class Dimse:
    """A DICOM application that stores and finds.

    Args:
        address: where it listens.
        access: our AE title and, for TLS, certificates.
        move_port: retrieve by C-MOVE to this local port, which the archive knows by our AE title; None: by C-GET.
        bind: local address to receive C-MOVE at.
    """

    def __init__(
        self,
        address: DimseAddress,
        access: Credentials | None = None,
        *,
        move_port: int | None = None,
        bind: str = "127.0.0.1",
    ) -> None:
        with pacs_packages():
            import pynetdicom  # noqa: F401  fail now if it is missing
        self.address, self.access, self.move_port, self.bind = address, access or Credentials(), move_port, bind
        self.tls = self.access.tls() if address.tls else None

    def find(self, query: Query) -> list[SeriesRef]:
        """List the series that match, by UID.

        Of a patient, studies are asked for first, as archives that follow the hierarchy want it. Of a series alone,
        its study is left open, which such archives refuse: name the study too.
        """
        series = {key: value for key, value in query.tags().items() if key in ("SeriesInstanceUID", "Modality")}
        study = {key: value for key, value in query.tags().items() if key not in series}
        rows = self._find("STUDY", study) if query.patient else []
        studies = [row.StudyInstanceUID for row in rows] if query.patient else [query.study or ""]
        found = {
            SeriesRef(checked_uid(row.StudyInstanceUID), checked_uid(row.SeriesInstanceUID))
            for uid in dict.fromkeys(studies)
            for row in self._find("SERIES", {"Modality": "", **series, "StudyInstanceUID": uid})
        }
        return sorted(found, key=lambda ref: (ref.study, ref.series))

    def pull(self, series: SeriesRef, folder: Path) -> int:
        """Write every instance to `folder/<SOP Instance UID>.dcm`, encoded as it comes.

        Returns:
            How many instances the archive lists for the series.
        """
        where = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
        rows = self._find("IMAGE", {"SOPClassUID": "", "SOPInstanceUID": "", **where})
        classes = sorted({str(row.get("SOPClassUID", "")) for row in rows} - {""})
        if self.move_port is None:
            self._get(where, classes, folder)
        else:
            self._move(where, folder, self.move_port)
        return len({str(row.SOPInstanceUID) for row in rows})

    def push(self, files: Sequence[Path]) -> Pushed:
        """Store instances one by one; each association offers what its files need, one syntax a context.

        What got no answer is sent once more over a new association: it would replace itself.
        """
        from pynetdicom import build_context

        stored: list[str] = []
        failed: dict[str, str] = {}
        for group in _by_contexts(files):
            contexts = [build_context(kind, syntax) for kind, syntax in group]
            left = dict(item for items in group.values() for item in items)
            for _ in range(SENDINGS):
                with self._association(contexts) as association:
                    association.dimse_timeout = STORE_SECONDS
                    answers = {uid: _store(association, path) for uid, path in left.items()}
                stored += [uid for uid, reason in answers.items() if not reason]
                failed |= {uid: reason for uid, reason in answers.items() if reason}
                left = {uid: path for uid, path in left.items() if answers[uid] in UNANSWERED}
                if not left:
                    break
        return Pushed(tuple(stored), {uid: reason for uid, reason in failed.items() if uid not in set(stored)})

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

    def _find(self, level: str, keys: dict[str, Any]) -> "list[Dataset]":
        """Ask once, over an association of its own, and again if not every answer that came was handed to us.

        A thread of pynetdicom can take an answer for a request and drop it, above all where one question follows
        another (its issue 875); what is found then lacks something, or the last answer never comes.
        """
        from pynetdicom import evt, sop_class

        keys = {"StudyInstanceUID": "", **({"SeriesInstanceUID": ""} if level != "STUDY" else {}), **keys}
        model = sop_class.StudyRootQueryRetrieveInformationModelFind
        for _ in range(SENDINGS):
            came: list[Any] = []
            handlers = [(evt.EVT_DIMSE_RECV, came.append)]
            with self._association(_contexts(model), evt_handlers=handlers) as association:
                answers = list(association.send_c_find(_identifier(level, keys), model))
            handed = sum("Status" in status for status, _ in answers)
            if not came or handed == len(came):
                return self._responses(answers, "C-FIND")
        raise UnavailableError(
            f"{self.address} must answer C-FIND, got answers that were lost on our side; is this machine overloaded? "
            "ask again when it is not"
        )

    def _responses(self, responses: "Iterable[tuple[Dataset, Dataset | None]]", service: str) -> "list[Dataset]":
        """Identifiers of the pending responses, once the last one says that all went well."""
        rows = []
        for status, identifier in responses:
            if "Status" not in status:
                raise UnavailableError(f"{self.address} must answer {service}, got no answer; is it overloaded?")
            if status.Status in PENDING:
                rows += [identifier] if identifier is not None else []
            elif status.Status != SUCCESS:
                left = status.get("NumberOfFailedSuboperations", 0)
                raise PacsError(
                    f"{self.address} must carry out {service}, got status 0x{status.Status:04X} with {left} failed "
                    "transfers; does it know our AE title and port?"
                )
        return rows

    def _association(self, contexts: Sequence[Any], **options: Any) -> "AbstractContextManager[Association]":
        return associated(self.address, contexts, aet=self.access.aet, tls=self.tls, **options)


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
        return ENDED
    try:
        status = association.send_c_store(path)
    except ValueError:
        return "its kind or encoding is not accepted"
    if "Status" not in status:
        return SILENT
    return "" if status.Status == SUCCESS or status.Status in WARNINGS else f"status 0x{status.Status:04X}"
