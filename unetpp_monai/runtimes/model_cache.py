"""Compiled models on disk, so that a network is converted once and not at every start."""

import hashlib
import logging
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import monai
import torch
from torch import nn

from ..errors import OutputError
from ..files import complete_file, private_folder

logger = logging.getLogger(__name__)

MOST_BYTES = 1 << 30  # of all models together; the ones used longest ago go first
DIGEST_BYTES = 32  # of a file, before its content
CODE = ("networks", "runtimes")  # folders of this package whose code decides what is compiled


def cache_folder() -> Path:
    """Folder of the models: below `XDG_CACHE_HOME`, or the system's cache folder."""
    if place := os.environ.get("XDG_CACHE_HOME"):
        base = Path(place)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "unetpp_monai" / "openvino"


def fingerprint(module: nn.Module, *conditions: object) -> str | None:
    """Hash all that decides what a module compiles to: weights, structure, code, packages, and what else is named.

    None: the module holds something, such as a hook, of which that cannot be told.
    """
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
            digest.update(path.read_bytes())
    digest.update(repr([torch.__version__, monai.__version__, *conditions]).encode())
    try:
        _Pickler(SimpleNamespace(write=digest.update), protocol=5).dump(module)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return digest.hexdigest()


class _Pickler(pickle.Pickler):
    """Writes a tensor as the hash of its values, as torch would name its place in memory, too."""

    def persistent_id(self, obj: object) -> object:
        """Stand in for a tensor."""
        if not isinstance(obj, torch.Tensor):
            return None
        values = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return str(obj.dtype), tuple(obj.shape), hashlib.sha256(values.data).hexdigest()


def load(key: str) -> bytes | None:
    """Give a model, None if it is not there or not whole."""
    path = cache_folder() / f"{key}.blob"
    try:
        content = path.read_bytes()
        os.utime(path)  # used now
    except OSError:
        return None
    digest, model = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return model if hashlib.sha256(model).digest() == digest else None


def store(key: str, model: bytes) -> None:
    """Keep a model, and drop the oldest ones beyond `MOST_BYTES`; where that cannot be done, nothing is kept."""
    folder = cache_folder()
    try:
        private_folder(folder)
        with complete_file(folder / f"{key}.blob") as temporary:
            temporary.write_bytes(hashlib.sha256(model).digest() + model)
        kept = 0
        for path in sorted(folder.glob("*.blob"), key=lambda path: path.stat().st_mtime, reverse=True):
            kept += path.stat().st_size
            if kept > MOST_BYTES:
                path.unlink()
    except (OutputError, OSError) as error:  # a folder that is not ours, full, or pruned by another process just now
        logger.info("compiled models are not kept: %s", error)
