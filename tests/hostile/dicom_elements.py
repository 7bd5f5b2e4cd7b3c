"""Evil values of DICOM elements, kinds that their values are not, sequences without end."""

import struct
import sys
import warnings
from io import BytesIO
from random import Random

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.tag import BaseTag

from hostile.bytewise import Damage, flip_bits

TEXTS = (
    *(
        b"",
        b" ",
        b"0",
        b"-1",
        b"1",
        b"nan",
        b"inf",
        b"-inf",
        b"1e400",
        b"1E-400",
        b"1..7",
        b"1,5",
        b"abc",
        b"\\",
        b"1\\2",
    ),
    *(b"1\\2\\3\\4\\5\\6\\7", b"\0" * 8, b"9" * 5000, b"\xff\xfe", b"\x1b[31m", b"a\nb", b"../../x", b"A" * 200),
)
WORDS = (b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\xff\x7f", b"\x20\0", b"", b"\1", b"\2\0\2\0")
KINDS = ("DS", "IS", "FD", "FL", "US", "SS", "UL", "OB", "OW", "UN", "SQ", "UI", "PN", "LO", "AT", "DA", "UT")
SYNTAXES = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.77", "x", ""),
)
# what pydicom raises when it writes, or reads again, what we changed
UNWRITABLE = (
    NotImplementedError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    struct.error,
)
LEVELS = 300  # of sequences within each other
DEEP = "deep"


def dicom_elements(data: bytes, rng: Random) -> Damage:
    """Change one or two elements of a DICOM file, at any depth, and write it as it then is."""
    if rng.random() < 0.1:
        return _with_syntax(data, rng.choice(SYNTAXES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(data))
        try:
            said: list[str] = []
            for _ in range(rng.choice((1, 1, 1, 2))):
                if not said or not said[-1].endswith(DEEP):  # pydicom takes minutes to look into those, and to write
                    said.append(_change(dataset, rng))
            return _written(dataset), ", ".join(said)
        except UNWRITABLE:
            return flip_bits(data, rng)


def _written(dataset: Dataset) -> bytes:
    file, settings = BytesIO(), pydicom.config.settings
    before, settings.writing_validation_mode = settings.writing_validation_mode, pydicom.config.IGNORE
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 20 * LEVELS)  # for sequences within each other; reading them has the usual limit
    try:
        pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    finally:
        settings.writing_validation_mode = before
        sys.setrecursionlimit(depth)
    return file.getvalue()


def _with_syntax(data: bytes, syntax: str) -> Damage:
    """Claim another transfer syntax, of any length; everything else stays as it is."""
    place = data.find(b"\x02\0\x10\0UI")
    if place < 0 or data[132:138] != b"\x02\0\0\0UL":
        return data, "no transfer syntax to change"
    (length,) = struct.unpack("<H", data[place + 6 : place + 8])
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    (group,) = struct.unpack("<I", data[140:144])
    head = data[:140] + struct.pack("<I", group + len(value) - length) + data[144 : place + 6]
    return head + struct.pack("<H", len(value)) + value + data[place + 8 + length :], f"transfer syntax {syntax!r}"


def _change(root: Dataset, rng: Random) -> str:
    what = rng.choice(("value", "value", "value", "value", "kind", "kind", "delete", "pixels", DEEP, "copy"))
    dataset = _somewhere(root, rng)
    tag = rng.choice(list(dataset.keys()))
    name = pydicom.datadict.keyword_for_tag(tag) or str(tag)
    if what == "delete":
        del dataset[tag]
    elif what == DEEP:
        _nest(root, tag)
    elif what == "copy":
        other = rng.choice(list(dataset.keys()))
        element = dataset.get_item(other)
        dataset._dict[tag] = element._replace(tag=tag) if isinstance(element, RawDataElement) else element
    elif what == "pixels" and "PixelData" in root:
        return _change_pixels(root, rng)
    else:
        kind, value = _evil(dataset, tag, rng, other=what == "kind")
        dataset._dict[tag] = raw_element(tag, kind, value, dataset)
        return f"{name} = {value[:24]!r} as {kind}"
    return f"{name}: {what}"


def _somewhere(root: Dataset, rng: Random) -> Dataset:
    """A dataset of the file: half of the time its root, else one within a sequence."""
    inner = [root, *(item for element in root.iterall() if element.VR == "SQ" for item in element.value if item)]
    return root if rng.random() < 0.5 else rng.choice(inner)


def _evil(dataset: Dataset, tag: BaseTag, rng: Random, *, other: bool) -> tuple[str, bytes]:
    kind = dataset[tag].VR
    value = rng.choice(WORDS if kind in ("US", "SS", "UL", "AT", "OB", "OW", "FD", "FL") else TEXTS)
    if kind in ("SQ", "OB or OW", "US or SS"):
        kind = "UN"
    return (rng.choice(KINDS) if other else kind), value + b" " * (len(value) % 2)


def raw_element(tag: BaseTag, kind: str, value: bytes, dataset: Dataset) -> RawDataElement:
    """An element of any kind with any bytes, as pydicom writes it unseen."""
    little = getattr(dataset, "original_encoding", (None, None))[1] is not False
    return RawDataElement(tag, kind, len(value), value, 0, False, little)


def _nest(root: Dataset, tag: BaseTag) -> None:
    """Put sequences within each other, as bytes: pydicom takes minutes to write them."""
    content = b""
    for _ in range(LEVELS):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
    root._dict.pop(tag, None)
    root._dict[BaseTag(0x00081140)] = RawDataElement(
        BaseTag(0x00081140),
        "SQ",
        len(content),
        struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content,
        0,
        False,
        True,
    )


def _change_pixels(root: Dataset, rng: Random) -> str:
    pixels = root.PixelData
    share = rng.choice((0, 0.5, 0.9, 0.99, 2, 100))
    root.PixelData = (
        (pixels * int(share))[: len(pixels) * 100] if share > 1 else pixels[: int(len(pixels) * share) // 2 * 2]
    )
    return f"pixels of {share} times the length"
