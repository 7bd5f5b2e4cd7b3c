"""Archives: series from and to a PACS over DICOMweb and DIMSE, and the listener that segments what arrives there."""

from .archive import Credentials, Pushed, Query, Remote, SeriesRef
from .journal import Journal
from .limits import Limits
from .listener import Listener, Processor, Schedule
from .orthanc_feed import OrthancFeed
from .receiver import Receiver
from .rules import Rule, read_rules
from .series_queue import SeriesQueue, Source
from .service import DimseInput, OrthancInput, Service, segmenting
from .transfer import connect, pull, pull_series, push

__all__ = [
    "Credentials",
    "DimseInput",
    "Journal",
    "Limits",
    "Listener",
    "OrthancFeed",
    "OrthancInput",
    "Processor",
    "Pushed",
    "Query",
    "Receiver",
    "Remote",
    "Rule",
    "Schedule",
    "SeriesQueue",
    "SeriesRef",
    "Service",
    "Source",
    "connect",
    "pull",
    "pull_series",
    "push",
    "read_rules",
    "segmenting",
]
