"""Compressed voxels, read to the end: checksum and length are verified, and no more is unpacked than was promised."""

import zlib
from pathlib import Path
from typing import BinaryIO

from ..errors import CorruptFileError

GZIP, EITHER = 31, 47  # of zlib: gzip streams, gzip or zlib streams
PIECE = 1 << 18  # bytes that are read and unpacked at a time
MOST = 1033  # bytes that deflate can make of one
PADDING = 1 << 20  # bytes behind the voxels that some programs leave


class Unpacked:
    """Reads a stream of one or several members (as parallel gzips write) from where the file stands.

    Args:
        file: compressed, to its end.
        path: for messages.
        wbits: GZIP or EITHER.
    """

    def __init__(self, file: BinaryIO, path: Path, wbits: int = GZIP) -> None:
        self.file, self.path, self.wbits = file, path, wbits
        self.member, self.rest = zlib.decompressobj(wbits), b""

    def read(self, size: int) -> bytearray:
        """Return exactly so many bytes.

        Raises:
            CorruptFileError: there are fewer, or they are damaged.
        """
        found = bytearray(size)
        view, done = memoryview(found), 0
        while done < size:
            piece = self._piece(min(size - done, PIECE))
            if not piece:
                raise self._corrupt(f"its voxels must be {size} bytes long, got {done}: it is truncated")
            view[done : done + len(piece)] = piece
            done += len(piece)
        return found

    def finish(self) -> None:
        """Read what is left, which verifies the checksum of what was read.

        Raises:
            CorruptFileError: damaged, truncated, or much longer than what was read.
        """
        left = 0
        while piece := self._piece(PIECE):
            left += len(piece)
            if left > PADDING:
                raise self._corrupt("it holds more voxels than its header says")

    def _piece(self, size: int) -> bytes:
        """Some of the next bytes; none at the end."""
        try:
            while True:
                if self.member.eof and not self._next_member():
                    return b""
                self.rest = self.rest or self.file.read(PIECE)
                starved = not self.rest
                piece = self.member.decompress(self.rest, size)
                self.rest = self.member.unused_data if self.member.eof else self.member.unconsumed_tail
                if piece:
                    return piece
                if starved and not self.member.eof:
                    raise self._corrupt("its compressed voxels end too early: it is truncated")
        except zlib.error as error:
            raise self._corrupt(f"its compressed voxels are damaged ({error})") from error

    def _next_member(self) -> bool:
        """Start the next member; zeros behind the last are padding."""
        while not self.rest.strip(b"\0"):
            self.rest = self.file.read(PIECE)
            if not self.rest:
                return False
        self.rest = self.rest.lstrip(b"\0")
        self.member = zlib.decompressobj(self.wbits)
        return True

    def _corrupt(self, reason: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path} is not a readable image ({reason}); export or copy it again")


def check_size(size: int, stored: int, path: Path, *, compressed: bool) -> None:
    """Refuse a header that promises more voxels than its file can hold, before memory is taken for them.

    Args:
        size: bytes of the voxels, as the header says.
        stored: bytes of the file from the first voxel on.
        path: for the message.
        compressed: by deflate.

    Raises:
        CorruptFileError: the file is too short.
    """
    if size > (stored * MOST if compressed else stored):
        raise CorruptFileError(
            f"{path} is not a readable image (its header promises {size} bytes of voxels, where the file has {stored}"
            f"{' compressed ones' if compressed else ''}: it is truncated); export or copy it again"
        )
