"""MONAI Label's folder of images and labels, made safe for threads, processes and links."""

import filecmp
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from ..errors import InputError
from ..files import complete_file, temporary_folder
from ..io.channels import is_other_channel

WATCH_SECONDS = 2.0  # between two scans of the folders
READERS = (
    *("datalist", "get_image_info", "get_image_uri", "get_label_info", "get_label_uri"),
    *("get_labeled_images", "get_unlabeled_images", "json", "list_images", "status"),
)

logger = logging.getLogger(__name__)


class TakenError(InputError):
    """An image with that name but other content exists."""


class Store(LocalDatastore):
    """A folder of image files with `labels/<tag>/` and one JSON file with their info.

    MONAI Label changes its data while other threads read it, overwrites data of other processes, and follows links.
    Here each access has a lock, and links are replaced or removed, not their targets.

    Args:
        folder: of the images; created if missing.
        extensions: file name patterns, such as "*.nii.gz".
        channels: of each bundle, file name endings of the channels of one case, see `channel_files`; such a case is
            listed once, by its first channel.
    """

    def __init__(
        self,
        folder: Path,
        extensions: Sequence[str] = ("*.nii.gz", "*.nii"),
        *,
        channels: Sequence[Sequence[str]] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._channels = [endings for endings in channels if len(endings) > 1]
        self._thread = threading.RLock()
        self._process = FileLock(folder / ".lock")
        self._known: tuple[int, ...] = ()  # state of the JSON file when last read
        super().__init__(str(folder), extensions=tuple(extensions), auto_reload=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock out other threads and processes, and read what they wrote."""
        with self._thread, self._process:
            self._init_from_datastore_file()
            yield

    def has_image(self, image_id: str) -> bool:
        """Tell whether an image exists, including one just copied there."""
        if image_id not in self.list_images():
            self.refresh()
        return image_id in self.list_images()

    def has_label(self, image_id: str, tag: str) -> bool:
        """Tell whether an image has a label of a tag, including one just copied there."""
        if not self.get_label_uri(image_id, tag):
            self.refresh()
        return bool(self.get_label_uri(image_id, tag))

    def tags(self) -> set[str]:
        """Return the tags of all labels."""
        with self._thread:
            return set(self._datastore.tags())

    def add_image(
        self, image_id: str, image_filename: str, image_info: dict[str, Any], *, replace: bool = False
    ) -> str:
        """Copy an image into the folder.

        Args:
            image_id: its name, without ending.
            image_filename: file to copy; its suffix is kept.
            image_info: to store.
            replace: whether it may replace another.

        Raises:
            TakenError: another image has that name.
        """
        source, folder = Path(image_filename), Path(self._datastore.image_path())
        ending = self._to_id(source.name)[1]
        path = folder / f"{image_id}{ending}"
        with temporary_folder(folder) as temporary:
            copy = Path(shutil.copy(source, temporary / path.name))
            with self.alone():
                self._reconcile_datastore()
                if not replace and (image_id in self._datastore.objects or path.exists() or path.is_symlink()):
                    if path.is_file() and filecmp.cmp(copy, path, shallow=False):
                        return image_id
                    raise TakenError(f"an image's name must be unique, got {image_id!r}, which exists")
                copy.replace(path)
                info = {**(image_info or {}), "ts": int(time.time()), "name": path.name}
                self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ending))
                self._update_datastore_file()
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Copy a label map into the folder of its tag, replacing an older one.

        Raises:
            ImageNotFoundException: no such image.
        """
        source, folder = Path(label_filename), Path(self._datastore.label_path(label_tag))
        ending = self._to_id(source.name)[1]
        folder.mkdir(exist_ok=True)
        with temporary_folder(folder) as temporary:
            copy = Path(shutil.copy(source, temporary / f"{image_id}{ending}"))
            with self.alone():
                image = self._datastore.objects.get(image_id)
                if image is None:
                    raise ImageNotFoundException(f"image must be one of the datastore's, got {image_id!r}")
                copy.replace(folder / copy.name)
                info = {**(label_info or {}), "ts": int(time.time()), "name": copy.name}
                image.labels[label_tag] = DataModel(info=info, ext=ending)
                self._update_datastore_file()
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image (or link) and its labels.

        Raises:
            ImageNotFoundException: no such image.
        """
        with self.alone():
            image = self._datastore.objects.get(image_id)
            if image is None:
                raise ImageNotFoundException(f"image must be one of the datastore's, got {image_id!r}")
            for tag in list(image.labels):
                self.remove_label(image_id, tag)
            Path(self._datastore.image_path(), f"{image_id}{image.image.ext}").unlink(missing_ok=True)
            self._reconcile_datastore()

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label (or link).

        Raises:
            LabelNotFoundException: no such label.
        """
        with self.alone():
            label = self._datastore.label(label_id, label_tag)
            if label is None:
                raise LabelNotFoundException(f"label must be one of the datastore's, got {label_id!r}, {label_tag!r}")
            Path(self._datastore.label_path(label_tag), f"{label_id}{label.ext}").unlink(missing_ok=True)
            self._reconcile_datastore()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Update the info of an image."""
        with self.alone():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Update the info of a label."""
        with self.alone():
            super().update_label_info(label_id, label_tag, info)

    def watch(self) -> None:
        """Start a thread that watches for files added or removed by others."""
        threading.Thread(target=self._watch, name="studies", daemon=True).start()

    def _watch(self) -> None:
        seen: object = None
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                if (found := self._names()) != seen:
                    self.refresh()
                    seen = found
            except Exception:  # the boundary of an endless loop: a folder may be missing for a while
                logger.warning("the studies could not be scanned; trying again", exc_info=True)

    def _names(self) -> set[Path]:
        """Return all files in the folders of images and labels."""
        labels = Path(self._datastore.label_path(None))
        folders = [Path(self._datastore.image_path()), *(entry for entry in labels.iterdir() if entry.is_dir())]
        return {entry for folder in folders for entry in folder.iterdir()}

    def _reconcile_datastore(self) -> None:
        """Record files that were added or removed."""
        with self.alone():
            super()._reconcile_datastore()

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """List file names, without further channels."""
        found = super()._list_files(path, patterns)
        return {name: file for name, file in found.items() if not self._is_other_channel(Path(path) / file)}

    def _is_other_channel(self, file: Path) -> bool:
        return any(is_other_channel(file, endings) for endings in self._channels)

    def _to_id(self, file: str) -> tuple[str, str]:
        """Split a file name into id and suffix."""
        endings = sorted((pattern.removeprefix("*") for pattern in self._extensions), key=len, reverse=True)
        ending = next((ending for ending in endings if file.lower().endswith(ending)), Path(file).suffix)
        return file.removesuffix(file[len(file) - len(ending) :]), file[len(file) - len(ending) :]

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the JSON file, if it changed since it was last read or written."""
        path = Path(self._datastore_config_path)
        with self._thread:
            try:
                if (state := _state(path)) == self._known:
                    return
                model = LocalDatastoreModel.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                return
            except ValueError as error:
                raise InputError(f"{path} must hold MONAI Label's list of images, got another file; move it") from error
            model.base_path = self._datastore_path
            self._datastore, self._known = model, state

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the JSON file atomically."""
        path = Path(self._datastore_config_path)
        with complete_file(path) as temporary:
            temporary.write_text(json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str))
        self._known = _state(path)


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _alone(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method hold the lock and read the current file."""

    @wraps(method)
    def reads(self: Store, *arguments: Any, **options: Any) -> Any:
        with self._thread:
            self._init_from_datastore_file()
            return method(self, *arguments, **options)

    return reads


for _name in READERS:
    setattr(Store, _name, _alone(getattr(LocalDatastore, _name)))
