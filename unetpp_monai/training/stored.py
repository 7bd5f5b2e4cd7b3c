"""Prepared cases on the disk: each complete or not at all, and mapped into memory where it is used."""

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..files import complete_file, state_of

BROKEN = (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError)


class StoredCases(Sequence[dict[str, Any]]):
    """Cases in files, read anew each time: only what is touched takes memory, and only while it is used.

    Args:
        paths: of files that `write_case` wrote.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """Give a case, as it was before it was written."""
        return StoredCases(self.paths[index]) if isinstance(index, slice) else read_case(self.paths[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give one after the other."""
        return map(read_case, self.paths)


def place_of(folder: Path, case: Mapping[str, Any]) -> Path:
    """Where a case lies in a folder: by the names, sizes and times of its files.

    Args:
        folder: of one kind of preparation.
        case: "image" is a path, or one per channel, "label" a path.

    Raises:
        OSError: a file cannot be found.
    """
    images = case["image"] if isinstance(case["image"], list) else [case["image"]]
    states = [f"{Path(path).resolve()} {state_of([Path(path)])}" for path in (*images, case["label"])]
    return folder / f"{hashlib.sha256(chr(10).join(states).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.pt"


def is_whole(path: Path) -> bool:
    """Whether a file is one of ours with every byte as it was written, by its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except BROKEN:
        return False


def write_case(path: Path, case: Mapping[str, Any]) -> None:
    """Write a prepared case.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with complete_file(path) as temporary:
        torch.save({key: _plain(value) for key, value in case.items()}, temporary)


def read_case(path: Path) -> dict[str, Any]:
    """Read a prepared case; its voxels stay on the disk until they are touched."""
    found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return {key: _tensor(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    """In types that can be read without running anything."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(value)
    if not isinstance(value, MetaTensor):
        return value
    meta = {key: item for key, item in value.meta.items() if type(item) in (str, int, float, bool)}
    return {"voxels": value.as_tensor().contiguous(), "affine": torch.as_tensor(value.affine), "meta": meta}


def _tensor(value: Any) -> Any:
    return MetaTensor(value["voxels"], affine=value["affine"], meta=value["meta"]) if isinstance(value, dict) else value
