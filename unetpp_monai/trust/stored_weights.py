"""Verify weights files, and list what `torch.load` raises."""

import pickle
import zipfile
from pathlib import Path

from ..errors import BundleError
from ..json_files import at, clipped

# raised by `torch.load` and networks for files without matching weights
UNREADABLE_WEIGHTS = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def check_stored(path: Path) -> None:
    """Verify the checksums of a weights file, which torch does not.

    Raises:
        BundleError: damaged file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise BundleError(f"{at(path)} must be complete, got another checksum for {damaged}; copy it again")


def check_readable(path: Path) -> None:
    """Verify that torch can read a weights file, before a copy of it is used.

    Raises:
        BundleError: damaged or truncated file.
    """
    import torch

    check_stored(path)
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE_WEIGHTS as error:
        found = clipped(error, 200) or type(error).__name__
        raise BundleError(f"{at(path)} must be complete, got {found}; copy it again, or train again") from error
