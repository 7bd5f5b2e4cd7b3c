"""`unetpp listen`: segment series that arrive at a PACS."""

import logging
import threading
import time
import warnings
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..faults import trace_of
from .common import (
    BundleOption,
    DepthOption,
    DeviceOption,
    PrecisionOption,
    RuntimeOption,
    TrustOption,
    comma_separated,
)
from .pacs import (
    CaOption,
    CertificateOption,
    KeyOption,
    PasswordEnvOption,
    PasswordFileOption,
    TokenFileOption,
    UserOption,
    secrets,
)

ROOM = "unetpp_monai.pacs"  # package whose logs are shown
ARCHIVE, SEGMENTATION = "Archive", "Segmentation"  # panels of the help; other options are of the service


def _in(panel: str, option: Any) -> Any:
    """Put a shared option into a panel of the help."""
    info = copy(get_args(option)[1])
    info.rich_help_panel = panel
    return info


def listen(
    orthanc: Annotated[
        str | None, typer.Option(metavar="URL", help="Watch this Orthanc: http://host:8042.", rich_help_panel=ARCHIVE)
    ] = None,
    dimse: Annotated[
        str | None,
        typer.Option(
            metavar="AET:PORT", help="Receive by C-STORE under this AE title and port.", rich_help_panel=ARCHIVE
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="JSON list of rules; the first match applies.", rich_help_panel=SEGMENTATION),
    ] = None,
    journal: Annotated[
        Path, typer.Option(help="SQLite file that records all jobs; a folder beside it holds unfinished work.")
    ] = Path("unetpp_listen.sqlite"),
    store_to: Annotated[
        str | None,
        typer.Option(
            help="Archive for results, as in unetpp pacs push; default with --orthanc: the same.",
            rich_help_panel=ARCHIVE,
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Formats of results: dicomseg, sr, rtstruct.", rich_help_panel=SEGMENTATION)
    ] = "dicomseg,sr",
    bundle: Annotated[Path | None, _in(SEGMENTATION, BundleOption)] = None,
    trusted: Annotated[bool, _in(SEGMENTATION, TrustOption)] = False,
    depth: Annotated[str | None, _in(SEGMENTATION, DepthOption)] = None,
    device: Annotated[str, _in(SEGMENTATION, DeviceOption)] = "auto",
    runtime: Annotated[str, _in(SEGMENTATION, RuntimeOption)] = "auto",
    precision: Annotated[str, _in(SEGMENTATION, PrecisionOption)] = "float32",
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="With a new journal: also segment series already in Orthanc.", rich_help_panel=ARCHIVE
        ),
    ] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two polls.", min=0.05)] = 5.0,
    max_queue: Annotated[int, typer.Option(help="Most open jobs; further series wait.", min=1)] = 100,
    attempts: Annotated[int, typer.Option(help="Attempts until a series becomes a dead letter.", min=1)] = 20,
    retry_seconds: Annotated[
        float, typer.Option(help="Seconds before the second attempt; doubled each time, up to 1 h.", min=0)
    ] = 5.0,
    bind: Annotated[
        str, typer.Option(help="DIMSE: address to receive at; 0.0.0.0 for everyone.", rich_help_panel=ARCHIVE)
    ] = "127.0.0.1",
    allow: Annotated[
        list[str] | None, typer.Option(help="DIMSE: AE titles that may send; default: all.", rich_help_panel=ARCHIVE)
    ] = None,
    quiet: Annotated[
        float,
        typer.Option(
            help="DIMSE: seconds without a new instance until a series is complete.", min=0, rich_help_panel=ARCHIVE
        ),
    ] = 10.0,
    min_free: Annotated[
        int, typer.Option(help="DIMSE: MB of disk to leave free.", min=0, rich_help_panel=ARCHIVE)
    ] = 1024,
    tls: Annotated[
        bool, typer.Option("--tls", help="DIMSE: receive over TLS only; needs --certificate.", rich_help_panel=ARCHIVE)
    ] = False,
    user: Annotated[str | None, _in(ARCHIVE, UserOption)] = None,
    password_file: Annotated[Path | None, _in(ARCHIVE, PasswordFileOption)] = None,
    password_env: Annotated[str | None, _in(ARCHIVE, PasswordEnvOption)] = None,
    token_file: Annotated[Path | None, _in(ARCHIVE, TokenFileOption)] = None,
    ca: Annotated[Path | None, _in(ARCHIVE, CaOption)] = None,
    certificate: Annotated[Path | None, _in(ARCHIVE, CertificateOption)] = None,
    key: Annotated[Path | None, _in(ARCHIVE, KeyOption)] = None,
    status: Annotated[
        Path | None, typer.Option(metavar="JOURNAL", help="Show the state of all series, and exit.")
    ] = None,
    retry_dead: Annotated[bool, typer.Option("--retry-dead", help="With --status: queue dead letters again.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also log the lines of our code behind an error.")] = False,
) -> None:
    """Segment series that arrive at a PACS, and store the results there, until stopped.

    A rule is an object with modality and, optionally, description (regular expression), body_part, min_slices,
    max_slices, spacing_mm {min, max}, bundle, trust (true: as --trust, of that bundle), depth, any_modality (true: as
    --any-modality of unetpp segment). SIGTERM returns the running job to the queue and exits with 143, Ctrl-C with 130;
    1 is an error. Run it again with the same journal to resume.
    """
    from ..pacs import Credentials, DimseInput, OrthancInput, Schedule, Service, read_rules, segmenting
    from ..segmenter import Segmenter

    if status is not None:
        show_status(status, retry_dead=retry_dead)
        return
    if rules is None or (orthanc is None) == (dimse is None) or (dimse is not None and store_to is None):
        raise InputError("listen needs --rules, and --orthanc URL or --dimse AET:PORT with --store-to")
    wanted = read_rules(rules)
    access = Credentials(*secrets(user, password_file, password_env, token_file), ca, certificate, key)
    received = (
        OrthancInput(orthanc, everything)
        if orthanc is not None
        else DimseInput(*_title_and_port(str(dimse)), bind, tuple(allow or ()), quiet, min_free * 1_000_000, tls)
    )

    def load(folder: str | None, *, trust: bool = False) -> Segmenter:
        options = {"device": device, "runtime": runtime, "precision": precision}
        return Segmenter.from_bundle(folder or bundle, trust=trusted if folder is None else trust, **options)

    processor = segmenting(
        wanted,
        load,
        depth=depth,
        formats=comma_separated(formats),
    )
    schedule = Schedule(attempts, retry_seconds)
    start_logging(verbose=verbose)
    Service(received, wanted, processor, journal, store_to, access, max_queue, schedule).run(poll_seconds=poll)


def _title_and_port(text: str) -> tuple[str, int]:
    """Parse `--dimse`."""
    aet, _, port = text.rpartition(":")
    if not aet or not port.isdecimal():
        raise InputError(f"--dimse must be like UNETPP:11112, got {text!r}")
    return aet, int(port)


def show_status(path: Path, *, retry_dead: bool) -> None:
    """Print the number of series in each state, and dead letters by number; nothing about patients."""
    from ..pacs import Journal

    out = Console()
    with closing(Journal.existing(path)) as journal:
        if retry_dead:
            out.print(f"{journal.retry_dead()} dead letters queued again", highlight=False)
        table = Table(*journal.counts())
        table.add_row(*(str(count) for count in journal.counts().values()))
        out.print(table)
        for job in journal.jobs("dead"):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.changed))
            out.print(f"job {job.id}  dead  {job.reason}  {job.attempts} tries, the last {when}", highlight=False)


def start_logging(*, verbose: bool) -> None:
    """Log the listener's own messages to stderr; not those that may quote headers: libraries, remarks."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger(ROOM)
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG if verbose else logging.INFO)
    warnings.simplefilter("ignore")
    threading.excepthook = _log_thread


def _log_thread(end: threading.ExceptHookArgs) -> None:
    """Log that a thread of a library ended, without its message."""
    if end.exc_value is not None and not isinstance(end.exc_value, SystemExit):
        logging.getLogger(ROOM).warning("a thread ended: %s", trace_of(end.exc_value))
