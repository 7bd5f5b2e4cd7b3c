"""Read PNG and TIFF pictures, and write label maps as PNG. Pictures have pixels, but no lengths in mm."""

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError, InputError
from ..files import complete_file
from ..memory import check_memory
from ..volume import Volume

SUFFIXES = (".png", ".tif", ".tiff")
FORMATS = ("PNG", "TIFF")  # by content, not by file name
# what Pillow raises for undecodable files; its TIFF parsers check little
BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(struct.error, zlib.error, MemoryError),
)
IMAGE_MODES = ("L", "RGB", "I;16", "I;16B", "I", "F")  # Pillow's modes of grey and colour without transparency
Colour = tuple[int, int, int]  # sRGB, 0 ... 255


def read_picture(path: Path, *, labels: bool = False) -> Volume:
    """Read a picture; x runs to the right and y down.

    Args:
        path: `.png`, `.tif` or `.tiff`, grey (8, 16 or 32 bit) or RGB, one page.
        labels: accept a palette picture as a label map of its indices.

    Returns:
        `(C, X, Y, 1)`, C = 1 for grey and 3 for RGB, on a grid of 1 per pixel.

    Raises:
        InputError: too large, several pages, transparency, or a palette; `CorruptFileError`: unreadable, truncated or
            damaged.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes, which are checked here
            pixels, pages, mode = _decoded(path)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"a picture must be small enough for Pillow, got {path} ({error}); cut it into tiles"
        ) from error
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptFileError(f"{path} is not a readable picture ({reason}); export or copy it again") from error
    if pages != 1:
        raise InputError(f"a picture must have 1 page, got {pages} in {path}; save one page")
    if mode not in IMAGE_MODES and not (labels and mode == "P"):
        raise InputError(f"a picture must be grey or RGB, got Pillow's mode {mode!r} in {path}; convert it first")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(*pixels.shape[:2], -1)  # (Y, X, C)
    return Volume(pixels.transpose(2, 1, 0)[..., None], np.eye(4))


def picture_bands(path: Path) -> int:
    """Return the number of channels from the header: 1 grey or palette, 3 RGB."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as picture:
            return len(picture.getbands())


def palette_of(path: Path) -> tuple[Colour, ...]:
    """Return the colours of a palette picture's indices; empty for other pictures."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as picture:
            values = (picture.getpalette() or []) if picture.mode == "P" else []
    return tuple(zip(values[::3], values[1::3], values[2::3], strict=True))


def _decoded(path: Path) -> tuple[NDArray[Any], int, str]:
    """Return pixels, number of pages and Pillow's mode."""
    from PIL import Image

    with Image.open(path, formats=FORMATS) as picture:
        picture.verify()  # PNG checksums, which reading skips; the picture is unusable afterwards
    with Image.open(path, formats=FORMATS) as picture:
        pages, mode, (width, height) = getattr(picture, "n_frames", 1), picture.mode, picture.size
        needed = width * height * len(picture.getbands()) * 8  # at most 4 bytes each, twice
        check_memory(needed, f"the pixels of {path}", way_out="cut it into tiles")
        return np.array(picture), pages, mode


def write_label_picture(labels: Volume, path: Path, *, colours: Sequence[Colour]) -> None:
    """Write a label map as a palette PNG.

    Pixel values are label indices, shown in colours. Writing is atomic.

    Args:
        labels: `(1, X, Y, 1)` uint8.
        path: `.png`.
        colours: of the labels 1, 2, ...; the background is black.

    Raises:
        InputError: more than one slice or channel.
        OutputError: the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> labels = Volume(np.ones((1, 4, 3, 1), np.uint8), np.eye(4))
        >>> with TemporaryDirectory() as folder:
        ...     write_label_picture(labels, Path(folder, "labels.png"), colours=[(255, 0, 0)])
        ...     read_picture(Path(folder, "labels.png"), labels=True).shape
        (4, 3, 1)
    """
    from PIL import Image

    if labels.array.shape[0] != 1 or labels.shape[2] != 1:
        raise InputError(f"a label picture must be (1, X, Y, 1), got {labels.array.shape}; write NIfTI instead")
    picture = Image.fromarray(np.ascontiguousarray(labels.array[0, :, :, 0].T))
    picture.putpalette([0, 0, 0, *(value for colour in colours for value in colour)])
    with complete_file(path) as temporary:
        picture.save(temporary)
