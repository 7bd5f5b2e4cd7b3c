"""A bundle, optionally with a task overlay, into one folder and zip that run where only MONAI is installed."""

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..bundle import CONFIG, METADATA, WEIGHTS, default_bundle, folder_name, load_network, read_bundle
from ..errors import BundleError, OutputError
from ..files import TEMPORARY, sha256

MEASURED = ("eval_metrics", "depths", "review")  # of the metadata: what was measured with the base's own weights
BASE_CONFIGS = ("configs/inference.json", "configs/train.json")  # what an overlay's values are frozen into
BUNDLE_PARTS = ("LICENSE", "configs", "docs", "models/model.pt")
DOCUMENTS = {"README.md": ("name", "task", "data_source", "intended_use"), "data_license.txt": ("data_source",)}
SUMS = "SHA256SUMS"  # in the format of `sha256sum --check`


@dataclass(frozen=True)
class Packed:
    """Where a packed bundle lies."""

    folder: Path  # dist/<name>
    archive: Path  # dist/<name>.zip, which unpacks to <name>/


def pack(output_dir: str | Path, *, task: str | Path | None = None, bundle: str | Path | None = None) -> Packed:
    """Write a self-contained bundle.

    Args:
        output_dir: folder to put `<name>/` and `<name>.zip` into; the name is made from the metadata's.
        task: overlay folder with `task.json`, `metadata.json` and `model.pt`, or the name of one in `configs/`.
        bundle: what to pack; None = the bundle that came with this package.

    Raises:
        BundleError: the overlay has a key that no config has, or the weights do not fit.
        OutputError: the folder or archive exists already or cannot be written.
    """
    source = read_bundle(bundle).root if bundle is not None else default_bundle()
    overlay = None if task is None else _find_overlay(task, source)
    output = Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=TEMPORARY) as temporary:
            root = Path(temporary) / "bundle"
            _copy(source, root)
            if overlay is not None:
                _freeze(overlay, root)
            packed = read_bundle(root)
            load_network(packed, packed.parser(), torch.device("cpu"))
            name = folder_name(packed.name)
            _write_sums(root)
            archive = _zip(root, name, Path(temporary))
            targets = Packed(output / name, output / f"{name}.zip")
            for target in (targets.folder, targets.archive):
                if target.exists():
                    raise OutputError(f"{target} must not exist yet; remove it or pack into another folder")
            root.rename(targets.folder)
            archive.rename(targets.archive)
    except OSError as error:
        raise OutputError(f"{output} must be a writable folder, got {error.strerror or error}") from error
    return targets


def merge_overlay(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Replace the values of those top-level keys of a config that the overlay has too."""
    return {key: overlay.get(key, value) for key, value in base.items()}


def _find_overlay(task: str | Path, bundle: Path) -> Path:
    candidates = [Path(task), Path("configs") / task, bundle.parent / "configs" / task]
    for folder in candidates:
        if (folder / "task.json").is_file():
            return folder
    raise BundleError(f"a task must be a folder with task.json, found none at {', '.join(map(str, candidates))}")


def _copy(source: Path, root: Path) -> None:
    package = Path(__file__).resolve().parents[1]
    for part in BUNDLE_PARTS:
        target = root / part
        if not (source / part).exists():
            raise BundleError(f"a bundle must hold {part} to be packed, found none in {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target)
        else:
            shutil.copyfile(source / part, target)
    for module in [*package.rglob("*.py"), package / "py.typed"]:
        target = root / package.name / module.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, target)


def _freeze(overlay: Path, root: Path) -> None:
    values = _read(overlay / "task.json")
    bases = {name: _read(root / name) for name in BASE_CONFIGS}
    bases[CONFIG]["exit_thresholds"] = []  # the base's belong to other weights
    for base in bases.values():
        base["coronal_border"] = []  # other labels need not meet in a plane
    _write(root / METADATA, {**_read(root / METADATA), **{key: {} for key in MEASURED}})
    if unknown := sorted(values.keys() - {key for base in bases.values() for key in base}):
        raise BundleError(f"every key of an overlay must exist in {' or '.join(BASE_CONFIGS)}, got {unknown}")
    for name, base in bases.items():
        _write(root / name, merge_overlay(base, values))
    merged = ConfigParser.load_config_files([str(root / METADATA), str(overlay / "metadata.json")])
    _write(root / METADATA, merged)
    shutil.rmtree(root / "docs")  # they speak of other weights and other data
    if (overlay / "docs").is_dir():
        shutil.copytree(overlay / "docs", root / "docs")
    for name, keys in DOCUMENTS.items():
        path = root / "docs" / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            path.write_text("".join(f"{merged[key]}\n\n" for key in keys if key in merged))
    weights = overlay / "model.pt"
    if not weights.is_file():
        raise BundleError(f"an overlay must hold trained weights to be packed, found no {weights}; train them first")
    shutil.copyfile(weights, root / WEIGHTS)


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


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} must be a JSON object, got {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must be a JSON object, got {type(content).__name__}")
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n")
