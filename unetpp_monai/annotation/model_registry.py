"""Bundles as the server serves them: loaded once, and again as soon as one of their files changes. Knows no server."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..bundle import CONFIG, METADATA, WEIGHTS, Bundle, default_bundle, folder_name, read_bundle
from ..errors import BundleError, InputError
from ..files import sha256
from ..segmenter import Segmenter
from .version_store import Origin, VersionStore, copy_bundle

BUNDLES = "bundles"  # folder of the copies that are served, in the server's own folder


class Served:
    """A bundle that is kept loaded.

    Args:
        root: folder of the copy that is served; training replaces its weights.
        device: as `Segmenter` takes it, where a request names none.
        runtime: as `Segmenter` takes it.
        trust: its configs may run anything, see `read_bundle`.
    """

    def __init__(self, root: Path, *, device: str = "auto", runtime: str = "auto", trust: bool = False) -> None:
        self.root, self.device, self.runtime, self.trust = root, device, runtime, trust
        self.lock = threading.Lock()  # hold it while segmenting
        self._loading = threading.Lock()  # another one: what is served can be told while an image is segmented
        self._state: tuple[tuple[int, ...], ...] = ()
        self._segmenters: dict[str, Segmenter] = {}

    @property
    def name(self) -> str:
        """What clients call it: the folder's name."""
        return self.root.name

    @property
    def bundle(self) -> Bundle:
        """The bundle as it is on disk now."""
        return self.segmenter().bundle

    def segmenter(self, device: str | None = None) -> Segmenter:
        """Give the segmenter of the files that are on disk now.

        Args:
            device: as `Segmenter` takes it; None: the server's.

        Raises:
            BundleError: they do not fit each other.
            InputError: no such device.
        """
        device = device or self.device
        with self._loading:
            state = _state(self.root)
            if state != self._state:
                self._segmenters.clear()  # also if the new files turn out to be wrong: the old ones are not served
                self._state = state
            if device not in self._segmenters:
                bundle = read_bundle(self.root, trust=self.trust)
                self._segmenters[device] = Segmenter(bundle, device=device, runtime=self.runtime)
            return self._segmenters[device]


def device_choices(device: str) -> list[str]:
    """Devices that clients may ask for, the server's own first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return list(dict.fromkeys([device, *gpus, "cpu"]))


def first_of(value: Any) -> Any:
    """Value of an option, None if it is empty; some clients send the whole list of choices back."""
    return value[0] if isinstance(value, list) and value else value or None


def _state(root: Path) -> tuple[tuple[int, ...], ...]:
    """What changes when a file is written or replaced, even by one of the same size and date."""
    try:
        stats = [(root / part).stat() for part in (CONFIG, METADATA, WEIGHTS)]
    except OSError as error:
        raise BundleError(f"{root} must hold a bundle, got {error}; start the server again") from error
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)


def copies(bundles: Sequence[Path], folder: Path, *, trust: bool = False) -> list[Path]:
    """Copy bundles to where their weights may change; what was trained there before is kept.

    Args:
        bundles: bundle folders, or names of tasks that are included; none: the one that came with this package.
        folder: the server's own.
        trust: their configs may run anything, see `read_bundle`.

    Returns:
        The copies, named after their bundles.

    Raises:
        BundleError: no bundle, or a copy of another one is there.
        InputError: two bundles of one name.
    """
    found: dict[str, Path] = {}
    for source in bundles or [default_bundle()]:
        bundle = read_bundle(source, trust=trust)
        bundle.check_trust()  # before anything is copied
        name = folder_name(bundle.name)
        if name in found:
            raise InputError(f"bundles must differ in name, got {found[name]} and {source}, both {bundle.name}")
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
    """Serve the weights of the given bundle if they were never seen here; else what was trained from them stays."""
    store = VersionStore(copy)
    known = {store.served().weights_sha256, *(version.weights_sha256 for version in store.versions())}
    if sha256(bundle.weights) not in known:
        store.publish(bundle.weights, Origin("found"))
