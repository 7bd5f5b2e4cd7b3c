"""Read the record of a training, `run.json`; what it says is not judged here."""

from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..json_files import at, clipped, read_object

WHOLE = ("schema", "fold", "num_folds", "seed", "steps", "trained_steps", "epoch_steps")
LENGTHS = ("max_epochs", "steps_per_epoch", "val_interval", "val_cases", "patience")
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*WHOLE, *LENGTHS), (int,)),
    **dict.fromkeys(("time", "seconds"), (int, float)),
    **dict.fromkeys(("values", "software", "measured"), (dict,)),
    **dict.fromkeys(("task", "cases_sha256"), (str,)),
    "finished": (bool,),
}
NULL = ("cases_sha256", "epoch_steps", "measured")  # may be null
SHOWN = 80  # most characters of a value in a message


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a training.

    Args:
        path: of `run.json`.

    Raises:
        BundleError: missing, or not what a training wrote.
    """
    record = read_object(path)
    for key in KINDS.keys() & record.keys():
        value = record[key]
        sound = isinstance(value, KINDS[key]) and (isinstance(value, bool) == (KINDS[key] == (bool,)))
        if not sound and not (value is None and key in NULL):
            found = f"{key} {clipped(repr(value), SHOWN)}"
            raise BundleError(f"{at(path)} must be what train wrote, got {found}; train this fold again")
    return record
