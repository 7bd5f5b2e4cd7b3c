"""Tasks that came with the package, by name, as bundles to run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..bundle import Bundle, read_bundle
from ..task import check_task
from .pack import write_bundle


@contextmanager
def task_bundle(task: str | Path, *, weights: str | Path | None = None) -> Iterator[Bundle]:
    """Give the bundle of a task for as long as a segmenter is built of it.

    Args:
        task: name of one that came with the package, or a folder with `task.json`, `metadata.json` and `model.pt`.
        weights: instead of the task's own.

    Raises:
        BundleError: there is no such task, or it has no weights.

    Example:
        >>> from unetpp_monai import Segmenter
        >>> with task_bundle("nuclei_2d") as bundle:
        ...     segmenter = Segmenter(bundle)
    """
    checked = check_task(task)
    with TemporaryDirectory(prefix="unetpp_") as folder:
        root = Path(folder) / "bundle"
        write_bundle(checked, root, weights=None if weights is None else Path(weights))
        yield read_bundle(root, weights=weights)
