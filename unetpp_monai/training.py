"""What keeps a training honest: labels that fit their images, enough cases, and progress of no other run."""

import zipfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.config import KeysCollection
from monai.data import CacheDataset, MetaTensor

from .errors import GeometryError, InputError, UnetppError, cause_of
from .faults import STOP
from .volume import Volume

SHOWN = 10  # cases that an error names
GRID_TOLERANCE = 0.1  # voxels by which corners of an image and its label may be apart, as rounded headers put them


class CheckLabelsd(transforms.MapTransform):
    """Refuse a label map that does not belong to its image, or holds other values than the task's; changes nothing.

    Args:
        keys: of the label map `(1, *spatial)`.
        image_key: of the image `(C, *spatial)`.
        in_channels: of an image.
        out_channels: how many labels, background included.
        label_values: what stands for the labels 0, 1, 2, ... in the file; empty: themselves.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str,
        *,
        in_channels: int,
        out_channels: int,
        label_values: Sequence[int] = (),
    ) -> None:
        super().__init__(keys)
        self.image_key, self.in_channels = image_key, in_channels
        self.values = tuple(label_values or range(out_channels))

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Check every label map.

        Raises:
            InputError: channels, values; GeometryError: another grid. Both name the file.
        """
        image = data[self.image_key]
        name = _name(image)
        if len(image) != self.in_channels:
            raise InputError(
                f"images must have {self.in_channels} channel(s) (in_channels), got {len(image)} in {name}"
            )
        for key in self.key_iterator(data):
            self._check(image, data[key], f"{_name(data[key])}, the label of {name}")
        return data

    def _check(self, image: MetaTensor, label: MetaTensor, name: str) -> None:
        if len(label) != 1:
            raise InputError(f"a label map must have 1 channel, got {len(label)} in {name}")
        if label.shape[1:] != image.shape[1:]:
            raise GeometryError(
                f"a label map must lie on the grid of its image, {tuple(image.shape[1:])} voxels, got "
                f"{tuple(label.shape[1:])} in {name}"
            )
        off = _volume(image).grid_distance(_volume(label))
        if off > GRID_TOLERANCE:
            raise GeometryError(
                f"a label map must lie where its image does, got a corner {off:.3g} voxels away in {name}; one of "
                "them was shifted, mirrored or saved with another header"
            )
        found = torch.unique(label.as_tensor()).tolist()
        if unknown := [value for value in found if value not in self.values]:
            raise InputError(
                f"labels must be of {', '.join(f'{value:g}' for value in self.values[:20])}, got "
                f"{', '.join(f'{value:g}' for value in unknown[:5])} in {name}; correct it, or state label_values"
            )


class CheckedDataset(CacheDataset):
    """MONAI's `CacheDataset`, which names every case that cannot be had, not the first one alone.

    A first error would also leave threads at work, which abort a process that then ends.

    Args:
        arguments: of `CacheDataset`.

    Raises:
        InputError: cases that cannot be read or do not fit, each with its reason.
    """

    def _fill_cache(self, indices: Any = None) -> list[Any]:
        self._faults: list[tuple[int, BaseException]] = []
        cache: list[Any] = super()._fill_cache(indices)
        if self._faults:
            faults = [self._sentence(index, error) for index, error in sorted(self._faults, key=lambda fault: fault[0])]
            more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise InputError(
                f"every case must be readable and fit its task, {len(faults)} of {len(cache)} do not: "
                + "; ".join(faults[:SHOWN] + more)
            )
        return cache

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - told with the others; a Rust panic would end the thread
            self._faults.append((idx, error))
            return None

    def _sentence(self, index: int, error: BaseException) -> str:
        """Of ours what it says, of others their kind too; MONAI wraps both."""
        found = cause_of(error)
        if isinstance(found, UnetppError):
            return str(found)
        image = self.data[index]["image"]
        name = Path(str(image[0] if isinstance(image, list) else image)).name
        return f"{name}: {type(found).__name__}: {' '.join(str(found).split())[:200]}"


class SeedEpochs:
    """Draw what is random in an epoch from (seed, fold, epoch): a run that was interrupted goes on as it would have.

    Args:
        transform: random transforms of the training.
        seed: of the run.
        fold: of the run.
    """

    def __init__(self, transform: transforms.Compose, *, seed: int, fold: int) -> None:
        self.transform, self.seed, self.fold = transform, seed, fold

    def attach(self, engine: Any) -> None:
        """Let a trainer call this before each epoch."""
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Seed the epoch that begins."""
        state = int(np.random.SeedSequence((self.seed, self.fold, engine.state.epoch)).generate_state(1)[0])
        torch.manual_seed(state)
        self.transform.set_random_state(state)


class RunIdentity:
    """What a training's progress belongs to; a checkpoint of another fold, other cases or values is refused.

    Args:
        values: what must be the same for a training to go on, by name, in JSON's types.
    """

    def __init__(self, **values: Any) -> None:
        self.values = {name: _plain(value) for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """The values, for a checkpoint."""
        return dict(self.values)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compare with those of a checkpoint.

        Raises:
            InputError: it is of another run; the message names what differs.
        """
        if differences := [name for name, value in self.values.items() if state_dict.get(name) != value]:
            said = ", ".join(
                f"{name} {_short(state_dict.get(name))} instead of {_short(self.values[name])}" for name in differences
            )
            raise InputError(
                f"progress must be that of the same run, got {said}; choose another output_dir, or do not resume"
            )


def newest_progress(folder: str | Path) -> str:
    """Path of the newest checkpoint of a training that is whole; one that was being written may be cut.

    Args:
        folder: with `progress_checkpoint_*.pt`. If it has none, the path does not exist, which its reader says.
    """
    found = sorted(Path(folder).glob("progress_checkpoint_*.pt"), key=lambda path: -path.stat().st_mtime_ns)
    return str(next(filter(zipfile.is_zipfile, found), Path(folder) / "progress_checkpoint"))


def require_cases(training: Sequence[Mapping[str, Any]], validation: int | None) -> None:
    """Refuse too few cases, and labels that are all empty; of a training that is about to begin.

    Args:
        training: cases as the training caches them, after the transforms that are not random.
        validation: how many cases validate; None: none is to.

    Raises:
        InputError: nothing to train on or to validate on, or no structure in any case.
    """
    if not len(training) or validation == 0:
        raise InputError(
            f"training needs at least 2 cases, one of them to validate, got {len(training)} to train on and "
            f"{validation or 0} to validate"
        )
    cached = getattr(training, "_cache", ())
    if len(cached) and not any(case["label"].any() for case in cached):
        raise InputError(f"labels must show a structure in some case, got only background in all {len(cached)}")


def _volume(image: MetaTensor) -> Volume:
    """The grid of an image `(C, X, Y[, Z])` alone."""
    shape = (*image.shape[1:], *[1] * (4 - image.dim()))
    affine = np.eye(4)
    given = image.affine.cpu().numpy()
    affine[: len(given), : len(given)] = given
    return Volume(np.broadcast_to(np.uint8(0), (1, *shape)), affine)


def _name(image: Any) -> str:
    meta = image.meta if isinstance(image, MetaTensor) else {}
    return Path(str(meta.get("filename_or_obj", "an image"))).name


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."
