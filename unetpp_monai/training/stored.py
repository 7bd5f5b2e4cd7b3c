"""Store prepared cases on disk, written atomically and memory-mapped for reading."""

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..files import complete_file, state_of
from ..io import files_of_image

BROKEN = (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError)


class StoredCases(Sequence[dict[str, Any]]):
    """Cases in files, memory-mapped at each access.

    Args:
        paths: files written by `write_case`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """Return a case as it was written."""
        return StoredCases(self.paths[index]) if isinstance(index, slice) else read_case(self.paths[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield all cases."""
        return map(read_case, self.paths)


def place_of(folder: Path, case: Mapping[str, Any]) -> Path:
    """Return a case's path in a folder, from the names, sizes and times of its files.

    Args:
        folder: for one kind of preparation.
        case: "image" is a path, or one per channel, "label" a path.

    Raises:
        OSError: a file cannot be found.
    """
    images = case["image"] if isinstance(case["image"], list) else [case["image"]]
    states = [f"{Path(path).resolve()} {state_of(files_of_image(path))}" for path in (*images, case["label"])]
    return folder / f"{hashlib.sha256(chr(10).join(states).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.pt"


def is_whole(path: Path) -> bool:
    """Tell whether a file is a complete stored case, by its checksums."""
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
    """Read a prepared case; voxels are loaded from disk when used."""
    found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return {key: _tensor(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    """Convert to types that can be read without executing code."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(value)
    if not isinstance(value, MetaTensor):
        return value
    meta = {key: item for key, item in value.meta.items() if type(item) in (str, int, float, bool)}
    return {"voxels": value.as_tensor().contiguous(), "affine": torch.as_tensor(value.affine), "meta": meta}


def _tensor(value: Any) -> Any:
    return MetaTensor(value["voxels"], affine=value["affine"], meta=value["meta"]) if isinstance(value, dict) else value
