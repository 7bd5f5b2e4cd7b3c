"""Configs of a bundle: read them, say what they would run that is not listed, give them to be evaluated."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..json_files import at, clipped, read_object
from ..moved_names import missing_names, rename_moved
from ..task import BASE
from ..trust import Foreign, foreign

CONFIG, METADATA, WEIGHTS = "configs/inference.json", "configs/metadata.json", "models/model.pt"
CONFIGS, LOGGING, OTHERS = "configs", "logging.conf", (".yaml", ".yml")


def read_config(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Read a config of a bundle.

    Names that moved since it was packed are replaced, with a warning.

    Args:
        path: `configs/*.json` of a bundle, whose other configs are read too: they are what this one is merged with.
        trust: it may name anything.

    Returns:
        The config, to be evaluated.

    Raises:
        BundleError: no JSON object, or it must be trusted first, or it names something that does not exist.
    """
    root = path.parent.parent
    configs, name = read_configs(root), path.relative_to(root).as_posix()
    return usable(root, configs, name, () if trust else foreign_in(root, configs))


def usable(root: Path, configs: Mapping[str, Mapping[str, Any]], name: str, found: Sequence[Foreign]) -> dict[str, Any]:
    """Copy a config that may be evaluated, with the names of now.

    Args:
        root: of the bundle.
        configs: of `read_configs`.
        name: of the config.
        found: what of the bundle is not listed, if nobody trusts it.

    Raises:
        BundleError: anything was found, there is no such config, or it names something that does not exist.
    """
    if name not in configs:
        raise BundleError(f"a bundle must hold {name}, found none in {at(root)}; pack it again")
    config: dict[str, Any] = rename_moved(configs[name])
    path = root / name
    _check_names(path, missing_names(config, own=True))
    refuse(root, found)
    _check_names(path, missing_names(config))
    if config != configs[name]:
        warnings.warn(
            f"{path} is of an older version: names that have moved were replaced; pack the bundle again",
            FutureWarning,
            stacklevel=3,
        )
    return config


def _check_names(path: Path, missing: Iterable[str]) -> None:
    if names := sorted(set(missing)):
        raise BundleError(
            f"{at(path)} must name what exists, got {clipped(', '.join(names), 100)}; use the package's version that "
            "packed it, or correct the name"
        )


def refuse(root: Path, found: Sequence[Foreign]) -> None:
    """Refuse a bundle of which something is not listed.

    Raises:
        BundleError: anything was found.
    """
    if not found:
        return
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    raise BundleError(
        f"configs of a bundle must hold only what is listed unless you trust it, got {found[0]}{more} in {at(root)}; "
        "read them, then allow it",
        option="trust",
    )


def foreign_in(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> tuple[Foreign, ...]:
    """What the configs of a bundle hold that is not listed; nothing is evaluated.

    Args:
        root: of the bundle.
        configs: of `read_configs`.
    """
    found = list(foreign({name: rename_moved(config) for name, config in configs.items()}, main=CONFIG))
    for path in sorted((root / CONFIGS).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and path.name == LOGGING and path.read_bytes() != (BASE / LOGGING).read_bytes():
            found.append(Foreign(name, "handlers", "other than the base's, which Python evaluates"))
        elif path.suffix.lower() in OTHERS:
            found.append(Foreign(name, "", "a config that is no JSON"))
    return tuple(found)


def read_configs(root: Path) -> dict[str, dict[str, Any]]:
    """Read every JSON file below `configs/`, by name.

    Raises:
        BundleError: one is no JSON object.
    """
    paths = sorted((root / CONFIGS).rglob("*.json"))
    return {path.relative_to(root).as_posix(): read_object(path) for path in paths}
