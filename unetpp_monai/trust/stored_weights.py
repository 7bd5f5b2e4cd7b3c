"""Files of weights: whether one is whole, and what reading one raises that is none. Reads no tensor."""

import pickle
import zipfile
from pathlib import Path

from ..errors import BundleError
from ..json_files import at

# what `torch.load` and a network raise for files that are no weights, or another network's
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
    """Verify the checksums of a file of weights, which torch does not.

    Raises:
        BundleError: a part of it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise BundleError(f"{at(path)} must be whole, got another checksum for {damaged} in it; copy it again")
