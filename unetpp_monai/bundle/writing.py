"""From a task to a bundle: the base with the task's values, its metadata, documents and weights."""

import atexit
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..depth import Depth, DepthLike
from ..errors import BundleError
from ..json_files import read_object
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

_made: dict[Path, TemporaryDirectory[str]] = {}  # bundles of tasks that were named, by their folder
BOTH = "unetpp_monai.inference.LocatedNetwork"
DOCUMENTS = {"README.md": ("name", "task", "data_source", "intended_use"), "data_license.txt": ("data_source",)}


def bundle_folder(name: str | Path, *, weights: Path | None = None) -> Path:
    """Find the folder of a bundle, or make one of a task that lasts as long as the process.

    Args:
        name: a bundle's folder, a task's folder, or the name of an included task.
        weights: instead of a task's own.

    Raises:
        BundleError: there is none, or the task has no weights.
    """
    folder = Path(name)
    is_name = len(folder.parts) == 1 and str(name) not in (".", "..")
    if (folder / METADATA).is_file() or not (is_name or (folder / VALUES).is_file()):
        return folder  # its reader reports what is missing
    if find_task(name) != folder and folder.exists():
        raise BundleError(
            f"a bundle must be named without doubt, got {name}, a task that came along and something else here; "
            "name the folder by its full path, or go to another folder for the task"
        )
    made = TemporaryDirectory(prefix="unetpp_")
    atexit.register(made.cleanup)
    root = Path(made.name).resolve() / "bundle"
    _made[root] = made
    write_bundle(check_task(name), root, weights=weights)
    return root


def release(root: Path) -> None:
    """Remove a temporary bundle that `bundle_folder` made.

    Other bundles stay. A segmenter that was built of it no longer needs it.

    Args:
        root: folder of the bundle.
    """
    if root in _made:
        _made.pop(root).cleanup()


def write_bundle(task: Task, root: Path, *, weights: Path | None = None, depth: DepthLike = None) -> None:
    """Write a bundle without a copy of the package.

    The same task gives the same bytes.

    Args:
        task: of `check_task`, trained. Paths that it states stay out.
        root: folder to make.
        weights: to take instead of the task's.
        depth: that is used unless another is asked for; None: the base's.

    Raises:
        BundleError: the task has no weights.
    """
    weights = _trained_weights(task) if weights is None else weights
    (root / CONFIG).parent.mkdir(parents=True)
    values = {key: value for key, value in task.values.items() if key not in LOCAL}
    if depth is not None:
        values["displayable_configs"] = {"depth": Depth.parse(depth).plain}
    for name in CONFIGS[:1] if has_locator(values) else CONFIGS:  # two networks are not trained as one
        config = merge_values(base_config(name), values)
        if has_locator(values):  # what is loaded with the file of weights is both
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
    """Weights of a task: its own, or else those of its finished run on all cases, or of its only finished one.

    Raises:
        BundleError: there are none, or those of several folds.
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
            f"a bundle holds the weights of one training, got {', '.join(found)} in {task.folder / RUNS}; train on all "
            f"cases (fold {ALL}), or copy the {TRAINED} of one into {task.folder}"
        )
    if not found:
        raise BundleError(f"a task must have trained weights to be packed, found no {task.weights}; train it first")
    return found.get(ALL) or next(iter(found.values()))


def merge_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the values of those top-level keys of a config that a task states too."""
    return {key: values.get(key, value) for key, value in base.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a config."""
    path.write_text(json.dumps(content, indent=4) + "\n")
