"""Read and write DICOM; only this package and pacs/ know its objects. Patient coordinates (LPS) become RAS here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset as Header  # of an instance, for packages that only pass it on

    __all__ = ["Header"]
