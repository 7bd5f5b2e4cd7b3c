"""`unetpp listen`: segment what arrives at a PACS."""

import logging
import sqlite3
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import InputError, OutputError
from .common import BundleOption, DepthOption, DeviceOption, PrecisionOption, RuntimeOption
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

if TYPE_CHECKING:
    from ..pacs import Access, Pipeline, Remote, Rule, Source
    from ..segmenter import Segmenter


@dataclass(frozen=True)
class _Ends:
    """Where series come from and results go, as on the command line."""

    orthanc: str | None  # URL
    everything: bool  # begin with what it holds
    dimse: str | None  # AET:PORT
    bind: str  # address
    allow: tuple[str, ...]  # AE titles
    quiet: float  # seconds
    min_free: int  # MB
    tls: bool  # receive over TLS only
    max_queue: int  # series
    store_to: str | None  # address of an archive


def listen(
    orthanc: Annotated[str | None, typer.Option(metavar="URL", help="Watch this Orthanc: http://host:8042.")] = None,
    dimse: Annotated[
        str | None, typer.Option(metavar="AET:PORT", help="Receive by C-STORE under this AE title and port.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="JSON list of rules; the first that accepts a series wins.")
    ] = None,
    journal: Annotated[
        Path, typer.Option(help="SQLite file of what was done; work under way lies in a folder beside it.")
    ] = Path("unetpp_listen.sqlite"),
    store_to: Annotated[
        str | None, typer.Option(help="Where results go, as unetpp pacs push; default with --orthanc: back to it.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Of results: dicomseg, sr, rtstruct.")] = "dicomseg,sr",
    bundle: BundleOption = None,
    depth: DepthOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "float32",
    everything: Annotated[
        bool, typer.Option("--all", help="With a new journal: begin with what Orthanc already holds.")
    ] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 5.0,
    max_queue: Annotated[int, typer.Option(help="Open jobs from which on nothing more is taken.", min=1)] = 100,
    attempts: Annotated[int, typer.Option(help="Tries until a series becomes a dead letter.", min=1)] = 20,
    retry_seconds: Annotated[
        float, typer.Option(help="Wait before the second try; each further wait is twice as long, at most 1 h.", min=0)
    ] = 5.0,
    bind: Annotated[str, typer.Option(help="DIMSE: address to receive at; 0.0.0.0 for everyone.")] = "127.0.0.1",
    allow: Annotated[list[str] | None, typer.Option(help="DIMSE: AE titles that may send; default: all.")] = None,
    quiet: Annotated[float, typer.Option(help="DIMSE: seconds without an instance that end a series.", min=0)] = 10.0,
    min_free: Annotated[int, typer.Option(help="DIMSE: MB of disk to leave free.", min=0)] = 1024,
    tls: Annotated[bool, typer.Option("--tls", help="DIMSE: receive over TLS only; needs --certificate.")] = False,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    password_env: PasswordEnvOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    status: Annotated[
        Path | None, typer.Option(metavar="JOURNAL", help="Show what became of series, and exit.")
    ] = None,
    retry_dead: Annotated[bool, typer.Option("--retry-dead", help="With --status: queue dead letters anew.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log errors in full; may name patients.")] = False,
) -> None:
    """Segment series that arrive at a PACS, and store the results there, until stopped.

    A rule is an object with modality and, as wanted, description (regular expression), body_part, min_slices,
    max_slices, spacing_mm {min, max}, bundle, depth. SIGTERM gives the running job back and exits with 143, Ctrl-C
    with 130; 1 is an error. Started again with the same journal, it goes on where it stopped.
    """
    from ..pacs import Access, Intake, Journal, Listener, Schedule, read_rules

    if status is not None:
        show_status(status, retry_dead=retry_dead)
        return
    if rules is None or (orthanc is None) == (dimse is None) or (dimse is not None and store_to is None):
        raise InputError("listen needs --rules, and --orthanc URL or --dimse AET:PORT with --store-to")
    wanted = read_rules(rules)
    access = Access(*secrets(user, password_file, password_env, token_file), ca, certificate, key)
    ends = _Ends(orthanc, everything, dimse, bind, tuple(allow or ()), quiet, min_free, tls, max_queue, store_to)
    pipeline = segmenting(wanted, _loader(bundle, device, runtime, precision), depth=depth, formats=formats)
    spool = journal.with_name(f"{journal.name}.spool")
    start_logging(verbose=verbose)
    try:
        with closing(Journal(journal, exclusive=True)) as memory, ExitStack() as stack:
            source, store = _connect(ends, access, spool, stack)
            Listener(
                source,
                Intake(memory, wanted, max_queue),
                pipeline=pipeline,
                store=store,
                spool=spool,
                schedule=Schedule(attempts, retry_seconds),
            ).run(poll_seconds=poll)
    except sqlite3.Error as error:
        raise OutputError(f"the journal {journal} must be writable, got {error}; is the disk full?") from error


def segmenting(
    rules: "Sequence[Rule]", load: "Callable[[str | None], Segmenter]", *, depth: str | None, formats: str
) -> "Pipeline":
    """Join the listener to the segmenter: a pipeline that writes `formats` of each series.

    Args:
        rules: whose bundles are loaded now, so that a missing one or a depth that it has not is known at once.
        load: bundle folder (None: the default) -> segmenter.
        depth: where a rule has none.
        formats: comma-separated, DICOM only.

    Raises:
        InputError: other formats, or a depth that a bundle's network does not have.
        BundleError: a bundle is missing or wrong.
    """
    from ..workflows.outputs import DICOM_FORMATS, check_formats
    from ..workflows.segment import Request, segment_case

    names = check_formats(formats.replace(" ", "").split(","), dicom=True)
    if others := set(names) - set(DICOM_FORMATS):
        raise InputError(f"an archive takes {', '.join(DICOM_FORMATS)}, got {', '.join(sorted(others))}")
    segmenters = {folder: load(folder) for folder in {rule.bundle for rule in rules}}
    for number, rule in enumerate(rules, 1):
        try:
            segmenters[rule.bundle].check_depth(rule.depth or depth)
        except InputError as error:
            raise InputError(f"rule {number}: {error}; see also --depth") from error

    def pipeline(series_folder: Path, output: Path, *, rule: "Rule") -> list[Path]:
        if rule.bundle not in segmenters:  # of a job that was queued by other rules
            segmenters[rule.bundle] = load(rule.bundle)
        segment_case(segmenters[rule.bundle], series_folder, output, Request(names, depth=rule.depth or depth))
        return sorted(output.glob("*.dcm"))

    return pipeline


def show_status(path: Path, *, retry_dead: bool) -> None:
    """Print how many series are in each state, and the dead letters by number; nothing of a patient."""
    from ..pacs import Journal

    out = Console()
    with closing(Journal.existing(path)) as journal:
        if retry_dead:
            out.print(f"{journal.retry_dead()} dead letters queued anew", highlight=False)
        table = Table(*journal.counts())
        table.add_row(*(str(count) for count in journal.counts().values()))
        out.print(table)
        for job in journal.jobs("dead"):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.changed))
            out.print(f"job {job.id}  dead  {job.reason}  {job.attempts} tries, the last {when}", highlight=False)


def start_logging(*, verbose: bool) -> None:
    """Log to stderr; libraries, which quote headers in their messages and warnings, only if that is wanted."""
    style = "%(asctime)s %(levelname)s %(message)s"
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format=style)
        return
    logging.basicConfig(handlers=[logging.NullHandler()])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(style))
    ours = logging.getLogger("unetpp_monai")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    warnings.simplefilter("ignore")


def _connect(ends: _Ends, access: "Access", spool: Path, stack: ExitStack) -> "tuple[Source, Remote]":
    """Open both ends; a password or token goes to the one archive that it is for, not to `--store-to` beside it."""
    from ..pacs import OrthancFeed, Receiver, connect

    if ends.orthanc is not None:
        feed = OrthancFeed(ends.orthanc, access, everything=ends.everything)
        bare = replace(access, user=None, password=None, token=None)
        return feed, feed.archive if ends.store_to is None else connect(ends.store_to, bare)
    aet, _, port = str(ends.dimse).rpartition(":")
    if not 0 < len(aet) <= 16 or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--dimse must be like UNETPP:11112, got {ends.dimse!r}")
    receiver = Receiver(
        spool, quiet_seconds=ends.quiet, max_queue=ends.max_queue, min_free_bytes=ends.min_free * 1_000_000
    )
    context = access.tls(server=True) if ends.tls else None
    stack.enter_context(receiver.listening(aet, (ends.bind, int(port)), calling=ends.allow, tls=context))
    return receiver, connect(str(ends.store_to), replace(access, aet=aet))


def _loader(bundle: Path | None, device: str, runtime: str, precision: str) -> "Callable[[str | None], Segmenter]":
    from ..segmenter import Segmenter

    return lambda folder: Segmenter.from_bundle(folder or bundle, device=device, runtime=runtime, precision=precision)
