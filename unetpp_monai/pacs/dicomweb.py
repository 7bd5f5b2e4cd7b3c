"""An archive over DICOMweb: QIDO-RS, WADO-RS, STOW-RS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PacsError, UnavailableError
from .archive import Credentials, Pushed, Query, SeriesRef, checked_uid, pacs_packages

if TYPE_CHECKING:
    import pydicom
    import requests

TIMEOUT = (10, 300)  # seconds to connect, seconds without a byte
BATCH_BYTES = 32 << 20  # of one STOW request, which dicomweb-client holds in memory
BATCH_INSTANCES = 100
STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"
OVERLOADED = (408, 425, 429)  # statuses that, like 5xx, ask us to come again


class Dicomweb:
    """A DICOMweb server.

    Args:
        url: where its studies are, such as `http://host:8042/dicom-web`.
        access: credentials and certificates.

    Raises:
        InputError: no such URL.
    """

    def __init__(self, url: str, access: Credentials | None = None) -> None:
        with pacs_packages():
            from dicomweb_client import DICOMwebClient
        self.url = url.rstrip("/")
        try:
            session = (access or Credentials()).session(self.url)
            self.client = DICOMwebClient(self.url, session=session, timeout=TIMEOUT, permissive_uid=True)
        except ValueError as error:
            raise InputError(f"a DICOMweb address must be like http://host:8042/dicom-web, got {url!r}") from error
        self.client.set_http_retry_params(retry=False)  # whoever calls decides how long to wait

    def find(self, query: Query) -> list[SeriesRef]:
        """List the series that match, by UID."""
        with http_errors(self.url):
            rows = self.client.search_for_series(search_filters=query.tags(), get_remaining=True)
        found = [SeriesRef(checked_uid(_value(row, STUDY)), checked_uid(_value(row, SERIES))) for row in rows]
        return sorted(set(found), key=lambda ref: (ref.study, ref.series))

    def pull(self, series: SeriesRef, folder: Path) -> int:
        """Write every instance to `folder/<SOP Instance UID>.dcm`, encoded as the server keeps it.

        Returns:
            How many instances the server lists for the series.
        """
        with http_errors(self.url):
            rows = self.client.search_for_instances(series.study, series.series, get_remaining=True)
            for dataset in self.client.iter_series(
                series.study, series.series, media_types=(("application/dicom", "*"),)
            ):
                path = folder / f"{checked_uid(dataset.SOPInstanceUID)}.dcm"
                dataset.save_as(path, enforce_file_format=True)
        return len({_value(row, SOP) for row in rows})

    def push(self, files: Sequence[Path]) -> Pushed:
        """Store instances, in requests of bounded size."""
        stored: list[str] = []
        failed: dict[str, str] = {}
        for batch in _batches(files):
            datasets = [_read(path) for path in batch]
            sent = [str(dataset.SOPInstanceUID) for dataset in datasets]
            answer = self._store(datasets)
            confirmed = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", ())}
            reasons = {
                str(item.get("ReferencedSOPInstanceUID", "")): f"failure 0x{int(item.get('FailureReason', 0)):04X}"
                for item in answer.get("FailedSOPSequence", ())
            }
            stored += [uid for uid in sent if uid in confirmed and uid not in reasons]
            failed |= {uid: reasons.get(uid, "not confirmed") for uid in sent if uid not in confirmed or uid in reasons}
        return Pushed(tuple(stored), failed)

    def _store(self, datasets: Sequence["pydicom.Dataset"]) -> "pydicom.Dataset":
        """Send one request; servers answer a partial failure with 200, 202, 400 or 409 and say what failed."""
        import requests
        from pydicom import Dataset

        with http_errors(self.url):
            try:
                return self.client.store_instances(datasets)
            except requests.HTTPError as error:
                if error.response.status_code == 500:  # it is up, and trips over what we sent
                    raise PacsError(f"{self.url} must store what it is sent, got HTTP 500; see its log") from error
                if error.response.status_code not in (400, 409):
                    raise
                try:
                    return Dataset.from_json(error.response.json())
                except (ValueError, KeyError, AttributeError):
                    raise error from None


@contextmanager
def http_errors(url: str) -> Iterator[None]:
    """Turn what `requests` and DICOMweb answers raise into our errors.

    Raises:
        UnavailableError: no connection, no answer, or an overloaded server.
        PacsError: any other refusal, or an answer that is not DICOMweb.
    """
    import requests
    from pydicom.errors import InvalidDicomError

    try:
        yield
    except requests.exceptions.SSLError as error:
        raise PacsError(
            f"{url} must show a certificate that we trust, and accept ours; name its authority", option="ca"
        ) from error
    except requests.HTTPError as error:
        raise _refusal(url, error.response) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise UnavailableError(f"{url} must be reachable, got {type(error).__name__}; is the server up?") from error
    except requests.RequestException as error:
        raise PacsError(f"{url} must be the address of a DICOMweb server, got {type(error).__name__}") from error
    except (ValueError, KeyError, EOFError, InvalidDicomError) as error:
        raise PacsError(f"{url} must answer as DICOMweb says, got {type(error).__name__}; check the address") from error


def _refusal(url: str, response: "requests.Response") -> PacsError:
    status = response.status_code
    if status >= 500 or status in OVERLOADED:
        return UnavailableError(f"{url} must be in order, got HTTP {status}; try again later")
    if status in (401, 403):
        return PacsError(f"{url} must accept our credentials, got HTTP {status}; check user, password or token")
    if status == 404:
        return PacsError(f"{url} must hold what we ask for, got HTTP 404; check the address and the UIDs")
    return PacsError(f"{url} must accept the request, got HTTP {status}")


def _value(row: dict[str, Any], tag: str) -> Any:
    return row[tag]["Value"][0]


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in files:
        length = path.stat().st_size
        if batch and (size + length > BATCH_BYTES or len(batch) == BATCH_INSTANCES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch


def _read(path: Path) -> "pydicom.Dataset":
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise InputError(f"only DICOM files can be sent, got {path} ({type(error).__name__})") from error
    if not dataset.get("SOPInstanceUID"):
        raise InputError(f"what is sent must have a SOP Instance UID, got none in {path}; leave it out")
    return dataset
