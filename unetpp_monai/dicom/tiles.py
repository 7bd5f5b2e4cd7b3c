"""Images that hold a whole volume as tiles, as two vendors write functional and diffusion series. Not for untiling."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pydicom

SIEMENS_COUNT = 0x0019100A  # NumberOfImagesInMosaic
SIEMENS_CSA = 0x00291010  # CSA image header, which says the same, and more
UIH_COUNT = 0x00651050  # number of slices in the grid
UIH_FRAMES = 0x00651051  # one item per tile
TILE_TAGS = ("Manufacturer", 0x00190010, SIEMENS_COUNT, 0x00290010, SIEMENS_CSA, 0x00650010, UIH_COUNT, UIH_FRAMES)
CSA_NAME = b"NumberOfImagesInMosaic\0"
CSA_HEAD = 84  # bytes of an element's name (64), multiplicity, type, number of items, check
CSA_ITEM = 16  # bytes before an item's text


def tiling(header: "pydicom.Dataset") -> str:
    """Say how an image is tiled; "" if it is one plane.

    The image type tells, or private elements of the vendor, which anonymisers leave less often.
    """
    kinds = str(header.get("ImageType")).upper()
    if "MOSAIC" in kinds or _number(header, SIEMENS_COUNT) > 1 or _in_csa(header) > 1:
        return "Siemens MOSAIC"
    if "VFRAME" in kinds or _number(header, UIH_COUNT) > 1 or _items(header) > 1:
        return "United Imaging VFRAME"
    return ""


def _number(header: "pydicom.Dataset", tag: int) -> float:
    value = header[tag].value if tag in header else 0
    if isinstance(value, bytes):  # written without its type: a number in 2 bytes, or its digits
        value = int.from_bytes(value, "little") if len(value) == 2 else value.strip(b" \0").decode("ascii")
    return float(value or 0)


def _items(header: "pydicom.Dataset") -> int:
    return len(header[UIH_FRAMES].value or ()) if UIH_FRAMES in header and header[UIH_FRAMES].VR == "SQ" else 0


def _in_csa(header: "pydicom.Dataset") -> float:
    """Number of tiles that the CSA header states; 0 if it states none."""
    csa = header[SIEMENS_CSA].value if SIEMENS_CSA in header else b""
    start = csa.find(CSA_NAME) if isinstance(csa, bytes) else -1
    if start < 0:
        return 0.0
    text = csa[start + CSA_HEAD + CSA_ITEM :][:16].split(b"\0")[0].strip()
    return float(text) if text.isdigit() else 0.0
