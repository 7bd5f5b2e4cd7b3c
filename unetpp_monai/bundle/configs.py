"""Read the configs of a bundle, and find unlisted names in them before they are evaluated."""

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

COMPUTED = str.maketrans({character: f"\\x{ord(character):02x}" for character in "#:@%"})  # by MONAI, in any text


def literal(path: str | Path) -> str:
    r"""Return an expression for a path, in which MONAI replaces no characters.

    Args:
        path: of a file or folder.

    Example:
        >>> literal("a#b")
        "$'a\\x23b'"
    """
    return f"${str(path)!r}".translate(COMPUTED)


def read_config(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Read a config of a bundle.

    Names that have moved since packing are replaced, with a warning.

    Args:
        path: `configs/*.json` of a bundle; its other configs are read too, as they may be merged.
        trust: allow any name.

    Returns:
        The config, ready to be evaluated.

    Raises:
        BundleError: not a JSON object, not trusted, or with an unknown name.

    Example:
        >>> from unetpp_monai.bundle import default_bundle
        >>> "network_def" in read_config(default_bundle() / CONFIG)
        True
    """
    root = path.parent.parent
    configs, name = read_configs(root), path.relative_to(root).as_posix()
    return usable(root, configs, name, () if trust else foreign_in(root, configs))


def usable(root: Path, configs: Mapping[str, Mapping[str, Any]], name: str, found: Sequence[Foreign]) -> dict[str, Any]:
    """Copy a config with current names, if it may be evaluated.

    Args:
        root: of the bundle.
        configs: of `read_configs`.
        name: of the config.
        found: unlisted names, if the bundle is not trusted.

    Raises:
        BundleError: unlisted names, no such config, or an unknown name.
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
            f"{at(path)} must use existing names, got {clipped(', '.join(names), 100)}; use the package's version that "
            "packed it, or correct the name"
        )


def refuse(root: Path, found: Sequence[Foreign]) -> None:
    """Refuse a bundle with unlisted names.

    Raises:
        BundleError: there are unlisted names.
    """
    if not found:
        return
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    raise BundleError(
        f"configs of an untrusted bundle must use listed names only, got {found[0]}{more} in {at(root)}; "
        "read them, then trust the bundle",
        option="trust",
    )


def foreign_in(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> tuple[Foreign, ...]:
    """Find unlisted names in the configs of a bundle, without evaluating them.

    Args:
        root: of the bundle.
        configs: of `read_configs`.
    """
    found = list(foreign({name: rename_moved(config) for name, config in configs.items()}, main=CONFIG))
    for path in sorted((root / CONFIGS).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and path.name == LOGGING and path.read_bytes() != (BASE / LOGGING).read_bytes():
            found.append(Foreign(name, "handlers", "different from the base's; Python evaluates them"))
        elif path.suffix.lower() in OTHERS:
            found.append(Foreign(name, "", "a config that is not JSON"))
    return tuple(found)


def read_configs(root: Path) -> dict[str, dict[str, Any]]:
    """Read every JSON file below `configs/`, by name.

    Raises:
        BundleError: not a JSON object.
    """
    paths = sorted((root / CONFIGS).rglob("*.json"))
    return {path.relative_to(root).as_posix(): read_object(path) for path in paths}
