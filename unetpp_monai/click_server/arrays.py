"""Pack and unpack arrays for nnInteractive's protocol; invalid or too large ones are refused before unpacking.

Source: MIC-DKFZ/nnInteractive, SERVER_CLIENT.md and the wire format documented by its client, version 1.
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

MAGIC, VERSION, CODEC = b"NNIA", 1, 1  # ZSTD
HEAD, LENGTHS = struct.Struct("<4sBBBB"), struct.Struct("<QQ")
MOST_BYTES = 1 << 30  # of an array, and of one chunk
WHOLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
DTYPES = ("bool", *WHOLE, "float16", "float32", "float64")
NEEDED = "a server for viewers needs blosc2; pip install 'unetpp_monai[clicks]'"


def pack(array: NDArray[np.generic]) -> bytes:
    """Pack an array."""
    import blosc2

    array = np.ascontiguousarray(array)
    name = array.dtype.name.encode()
    options = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "filters": [blosc2.Filter.NOFILTER]}
    content: bytes = blosc2.compress2(array.tobytes(), typesize=array.dtype.itemsize, **options)
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    head = HEAD.pack(MAGIC, VERSION, CODEC, array.ndim, len(name)) + name + shape + struct.pack("<I", 1)
    return head + LENGTHS.pack(array.nbytes, len(content)) + content


def unpack(content: bytes, *, axes: int) -> NDArray[np.generic]:
    """Unpack an array.

    Args:
        content: of a request.
        axes: required number of axes.

    Raises:
        InputError: invalid or too large.
    """
    try:
        return _unpacked(content, axes)
    except (struct.error, UnicodeDecodeError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"an array must be packed as the protocol defines, got {error or type(error).__name__}"
        ) from error


def _unpacked(content: bytes, axes: int) -> NDArray[np.generic]:
    import blosc2

    magic, version, _, ndim, length = HEAD.unpack_from(content)
    if magic != MAGIC or version != VERSION or ndim != axes:
        raise InputError(f"an array must be of version {VERSION} with {axes} axes, got version {version} with {ndim}")
    at = HEAD.size
    name, at = content[at : at + length].decode("ascii"), at + length
    shape, at = struct.unpack_from(f"<{ndim}q", content, at), at + 8 * ndim
    if name not in DTYPES:
        raise InputError(f"an array must be of {', '.join(DTYPES)}, got {name[:20]!r}")
    dtype = np.dtype(name)
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise InputError(f"an array must have 1 to {MOST_BYTES} bytes, got the shape {shape} of {name}")
    (chunks,), at = struct.unpack_from("<I", content, at), at + 4
    found, missing = [], math.prod(shape) * dtype.itemsize
    for _ in range(chunks):
        (whole, packed), at = LENGTHS.unpack_from(content, at), at + LENGTHS.size
        chunk, at = content[at : at + packed], at + packed
        missing -= whole
        if len(chunk) != packed or missing < 0 or blosc2.get_cbuffer_sizes(chunk)[0] != whole:
            raise InputError("chunks of an array must have their stated lengths, got others")
        found.append(blosc2.decompress2(chunk))
    if missing:
        raise InputError(f"an array must be complete, {missing} bytes are missing")
    return np.frombuffer(b"".join(found), dtype).reshape(shape)
