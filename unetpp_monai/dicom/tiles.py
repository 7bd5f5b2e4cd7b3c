"""Detect images with a whole volume as tiles, as two vendors write functional and diffusion series."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pydicom

BLOCKS = range(0x10, 0x14)  # of private elements, in the order of creators in a group; usually the first
# private creator, group, element in its block
SIEMENS_COUNT = ("SIEMENS MR HEADER", 0x0019, 0x0A)  # NumberOfImagesInMosaic
SIEMENS_CSA = ("SIEMENS CSA HEADER", 0x0029, 0x10)  # image header, with the same number and more
UIH_COUNT = ("Image Private Header", 0x0065, 0x50)  # number of slices in the grid
UIH_FRAMES = ("Image Private Header", 0x0065, 0x51)  # one item per tile
PRIVATE = (SIEMENS_COUNT, SIEMENS_CSA, UIH_COUNT, UIH_FRAMES)
TILE_TAGS: tuple[int, ...] = (  # of the creators, and of their elements
    *(group << 16 | block for group in sorted({group for _, group, _ in PRIVATE}) for block in BLOCKS),
    *(group << 16 | block << 8 | element for _, group, element in PRIVATE for block in BLOCKS),
)
CSA_NAME = b"NumberOfImagesInMosaic\0"
CSA_HEAD = 84  # bytes of an element's name (64), multiplicity, type, number of items, check
CSA_ITEM = 16  # bytes before an item's text


def tiling(header: "pydicom.Dataset") -> str:
    """Return the kind of tiling of an image; "" for a single plane.

    Known from the image type or private elements: anonymisers may remove one of them.
    """
    kinds = str(header.get("ImageType")).upper()
    if "MOSAIC" in kinds or _number(_private(header, SIEMENS_COUNT)) > 1 or _in_csa(header) > 1:
        return "Siemens MOSAIC"
    frames = _private(header, UIH_FRAMES)
    count = 0 if frames is None or isinstance(frames, bytes | str) else len(frames)
    if "VFRAME" in kinds or _number(_private(header, UIH_COUNT)) > 1 or count > 1:
        return "United Imaging VFRAME"
    return ""


def _private(header: "pydicom.Dataset", place: tuple[str, int, int]) -> Any:
    """Return the value of a private element; None if missing."""
    creator, group, element = place
    for block in BLOCKS:
        owner, tag = group << 16 | block, group << 16 | block << 8 | element
        if owner in header and tag in header and str(header[owner].value).strip() == creator:
            return header[tag].value
    return None


def _number(value: Any) -> float:
    if isinstance(value, bytes):  # without VR: a number in 2 bytes, or its digits
        value = int.from_bytes(value, "little") if len(value) == 2 else value.strip(b" \0").decode("ascii")
    return float(value or 0)


def _in_csa(header: "pydicom.Dataset") -> float:
    """Return the number of tiles in the CSA header; 0 if not stated."""
    csa = _private(header, SIEMENS_CSA)
    start = csa.find(CSA_NAME) if isinstance(csa, bytes) else -1
    if start < 0:
        return 0.0
    text = csa[start + CSA_HEAD + CSA_ITEM :][:16].split(b"\0")[0].strip()
    return float(text) if text.isdigit() else 0.0
