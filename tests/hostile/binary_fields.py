"""Evil values where NIfTI, PNG and TIFF files keep their fields."""

import struct
import zlib
from random import Random

import nibabel as nib
import numpy as np

from hostile.bytewise import Damage

INTEGERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**62)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e-3, 1e3, 1e6, 3e38, -3e38, 1e308, float("nan"), float("inf"), -float("inf"))
TEXTS = (b"", b"n+1", b"ni1\0", b"n+2\0", b"\xff" * 4, b"%s%n", b"A" * 80)
EXTENSION_SIZES = (0, 1, 7, 8, 15, 16, 32, 1000, 2**31 - 1, -1, -16, 100_000_000)

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_NAMES = (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"acTL", b"fcTL", b"gAMA")
TIFF_TAGS = (254, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 284, 296, 317, 320, 330, 338, 339, 34675)


def nifti_fields(data: bytes, rng: Random) -> Damage:
    """Set one to three fields of the header, in the file's own byte order, or add an extension that lies."""
    if rng.random() < 0.1:
        return _nifti_extension(data, rng)
    header_type = nib.nifti1.header_dtype
    order = "<" if data[:1] == b"\x5c" else ">"
    changed, said = bytearray(data), []
    for name in rng.sample(header_type.names, rng.choice((1, 1, 2, 3))):
        field, offset = header_type.fields[name][:2]
        base = field.base.newbyteorder(order)
        number = rng.randrange(max(1, field.itemsize // base.itemsize))
        value = _evil(base, rng)
        changed[offset + number * base.itemsize : offset + (number + 1) * base.itemsize] = value
        said.append(f"{name}[{number}] = {np.frombuffer(value, base)[0]!r}")
    return bytes(changed), ", ".join(said)


def _evil(base: np.dtype, rng: Random) -> bytes:
    if base.kind == "f":
        with np.errstate(over="ignore"):
            return np.array(rng.choice(REALS)).astype(base).tobytes()
    if base.kind in "iu":
        bits = 8 * base.itemsize
        return (rng.choice(INTEGERS) % 2**bits).to_bytes(base.itemsize, "little" if base.byteorder != ">" else "big")
    return rng.choice(TEXTS)[: base.itemsize].ljust(base.itemsize, b"\0")


def _nifti_extension(data: bytes, rng: Random) -> Damage:
    """Say that an extension follows the header, of a size that may be a lie."""
    order = "<" if data[:1] == b"\x5c" else ">"
    size, code, offset = rng.choice(EXTENSION_SIZES), rng.choice((0, 2, 4, 6, 44, -1)), rng.choice((352, 368, 384))
    extension = struct.pack(f"{order}ii", size, code) + rng.randbytes(rng.choice((0, 8, 24)))
    header = bytearray(data[:348]) + b"\x01\0\0\0"
    header[108:112] = struct.pack(f"{order}f", offset)
    return bytes(header) + extension + data[352:], f"an extension of {size} bytes, vox_offset {offset}"


def png_chunks(data: bytes, rng: Random) -> Damage:
    """Change a chunk and mend its checksum."""
    chunks = _png_chunks(data)
    at = rng.randrange(len(chunks))
    kind, content = chunks[at]
    what = rng.choice(("content", "content", "content", "kind", "drop", "twice", "bomb"))
    if what == "content" and content:
        content = bytearray(content)
        place = rng.randrange(len(content))
        content[place] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 127, 128, 255))
        chunks[at] = kind, bytes(content)
    elif what == "kind":
        chunks[at] = rng.choice(PNG_NAMES), content
    elif what == "drop":
        del chunks[at]
    elif what == "twice":
        chunks.insert(at, chunks[at])
    else:
        chunks.insert(1, (b"zTXt", b"words\0\0" + zlib.compress(bytes(50_000_000))))
    return _png_file(chunks), f"chunk {at} {kind!r}: {what}"


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], len(PNG_START)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def _png_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return PNG_START + b"".join(parts)


def tiff_tags(data: bytes, rng: Random) -> Damage:
    """Change tag, type, count or value of an entry of the first directory, or where the next directory is."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    changed = bytearray(data)
    if rng.random() < 0.1:
        target, place = rng.choice((start, 0, 8, len(data), 2**32 - 1)), start + 2 + 12 * count
        changed[place : place + 4] = struct.pack(f"{order}I", target)
        return bytes(changed), f"the next directory is at {target}"
    at = rng.randrange(count)
    place = start + 2 + 12 * at
    tag, kind, number, value = struct.unpack(f"{order}HHII", data[place : place + 12])
    what = rng.choice(("tag", "type", "count", "value", "value", "value"))
    if what == "tag":
        tag = rng.choice(TIFF_TAGS)
    elif what == "type":
        kind = rng.choice((0, 1, 2, 3, 4, 5, 11, 12, 13, 16, 99))
    elif what == "count":
        number = rng.choice((0, 1, 2, 1000, 2**31, 2**32 - 1))
    else:
        value = rng.choice((*(n % 2**32 for n in INTEGERS), 5, 32773, 50000, len(data)))
    changed[place : place + 12] = struct.pack(f"{order}HHII", tag, kind, number, value)
    return bytes(changed), f"entry {at}: tag {tag}, type {kind}, count {number}, value {value}"
