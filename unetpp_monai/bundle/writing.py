"""Write a bundle for a task: the base with the task's values, metadata, documents and weights."""

import atexit
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..depth import Depth, DepthLike
from ..errors import BundleError
from ..files import is_zip
from ..json_files import at, read_object
from ..label_rules import has_locator
from ..task import (
    ALL,
    BASE,
    CONFIGS,
    LOCAL,
    RECORD,
    RUNS,
    TRAINED,
    VALUES,
    Task,
    base_config,
    check_task,
    find_task,
)
from .configs import CONFIG, METADATA, WEIGHTS

_made: dict[Path, TemporaryDirectory[str]] = {}  # temporary bundles by task folder
BOTH = "unetpp_monai.inference.LocatedNetwork"
DOCUMENTS = {"README.md": ("name", "task", "data_source", "intended_use"), "data_license.txt": ("data_source",)}


def bundle_folder(name: str | Path, *, weights: Path | None = None) -> Path:
    """Find the folder of a bundle, or make a temporary one for a task.

    Args:
        name: a bundle's folder, a task's folder, or the name of an included task.
        weights: to use instead of the task's.

    Raises:
        BundleError: no such bundle, or the task has no weights.
    """
    folder = Path(name)
    if is_zip(folder):
        raise BundleError(f"a bundle must be a folder, got the zip {at(folder)}; unzip it first, and name the folder")
    is_name = len(folder.parts) == 1 and str(name) not in (".", "..")
    if (folder / METADATA).is_file() or not (is_name or (folder / VALUES).is_file()):
        return folder  # its reader reports what is missing
    if find_task(name) != folder and folder.exists():
        raise BundleError(
            f"a bundle's name must be unambiguous, got {name}, an included task and a file or folder here; give the "
            "full path of the folder, or run from another folder to use the task"
        )
    made = TemporaryDirectory(prefix="unetpp_")
    atexit.register(made.cleanup)
    root = Path(made.name).resolve() / "bundle"
    _made[root] = made
    write_bundle(check_task(name), root, weights=weights)
    return root


def release(root: Path) -> None:
    """Remove a temporary bundle that `bundle_folder` made.

    Other bundles are kept. A segmenter built from it does not need it any more.

    Args:
        root: folder of the bundle.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> bundle = read_bundle("hippocampus")
        >>> release(bundle.root)
        >>> bundle.root.exists()
        False
    """
    if root in _made:
        _made.pop(root).cleanup()


def write_bundle(task: Task, root: Path, *, weights: Path | None = None, depth: DepthLike = None) -> None:
    """Write a bundle without a copy of the package.

    Deterministic: the same task gives the same bytes.

    Args:
        task: from `check_task`, trained; its paths are not written.
        root: folder to make.
        weights: to use instead of the task's.
        depth: default depth; None: the base's.

    Raises:
        BundleError: the task has no weights.

    Example:
        >>> from unetpp_monai.bundle import read_bundle
        >>> with TemporaryDirectory() as folder:
        ...     write_bundle(check_task("hippocampus"), Path(folder, "bundle"))
        ...     [label.index for label in read_bundle(Path(folder, "bundle")).labels]
        [1, 2]
    """
    weights = _trained_weights(task) if weights is None else weights
    (root / CONFIG).parent.mkdir(parents=True)
    values = {key: value for key, value in task.values.items() if key not in LOCAL}
    if depth is not None:
        values["displayable_configs"] = {"depth": Depth.parse(depth).value}
    for name in CONFIGS[:1] if has_locator(values) else CONFIGS:  # two networks cannot be trained as one
        config = merge_values(base_config(name), values)
        if has_locator(values):  # the weights file is loaded into both
            config["network_def"] = {"_target_": BOTH, "segment": config["network_def"], "locator": "@locator"}
        write_json(root / f"configs/{name}.json", config)
    shutil.copyfile(BASE / "logging.conf", root / "configs/logging.conf")
    metadata = {**base_config("metadata"), **task.metadata}
    write_json(root / METADATA, metadata)
    licence = task.folder / "LICENSE"
    shutil.copyfile(licence if licence.is_file() else BASE / "LICENSE", root / "LICENSE")
    if (task.folder / "docs").is_dir():
        shutil.copytree(task.folder / "docs", root / "docs")
    for name, keys in DOCUMENTS.items():
        path = root / "docs" / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            path.write_text("".join(f"{metadata[key]}\n\n" for key in keys if key in metadata))
    (root / WEIGHTS).parent.mkdir()
    shutil.copyfile(weights, root / WEIGHTS)


def _trained_weights(task: Task) -> Path:
    """Find a task's weights: its own, else of its finished run on all cases, else of its only finished run.

    Raises:
        BundleError: no weights, or several folds.
    """
    if task.weights.is_file():
        return task.weights
    records = (
        path for path in sorted(task.folder.glob(f"{RUNS}/*/{RECORD}")) if read_object(path).get("finished", True)
    )
    finished = {path.parent.name: path.parent / TRAINED for path in records}
    found = {name: path for name, path in finished.items() if path.is_file()}
    if len(found) > 1 and ALL not in found:
        raise BundleError(
            f"a bundle must have weights of one training, got {', '.join(found)} in {task.folder / RUNS}; train on all "
            f"cases (fold {ALL}), or copy the {TRAINED} of one into {task.folder}"
        )
    if not found:
        raise BundleError(
            f"a task must have trained weights, found no {task.weights}; train it first (unetpp train {task.name}), or "
            "name a weights file"
        )
    return found.get(ALL) or next(iter(found.values()))


def merge_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the values of top-level keys that a task states."""
    return {key: values.get(key, value) for key, value in base.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a config."""
    path.write_text(json.dumps(content, indent=4) + "\n")
