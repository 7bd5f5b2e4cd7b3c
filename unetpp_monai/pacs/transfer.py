"""Series from an archive into folders, files to an archive; and which kind of archive an address means."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..dicom.reading import is_dicom
from ..errors import InputError, PacsError
from ..files import check_free, whole_folder
from .archive import Credentials, Pushed, Query, Remote, SeriesRef
from .dicomweb import Dicomweb
from .dimse import Dimse
from .dimse_association import DimseAddress


def connect(
    address: str, access: Credentials | None = None, *, move_port: int | None = None, bind: str = "127.0.0.1"
) -> Remote:
    """Choose how to talk to an archive; nothing is sent yet.

    Args:
        address: `http(s)://host:port/dicom-web`, or `dimse://AET@host:port` (`dimses://` with TLS).
        access: credentials, certificates and our AE title.
        move_port: DIMSE: retrieve by C-MOVE to this local port instead of by C-GET.
        bind: local address to receive C-MOVE at.

    Raises:
        InputError: any other address.
    """
    if address.startswith(("http://", "https://")):
        return Dicomweb(address, access)
    if address.startswith(("dimse://", "dimses://")):
        return Dimse(DimseAddress.parse(address), access, move_port=move_port, bind=bind)
    raise InputError(f"an archive must be http(s)://host/dicom-web or dimse://AET@host:port, got {address!r}")


def pull(remote: Remote, query: Query, output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fetch the series that match into `output/<study UID>/<series UID>/<SOP Instance UID>.dcm`.

    Yields:
        The folder of each series as soon as it is complete.

    Raises:
        InputError: the archive has no such series.
        OutputError: a series was fetched before.
        PacsError: the archive fails, or sends less than it lists.
    """
    found = remote.find(query)
    if not found:
        asked = ", ".join(f"{keyword} {value}" for keyword, value in query.tags().items())
        raise InputError(f"the archive must hold what is asked for, found no series with {asked}; check the UIDs")
    for series in found:
        folder = output / series.study / series.series
        check_free([folder], overwrite=overwrite)
        pull_series(remote, series, folder)
        yield folder


def pull_series(remote: Remote, series: SeriesRef, folder: Path) -> None:
    """Fetch a series into a folder, completely or not at all; replace what was there.

    Raises:
        PacsError: the archive fails, or sends another number of instances than it lists.
    """
    with whole_folder(folder) as temporary:
        listed = remote.pull(series, temporary)
        if (came := len(list(temporary.glob("*.dcm")))) != listed or not came:
            raise PacsError(f"an archive must send each instance that it lists, got {came} of {listed}; pull again")


def push(remote: Remote, paths: Iterable[Path]) -> Pushed:
    """Send DICOM files, and those in folders at any depth; other files in folders are left out.

    Raises:
        InputError: a path does not exist, a named file is not DICOM, or there is nothing to send.
        PacsError: the archive fails as a whole.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"input must exist, got {path}; check the path")
        files += [path] if path.is_file() else _dicom_files(path)
    if not files:
        raise InputError("folders must hold DICOM files, found none")
    return remote.push(list(dict.fromkeys(files)))


def _dicom_files(folder: Path) -> list[Path]:
    """Instances at any depth; a medium's DICOMDIR is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.upper() != "DICOMDIR"]
    return [path for path in files if is_dicom(path)]
