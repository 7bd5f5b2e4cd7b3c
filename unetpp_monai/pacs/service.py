"""A PACS listener put together: where series come from, what segments them, where results go."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..depth import DepthLike
from ..errors import InputError
from .archive import Credentials, Remote, checked_aet
from .journal import Journal
from .limits import Limits
from .listener import Listener, Processor, Schedule
from .orthanc_feed import OrthancFeed
from .receiver import Receiver
from .rules import Rule
from .series_queue import SeriesQueue, Source
from .transfer import connect

if TYPE_CHECKING:
    from ..segmenter import Segmenter


@dataclass(frozen=True)
class OrthancInput:
    """Series that become stable on an Orthanc server."""

    url: str  # of its REST interface, such as "http://host:8042"
    everything: bool = False  # with a new journal: begin with what it already holds
    settle_seconds: float = 10.0  # until a series counts as complete of which Orthanc, restarted, does not say so


@dataclass(frozen=True)
class DimseInput:
    """Series that others send by C-STORE."""

    aet: str  # our AE title
    port: int
    bind: str = "127.0.0.1"  # address to receive at; "0.0.0.0": all
    allow: tuple[str, ...] = ()  # AE titles that may send; (): all
    quiet_seconds: float = 10.0  # without an instance until a series counts as complete
    min_free_bytes: int = 1 << 30  # of the disk, below which everything is refused
    tls: bool = False  # receive over TLS only, with the certificate of `access`
    limits: Limits = field(default_factory=Limits)  # of what peers may take

    def __post_init__(self) -> None:
        checked_aet(self.aet)
        if not 0 < self.port < 65536:
            raise InputError(f"a port must be from 1 to 65535, got {self.port}")


@dataclass(frozen=True)
class Service:
    """A listener with all that it needs.

    Example:
        >>> from unetpp_monai.pacs import OrthancInput, Rule, Service, segmenting
        >>> rules = [Rule("MR", min_slices=20)]
        >>> service = Service(OrthancInput("http://127.0.0.1:8042"), rules, segmenting(rules))
        >>> with service.listener() as listener:  # the journal is open, nothing was asked yet
        ...     listener.spool.name
        'unetpp_listen.sqlite.spool'
        >>> service.run()  # doctest: +SKIP
    """

    input: OrthancInput | DimseInput  # where series come from
    rules: Sequence[Rule]  # which series are segmented, and how
    processor: Processor  # makes results of a series, such as `segmenting(rules)`
    journal: Path = Path("unetpp_listen.sqlite")  # SQLite file; work in progress is in a folder beside it
    store_to: str | None = None  # address of an archive, as `connect` takes it; None: back to the Orthanc server
    access: Credentials = field(default_factory=Credentials)  # credentials and certificates
    max_queue: int = 100  # open jobs at which no new series is accepted
    schedule: Schedule = field(default_factory=Schedule)  # of repeated tries

    def __post_init__(self) -> None:
        if self.store_to is None and isinstance(self.input, DimseInput):
            raise InputError("results of received series need an archive, got no store_to; name its address")

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """Open the journal and both ends while the block runs.

        Raises:
            InputError: an address, certificate or journal is wrong.
            OutputError: journal or folder cannot be written, or another listener uses the journal.
        """
        spool = self.journal.with_name(f"{self.journal.name}.spool")
        with closing(Journal(self.journal, exclusive=True)) as journal, ExitStack() as stack:
            source, store = self._ends(spool, stack)
            queue = SeriesQueue(journal, self.rules, self.max_queue)
            yield Listener(source, queue, processor=self.processor, store=store, spool=spool, schedule=self.schedule)

    def run(self, *, poll_seconds: float = 5.0) -> None:
        """Segment what arrives until the process is told to stop.

        Args:
            poll_seconds: between two looks.

        Raises:
            InputError, OutputError: as `listener`.
            JournalError: the journal can no longer be written.
            PacsError: the source refuses us; an unreachable one is waited for.
        """
        with self.listener() as listener:
            listener.run(poll_seconds=poll_seconds)

    def _ends(self, spool: Path, stack: ExitStack) -> tuple[Source, Remote]:
        """Open source and store; a password or token goes to the one archive that it is for, not to `store_to`."""
        if isinstance(self.input, OrthancInput):
            feed = OrthancFeed(
                *(self.input.url, self.access),
                everything=self.input.everything,
                settle_seconds=self.input.settle_seconds,
            )
            bare = replace(self.access, user=None, password=None, token=None)
            return feed, feed.archive if self.store_to is None else connect(self.store_to, bare)
        given = self.input
        receiver = Receiver(
            spool,
            quiet_seconds=given.quiet_seconds,
            max_queue=self.max_queue,
            min_free_bytes=given.min_free_bytes,
        )
        tls = self.access.tls(server=True) if given.tls else None
        address = (given.bind, given.port)
        listening = receiver.listening(given.aet, address, calling=given.allow, tls=tls, limits=given.limits)
        stack.enter_context(listening)
        return receiver, connect(str(self.store_to), replace(self.access, aet=given.aet))


def segmenting(
    rules: Sequence[Rule],
    load: Callable[..., "Segmenter"] | None = None,
    *,
    depth: DepthLike = None,
    formats: Sequence[str] = ("dicomseg", "sr"),
) -> Processor:
    """Make a processor that segments each series with the bundle of its rule.

    Args:
        rules: whose bundles are loaded now, so that a missing one or a depth that it lacks is known at once.
        load: bundle folder (None: the default), and `trust=True` if its rule says so -> segmenter; None:
            `Segmenter.from_bundle`.
        depth: as `Segmenter` takes it, where a rule has none.
        formats: DICOM only.

    Raises:
        InputError: other formats, or a depth that a bundle's network does not have.
        BundleError: a bundle is missing or wrong.
    """
    from ..segmenter import Segmenter
    from ..workflows.outputs import DICOM_FORMATS, check_formats
    from ..workflows.request import Request
    from ..workflows.segment import segment_case

    names = check_formats(formats, dicom=True)
    if others := set(names) - set(DICOM_FORMATS):
        raise InputError(f"an archive takes {', '.join(DICOM_FORMATS)}, got {', '.join(sorted(others))}")
    open_bundle = load or Segmenter.from_bundle

    def opened(folder: str | None, rules: Sequence[Rule]) -> "Segmenter":
        trusted = any(rule.trust for rule in rules if rule.bundle == folder)  # by the one who wrote the rule
        segmenter = open_bundle(folder, trust=True) if trusted else open_bundle(folder)
        _check_channels(segmenter)
        return segmenter

    segmenters = {folder: opened(folder, rules) for folder in {rule.bundle for rule in rules}}
    for number, rule in enumerate(rules, 1):
        try:
            segmenters[rule.bundle].check_depth(rule.depth or depth)
        except InputError as error:
            raise InputError(f"rule {number}: {error}", option="depth") from error

    def process(series_folder: Path, output: Path, *, rule: Rule) -> list[Path]:
        if rule.bundle not in segmenters:  # of a job that was queued by other rules
            segmenters[rule.bundle] = opened(rule.bundle, [rule])
        request = Request(names, depth=rule.depth or depth, any_modality=rule.any_modality)
        segment_case(segmenters[rule.bundle], series_folder, output, request)
        return sorted(output.glob("*.dcm"))

    return process


def _check_channels(segmenter: "Segmenter") -> None:
    """Refuse a bundle of pictures, and one whose channels would be several series: who knows when all are there."""
    if segmenter.spatial_dims != 3:
        raise InputError(
            f"a listener segments volumes, got {segmenter.bundle.name} for pictures; choose another", option="bundle"
        )
    if segmenter.in_channels > 1:
        names = ", ".join(segmenter.bundle.input.channel_names)
        raise InputError(
            f"a listener segments one series at a time, got {segmenter.bundle.name} with {segmenter.in_channels} "
            f"channels ({names}); fetch the study, and name the series of each channel to unetpp segment",
            option="bundle",
        )
