"""Served bundles: loaded once, and reloaded when a file changes. Independent of the server."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..bundle import CONFIG, METADATA, WEIGHTS, Bundle, default_bundle, folder_name, read_bundle
from ..errors import BundleError, InputError
from ..files import sha256
from ..segmenter import Segmenter
from .version_store import VersionStore, WeightsOrigin, copy_bundle

BUNDLES = "bundles"  # folder of served copies, in the server's folder


class Served:
    """A loaded bundle.

    Args:
        root: folder of the served copy; training replaces its weights.
        device: as for `Segmenter`, unless a request names one.
        runtime: as for `Segmenter`.
        trust: see `read_bundle`.
    """

    def __init__(self, root: Path, *, device: str = "auto", runtime: str = "auto", trust: bool = False) -> None:
        self.root, self.device, self.runtime, self.trust = root, device, runtime, trust
        self.lock = threading.Lock()  # hold it while segmenting
        self._loading = threading.Lock()  # separate, so that info is available during a segmentation
        self._state: tuple[tuple[int, ...], ...] = ()
        self._segmenters: dict[str, Segmenter] = {}

    @property
    def name(self) -> str:
        """Name for clients: the folder's name."""
        return self.root.name

    @property
    def bundle(self) -> Bundle:
        """Return the current bundle on disk."""
        return self.segmenter().bundle

    def segmenter(self, device: str | None = None) -> Segmenter:
        """Return the segmenter of the current files on disk.

        Args:
            device: as for `Segmenter`; None: the server's.

        Raises:
            BundleError: the files do not fit each other.
            InputError: no such device.
        """
        device = device or self.device
        with self._loading:
            state = _state(self.root)
            if state != self._state:
                self._segmenters.clear()  # even if the new files are invalid: old ones are not served
                self._state = state
            if device not in self._segmenters:
                bundle = read_bundle(self.root, trust=self.trust)
                self._segmenters[device] = Segmenter(bundle, device=device, runtime=self.runtime)
            return self._segmenters[device]


def device_choices(device: str) -> list[str]:
    """List the devices for clients, the server's first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return list(dict.fromkeys([device, *gpus, "cpu"]))


def option_value(value: Any) -> Any:
    """Return the value of an option, None if empty; some clients send back the whole list of choices."""
    return value[0] if isinstance(value, list) and value else value or None


def _state(root: Path) -> tuple[tuple[int, ...], ...]:
    """Return a state that changes whenever a file is written or replaced."""
    try:
        stats = [(root / part).stat() for part in (CONFIG, METADATA, WEIGHTS)]
    except OSError as error:
        raise BundleError(f"{root} must hold a bundle, got {error}; start the server again") from error
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)


def copies(bundles: Sequence[Path], folder: Path, *, trust: bool = False) -> list[Path]:
    """Copy bundles to a folder where weights may change; trained weights there are kept.

    Args:
        bundles: bundle folders or names of included tasks; empty: the included bundle.
        folder: the server's.
        trust: see `read_bundle`.

    Returns:
        The copies, named after their bundles.

    Raises:
        BundleError: not a bundle, or a copy of another one is there.
        InputError: two bundles with one name.
    """
    found: dict[str, Path] = {}
    for source in bundles or [default_bundle()]:
        bundle = read_bundle(source, trust=trust)
        bundle.check_trust()  # before copying
        name = folder_name(bundle.name)
        if name in found:
            raise InputError(f"bundles must have different names, got {found[name]} and {source}, both {bundle.name}")
        source = found[name] = bundle.root
        copy = copy_bundle(source, folder / BUNDLES / name)
        for part in (CONFIG, METADATA):
            if (copy / part).read_bytes() != (source / part).read_bytes():
                raise BundleError(
                    f"{copy} must be a copy of {source}, got another {part}; choose another folder", option="state"
                )
        _take_new_weights(bundle, copy)
    return [folder / BUNDLES / name for name in found]


def _take_new_weights(bundle: Bundle, copy: Path) -> None:
    """Serve the weights of the given bundle if they are new here; else keep weights trained from them."""
    store = VersionStore(copy)
    known = {store.served().weights_sha256, *(version.weights_sha256 for version in store.versions())}
    if sha256(bundle.weights) not in known:
        store.publish(bundle.weights, WeightsOrigin("found"))
