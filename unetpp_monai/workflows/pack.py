"""A task and the base into one bundle: a folder, and a zip that runs where only MONAI is installed."""

import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle, check_weights, folder_name, read_bundle, write_bundle
from ..bundle.configs import CONFIG
from ..bundle.writing import write_json
from ..depth import DepthLike
from ..errors import BundleError, OutputError
from ..files import in_the_way, remove_remains, sha256, temporary_folder
from ..json_files import read_object
from ..label_rules import has_locator
from ..moved_names import rename_moved
from ..task import BASE, DEFAULT_TASK, Task, check_task
from ..trust import SUMS
from ..trust.stored_weights import check_readable

BUNDLE_PARTS = ("LICENSE", "configs", "docs", "models/model.pt")
UNFINISHED = "bundle"  # folder of a bundle until it is whole
ZOO = "zoo"  # folder of what a pull request to MONAI's model zoo puts beside the bundle
PACKAGE_PARTS = ("*.py", "py.typed", "base/*", "cohort/*.html")  # of this package, for the copy in a packed bundle
HEAD_PARTS = ("sample/mni_head.nii.gz", "sample/LICENSE.txt")  # also, where heads are located: its tests segment one


@dataclass(frozen=True)
class Packed:
    """Folder of a packed bundle."""

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

    Returns:
        Folder and zip.

    Raises:
        BundleError: the task does not fit the base, see `check_task`, or the weights do not fit; or both are named.
        OutputError: the folder or archive exists already or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     pack(folder, task="nuclei_2d").archive.suffix
        '.zip'
    """
    if task is not None and bundle is not None:
        raise BundleError(f"a task or a bundle must be packed, got both, {task} and {bundle}; name one")
    checked = None if bundle is not None else check_task(DEFAULT_TASK if task is None else task)
    if checked is not None and checked.weights.is_file():
        check_readable(checked.weights)
    source = None
    if bundle is not None:
        found = read_bundle(bundle, trust=trust)
        found.check_trust()  # before anything is written
        source = found.root
    output = Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_remains(output, lambda name: name == UNFINISHED or name.endswith(".zip"))
        with temporary_folder(output) as temporary:
            root = temporary / UNFINISHED
            if source is not None:
                _copy(source, root)
            elif checked is not None:
                write_bundle(checked, root, depth=depth)
            packed = read_bundle(root, trust=trust)
            check_weights(packed)
            targets = free_targets(output, packed.name)
            _copy_package(root, (*PACKAGE_PARTS, *(HEAD_PARTS if has_locator(packed.configs[CONFIG]) else ())))
            _write_zoo_test(root, targets.folder.name)
            _write_sums(root)
            archive = _zip(root, targets.folder.name, temporary)
            if check is not None:
                check(packed, archive)
            root.rename(targets.folder)
            archive.rename(targets.archive)
    except OSError as error:
        raise OutputError(f"{output} must be a writable folder, got {in_the_way(error)}") from error
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
            write_json(path, renamed)


def _copy_package(root: Path, parts: Sequence[str]) -> None:
    package = Path(__file__).resolve().parents[1]
    for file in (path for part in parts for path in package.rglob(part) if path.is_file()):
        target = root / package.name / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _write_zoo_test(root: Path, name: str) -> None:
    (root / ZOO).mkdir()
    shutil.copyfile(BASE / "zoo_test.py", root / ZOO / f"test_{name}.py")


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
