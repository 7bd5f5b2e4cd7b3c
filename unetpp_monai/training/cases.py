"""Cache the prepared cases of a training; report all faulty cases at once, and name the case in later errors."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Compose

from ..errors import InputError, UnetppError, cause_of
from ..faults import STOP
from .sampling import Draw
from .stored import StoredCases, is_whole, place_of, write_case

SHOWN = 10  # most cases in an error
NAME = "case"  # key of a case's name in an item and a batch

logger = logging.getLogger(__name__)


class EndOfPreparation:
    """Marks the end of the cached transforms in a chain; does nothing, and is no MONAI transform.

    Without it MONAI caches everything before the first random transform, including padding to the patch, so a case
    would be prepared differently for training and validation.
    """

    def __call__(self, data: Any) -> Any:
        """Return the data unchanged."""
        return data


class CheckedDataset(CacheDataset):
    """MONAI's `CacheDataset`, with errors that name all faulty cases.

    Stopping at the first error would leave threads running, which abort a process when it exits.

    Args:
        data: cases with "image" and "label" paths.
        transform: preparation, then random transforms.
        save_dir: folder for the cases of this preparation only; damaged files are written again. Empty: keep in memory.
        num_workers: threads for the preparation.
        progress: show MONAI's bar.

    Raises:
        InputError: unreadable or unsuitable cases, each with its reason.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Compose,
        *,
        save_dir: str | Path = "",
        num_workers: int = 1,
        progress: bool = False,
    ) -> None:
        self.folder = Path(save_dir) if save_dir else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        # stored cases are read again each time and need no copy
        super().__init__(data, transform, num_workers=num_workers, progress=progress, copy_cache=self.folder is None)

    def __getitem__(self, index: Any) -> Any:
        """Return a case by index, or by a `Draw`, whose seed determines all random transforms.

        Raises:
            InputError: a transform fails; the message names the case.
        """
        if isinstance(index, slice) or not isinstance(index, int | Draw):
            return super().__getitem__(index)
        place = index.case if isinstance(index, Draw) else index
        if isinstance(index, Draw):
            self.transform.set_random_state(index.seed)
        try:
            item = super().__getitem__(place)
        except (RuntimeError, ValueError, TypeError, IndexError, OSError) as error:
            raise InputError(
                f"every case must pass the transforms of the training, got an error in {self._sentence(place, error)}"
            ) from error
        return {**item, NAME: self._name(place)} if isinstance(item, dict) else item

    def _fill_cache(self, indices: Any = None) -> Any:
        self._faults: list[tuple[int, BaseException]] = []
        start = time.perf_counter()
        cache: list[Any] = super()._fill_cache(indices)
        if self._faults:
            faults = [self._sentence(index, error) for index, error in sorted(self._faults, key=lambda fault: fault[0])]
            more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise InputError(
                f"every case must be readable and fit its task, {len(faults)} of {len(cache)} do not: "
                + "; ".join(faults[:SHOWN] + more)
            )
        if cache:
            logger.info("%d cases ready after %.0f s", len(cache), time.perf_counter() - start)
        return cache if self.folder is None else StoredCases(cache)

    def _load_cache_item(self, idx: int) -> Any:
        """Prepare a case; with a folder, write it to a file and return the path."""
        try:
            if self.folder is None:
                return super()._load_cache_item(idx)
            path = place_of(self.folder, self.data[idx])
            if not is_whole(path):
                write_case(path, super()._load_cache_item(idx))
            return path
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - reported with the others; a Rust panic would end the thread
            self._faults.append((idx, error))
            return None

    def _name(self, index: int) -> str:
        image = self.data[index]["image"]
        return Path(str(image[0] if isinstance(image, list) else image)).name

    def _sentence(self, index: int, error: BaseException) -> str:
        """Return the message of our errors, with the type for others; MONAI wraps both."""
        found = cause_of(error)
        if isinstance(found, UnetppError):
            return str(found)
        return f"{self._name(index)}: {type(found).__name__}: {' '.join(str(found).split())[:200]}"


def names_of(batch: Any) -> list[str]:
    """Return the case names of a batch, before or after MONAI split it; empty without names."""
    items = batch if isinstance(batch, list) else [batch]
    found = [item[NAME] for item in items if isinstance(item, Mapping) and NAME in item]
    return [str(name) for names in found for name in (names if isinstance(names, list) else [names])]


def some_of(cases: Sequence[Any], count: int) -> list[Any]:
    """Take `count` cases spread evenly over a list; 0: all.

    Example:
        >>> some_of("abcdefg", 3)
        ['a', 'c', 'e']
    """
    if not 0 < count < len(cases):
        return list(cases)
    return [cases[number * len(cases) // count] for number in range(count)]


def require_cases(training: Sequence[Mapping[str, Any]], validation: int | None) -> None:
    """Check that a training has enough cases, and labels that are not all empty.

    Args:
        training: cached cases.
        validation: number of validation cases; None: no validation.

    Raises:
        InputError: no training or validation cases, or no structure in any case.
    """
    if not len(training) or validation == 0:
        raise InputError(
            f"training needs at least 2 cases, one of them to validate, got {len(training)} to train on and "
            f"{validation or 0} to validate"
        )
    cached = getattr(training, "_cache", ())
    if len(cached) and not any(case["label"].any() for case in cached):
        raise InputError(f"labels must show a structure in some case, got only background in all {len(cached)}")
