"""Damage that needs no knowledge of a format: bits, runs, cuts, insertions, splices."""

import gzip
from collections.abc import Callable
from random import Random

HEADER = 400  # bytes at the start, where most formats keep what they say of themselves
FILLS = (b"\x00", b"\xff", b"\x20", b"\x7f", b"9")
Damage = tuple[bytes, str]  # the changed file, and what was done to it
Mutator = Callable[[bytes, Random], Damage]


def spot(data: bytes, rng: Random) -> int:
    """Give a place in a file, as often in its header as anywhere."""
    if not data:
        return 0
    return rng.randrange(min(len(data), HEADER) if rng.random() < 0.5 else len(data))


def flip_bits(data: bytes, rng: Random) -> Damage:
    changed = bytearray(data)
    places = [spot(data, rng) for _ in range(rng.choice((1, 1, 1, 2, 4, 16)))]
    for place in places if data else []:
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed), f"flipped bits at {places}"


def fill_run(data: bytes, rng: Random) -> Damage:
    start, length = spot(data, rng), rng.choice((1, 2, 4, 8, 16, 64, 256))
    run = rng.choice((*FILLS, None))
    run = rng.randbytes(length) if run is None else run * length
    length = min(length, len(data) - start)
    return data[:start] + run[:length] + data[start + length :], f"{length} bytes {run[:8]!r} at {start}"


def cut(data: bytes, rng: Random) -> Damage:
    end = rng.choice((spot(data, rng), max(0, len(data) - rng.randint(1, 64))))
    return data[:end], f"cut to {end} of {len(data)} bytes"


def insert(data: bytes, rng: Random) -> Damage:
    start, more = spot(data, rng), rng.randbytes(rng.choice((1, 2, 4, 16, 128)))
    return data[:start] + more + data[start:], f"{len(more)} bytes inserted at {start}"


def remove(data: bytes, rng: Random) -> Damage:
    start, length = spot(data, rng), rng.choice((1, 2, 4, 16, 128))
    return data[:start] + data[start + length :], f"{length} bytes removed at {start}"


def repeat(data: bytes, rng: Random) -> Damage:
    start, length = spot(data, rng), rng.choice((4, 16, 128, 512))
    part = data[start : start + length]
    return data[:start] + part * 2 + data[start + length :], f"{len(part)} bytes at {start} twice"


def splice(data: bytes, rng: Random, other: bytes) -> Damage:
    """Join the head of a file and the tail of another."""
    head, tail = spot(data, rng), spot(other, rng)
    return data[:head] + other[tail:], f"spliced {head} bytes and the other file from {tail} on"


PLAIN: tuple[Mutator, ...] = (flip_bits, flip_bits, fill_run, fill_run, cut, insert, remove, repeat)


def within_gzip(mutator: Mutator) -> Mutator:
    """Apply a mutator to what a gzip file holds, so that its checksum is right again."""

    def mutate(data: bytes, rng: Random) -> Damage:
        changed, how = mutator(gzip.decompress(data), rng)
        return gzip.compress(changed, mtime=0), f"within gzip: {how}"

    return mutate
