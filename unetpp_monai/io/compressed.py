"""Decompress voxels to the end of the stream, verifying checksum and length; never more than the header states."""

import zlib
from pathlib import Path
from typing import BinaryIO

from ..errors import CorruptFileError

GZIP, EITHER = 31, 47  # zlib's wbits: gzip only, gzip or zlib
PIECE = 1 << 18  # bytes read and decompressed at a time
MOST = 1033  # highest compression ratio of deflate
PADDING = 1 << 20  # bytes that some programs leave after the voxels


class Unpacked:
    """A gzip or zlib stream of one or more members (parallel gzip writes several), from the file's position on.

    Args:
        file: compressed up to its end.
        path: for messages.
        wbits: GZIP or EITHER.
    """

    def __init__(self, file: BinaryIO, path: Path, wbits: int = GZIP) -> None:
        self.file, self.path, self.wbits = file, path, wbits
        self.member, self.rest = zlib.decompressobj(wbits), b""

    def read(self, size: int) -> bytearray:
        """Return exactly `size` bytes.

        Raises:
            CorruptFileError: truncated or damaged.
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
        """Read to the end and verify the checksum.

        Raises:
            CorruptFileError: damaged, truncated, or much longer than expected.
        """
        left = 0
        while piece := self._piece(PIECE):
            left += len(piece)
            if left > PADDING:
                raise self._corrupt("it has more voxels than its header states")

    def _piece(self, size: int) -> bytes:
        """Return some of the next bytes; none at the end."""
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
        """Start the next member; skip zeros after the last one."""
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
    """Check that the file is long enough for the voxels its header states, before allocating memory.

    Args:
        size: bytes of the voxels, from the header.
        stored: bytes of the file from the first voxel to the end.
        path: for the message.
        compressed: whether by deflate.

    Raises:
        CorruptFileError: the file is too short.
    """
    if size > (stored * MOST if compressed else stored):
        raise CorruptFileError(
            f"{path} is not a readable image (its header states {size} bytes of voxels, but the file has {stored}"
            f"{' compressed ones' if compressed else ''}: it is truncated); export or copy it again"
        )


def check_not_empty(path: Path) -> None:
    """Check that a file, if it is one, has content.

    Raises:
        CorruptFileError: it is empty.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise CorruptFileError(f"{path} must contain an image, got an empty file; export or copy it again")
