"""Archives: series from and to a PACS over DICOMweb and DIMSE, and the listener that segments what arrives there."""

from .archive import Access, Pushed, Query, Remote, SeriesRef
from .intake import Intake, Source
from .journal import Journal
from .listener import Listener, Pipeline, Schedule
from .orthanc_feed import OrthancFeed
from .receiver import Receiver
from .rules import Rule, read_rules
from .transfer import connect, pull, pull_series, push

__all__ = [
    "Access",
    "Intake",
    "Journal",
    "Listener",
    "OrthancFeed",
    "Pipeline",
    "Pushed",
    "Query",
    "Receiver",
    "Remote",
    "Rule",
    "Schedule",
    "SeriesRef",
    "Source",
    "connect",
    "pull",
    "pull_series",
    "push",
    "read_rules",
]
