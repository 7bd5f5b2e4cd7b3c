"""Verify weights files without reading tensors, and list what `torch.load` raises."""

import pickle
import zipfile
from pathlib import Path

from ..errors import BundleError
from ..json_files import at

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
