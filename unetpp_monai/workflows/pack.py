"""A task and the base into one bundle: a folder, and a zip that runs where only MONAI is installed."""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import CONFIG, METADATA, WEIGHTS, Bundle, check_weights, folder_name, read_bundle
from ..depth import Depth, DepthLike
from ..errors import BundleError, OutputError
from ..files import sha256, temporary_folder
from ..json_files import read_object
from ..label_rules import has_locator
from ..moved_names import rename_moved
from ..task import (
    ALL,
    BASE,
    CONFIGS,
    DEFAULT_TASK,
    LOCAL,
    RECORD,
    RUNS,
    TRAINED,
    Task,
    base_config,
    check_task,
)
from ..trust import SUMS

BUNDLE_PARTS = ("LICENSE", "configs", "docs", "models/model.pt")
PACKAGE_PARTS = ("*.py", "py.typed", "base/*")  # of this package, for the copy in a packed bundle
DOCUMENTS = {"README.md": ("name", "task", "data_source", "intended_use"), "data_license.txt": ("data_source",)}


@dataclass(frozen=True)
class Packed:
    """Where a packed bundle lies."""

    folder: Path  # dist/<name>
    archive: Path  # dist/<name>.zip, which unpacks to <name>/


def pack(
    output_dir: str | Path,
    *,
    task: str | Path | Task | None = None,
    bundle: str | Path | None = None,
    trust: bool = False,
    depth: DepthLike = None,
    check: Callable[[Bundle, Path], object] | None = None,
) -> Packed:
    """Write a self-contained bundle.

    Args:
        output_dir: folder to put `<name>/` and `<name>.zip` into; the name is made from the metadata's.
        task: folder with `task.json`, `metadata.json`, `model.pt` and, if there are any, `docs/`; or the name of a task
            that came with the package. None = the hippocampus, unless a bundle is named.
        bundle: a bundle to pack again with this version of the package, instead of a task.
        trust: the bundle's configs may run anything; see `read_bundle`.
        depth: that a packed task uses unless another is asked for; None: the base's.
        check: called with what was packed and its zip before they are delivered; what it raises keeps them back.

    Raises:
        BundleError: the task does not fit the base, see `check_task`, or the weights do not fit; or both are named.
        OutputError: the folder or archive exists already or cannot be written.
    """
    if task is not None and bundle is not None:
        raise BundleError(f"a task or a bundle must be packed, got both, {task} and {bundle}; name one")
    checked = None if bundle is not None else check_task(DEFAULT_TASK if task is None else task)
    source = None
    if bundle is not None:
        found = read_bundle(bundle, trust=trust)
        found.check_trust()  # before anything is written
        source = found.root
    output = Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with temporary_folder(output) as temporary:
            root = temporary / "bundle"
            if source is not None:
                _copy(source, root)
            elif checked is not None:
                write_bundle(checked, root, depth=depth)
            packed = read_bundle(root, trust=trust)
            check_weights(packed)
            targets = free_targets(output, packed.name)
            _copy_package(root)
            _write_sums(root)
            archive = _zip(root, targets.folder.name, temporary)
            if check is not None:
                check(packed, archive)
            root.rename(targets.folder)
            archive.rename(targets.archive)
    except OSError as error:
        raise OutputError(f"{output} must be a writable folder, got {error.strerror or error}") from error
    return targets


def targets_of(output: Path, name: str) -> Packed:
    """Where a bundle of this name goes."""
    folder = folder_name(name)
    return Packed(output / folder, output / f"{folder}.zip")


def free_targets(output: Path, name: str) -> Packed:
    """As `targets_of`, unless something is there already.

    Raises:
        OutputError: there is.
    """
    targets = targets_of(output, name)
    for target in (targets.folder, targets.archive):
        if target.exists():
            raise OutputError(f"{target} must not exist yet; remove it or pack into another folder")
    return targets


def write_bundle(task: Task, root: Path, *, weights: Path | None = None, depth: DepthLike = None) -> None:
    """Write a bundle without a copy of the package; the same task gives the same bytes.

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
        _write(root / f"configs/{name}.json", merge_values(base_config(name), values))
    shutil.copyfile(BASE / "logging.conf", root / "configs/logging.conf")
    metadata = {**base_config("metadata"), **task.metadata}
    _write(root / METADATA, metadata)
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


def _copy(source: Path, root: Path) -> None:
    """Copy a bundle as it is, except for names in its configs that have moved since it was packed."""
    for part in BUNDLE_PARTS:
        target = root / part
        if not (source / part).exists():
            raise BundleError(f"a bundle must hold {part} to be packed, found none in {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target)
        else:
            shutil.copyfile(source / part, target)
    for path in (root / "configs").glob("*.json"):
        config = read_object(path)
        if (renamed := rename_moved(config)) != config:
            _write(path, renamed)


def _copy_package(root: Path) -> None:
    package = Path(__file__).resolve().parents[1]
    for file in (path for part in PACKAGE_PARTS for path in package.rglob(part) if path.is_file()):
        target = root / package.name / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _write_sums(root: Path) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    (root / SUMS).write_text("".join(lines))


def _zip(root: Path, name: str, folder: Path) -> Path:
    """Archive whose bytes depend on the files only, not on when or by whom it was made."""
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{name}/{file.relative_to(root).as_posix()}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return path


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n")
