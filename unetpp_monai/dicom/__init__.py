"""DICOM in and out: the only room, with pacs/, that knows its objects. Patient coordinates (LPS) become RAS here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset as Header  # of an instance, for rooms that only pass it on

    __all__ = ["Header"]
