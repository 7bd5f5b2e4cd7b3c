"""The cases of a training: prepared once, all faults named at once, and the name of each in what goes wrong later."""

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

SHOWN = 10  # cases that an error names
NAME = "case"  # key of a case's name in an item and a batch

logger = logging.getLogger(__name__)


class EndOfPreparation:
    """Where in a chain of transforms the prepared cases end that are kept; does nothing, and is no MONAI transform.

    Without it MONAI also keeps what comes before the first random transform, such as padding to the patch, and a case
    that one fold validates on would be prepared in another way than where it trains.
    """

    def __call__(self, data: Any) -> Any:
        """Give back what comes."""
        return data


class CheckedDataset(CacheDataset):
    """MONAI's `CacheDataset`, which names every case that cannot be had, not the first one alone.

    A first error would also leave threads at work, which abort a process that then ends.

    Args:
        data: cases, "image" and "label" paths.
        transform: what prepares them, then what is random.
        save_dir: folder for the prepared cases, of this preparation alone; one that is damaged is prepared anew.
            Empty: they stay in memory.
        num_workers: threads that prepare.
        progress: show MONAI's bar.

    Raises:
        InputError: cases that cannot be read or do not fit, each with its reason.
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
        # a stored case is read anew each time, so that nothing needs a copy
        super().__init__(data, transform, num_workers=num_workers, progress=progress, copy_cache=self.folder is None)

    def __getitem__(self, index: Any) -> Any:
        """Give a case by its index, or by a `Draw`, whose seed then decides all that is random.

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
        """Prepare a case; where there is a folder, in a file, whose path is returned."""
        try:
            if self.folder is None:
                return super()._load_cache_item(idx)
            path = place_of(self.folder, self.data[idx])
            if not is_whole(path):
                write_case(path, super()._load_cache_item(idx))
            return path
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - told with the others; a Rust panic would end the thread
            self._faults.append((idx, error))
            return None

    def _name(self, index: int) -> str:
        image = self.data[index]["image"]
        return Path(str(image[0] if isinstance(image, list) else image)).name

    def _sentence(self, index: int, error: BaseException) -> str:
        """Of ours what it says, of others their kind too; MONAI wraps both."""
        found = cause_of(error)
        if isinstance(found, UnetppError):
            return str(found)
        return f"{self._name(index)}: {type(found).__name__}: {' '.join(str(found).split())[:200]}"


def names_of(batch: Any) -> list[str]:
    """Names of the cases of a batch, before or after MONAI took it apart; none where there is none."""
    items = batch if isinstance(batch, list) else [batch]
    found = [item[NAME] for item in items if isinstance(item, Mapping) and NAME in item]
    return [str(name) for names in found for name in (names if isinstance(names, list) else [names])]


def some_of(cases: Sequence[Any], count: int) -> list[Any]:
    """Take some cases from all over a list; 0: all of them.

    Example:
        >>> some_of("abcdefg", 3)
        ['a', 'c', 'e']
    """
    if not 0 < count < len(cases):
        return list(cases)
    return [cases[number * len(cases) // count] for number in range(count)]


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
