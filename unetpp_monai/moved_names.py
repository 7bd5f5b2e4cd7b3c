"""New names of components that configs of older bundles use; applied when a config is read."""

import ast
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

LONGEST = 1000  # most characters of an import
PACKAGE = __name__.split(".")[0]
MOVED = {  # in configs packed by 0.5.2 or before -> now
    "unetpp_monai.inferers.AutocastInferer": "unetpp_monai.inference.AutocastInferer",
    "unetpp_monai.inferers.DepthInferer": "unetpp_monai.inference.DepthInferer",
    "unetpp_monai.io.VolumeReader": "unetpp_monai.io.monai_reader.VolumeReader",
    "unetpp_monai.transforms.CoronalBorderd": "unetpp_monai.inference.transforms.PlanarLabelBoundaryd",
    "unetpp_monai.transforms.InvertLabelsd": "unetpp_monai.inference.transforms.InvertLabelsd",
    "unetpp_monai.transforms.Spacingd": "unetpp_monai.inference.transforms.Spacingd",
}
# modules of this package that configs use; importing them does no work
MODULES = tuple(
    f"{PACKAGE}.{name}"
    for name in (
        *("inference", "inference.patches", "inference.transforms", "io", "io.monai_reader", "io.monai_writer"),
        *("networks", "task", "training"),
    )
)


def rename_moved(config: Any) -> Any:
    """Copy a config, replacing names of `MOVED` in `_target_` and import expressions."""
    if isinstance(config, dict):
        return {
            key: MOVED.get(value, value) if key == "_target_" and isinstance(value, str) else rename_moved(value)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [rename_moved(item) for item in config]
    return _rename_import(config) if isinstance(config, str) else config


def missing_names(config: Any, *, own: bool = False) -> Iterator[str]:
    """Yield the dotted names of components, and of imports from this package, that do not exist.

    Args:
        config: of a bundle; its modules are imported.
        own: check names in `MODULES` only; import nothing else.
    """
    if isinstance(config, dict):
        target = config.get("_target_")
        if isinstance(target, str) and _is_name(target, own=own) and not _exists(target):
            yield target
    for item in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from missing_names(item, own=own)
    found = _import_of(config) if isinstance(config, str) else None
    if (
        found is not None
        and found[0].startswith(f"{PACKAGE}.")
        and _is_name(found[0], own=own)
        and not _exists(found[0])
    ):
        yield found[0]


def _rename_import(text: str) -> str:
    found = _import_of(text)
    if found is None or found[0] not in MOVED:
        return text
    module, _, name = MOVED[found[0]].rpartition(".")
    return f"$from {module} import {name}" + ("" if found[1] == name else f" as {found[1]}")


def _import_of(text: str) -> tuple[str, str] | None:
    """Return the dotted name and alias of an expression `$from module import name [as alias]`."""
    if not text.startswith("$from ") or len(text) > LONGEST:
        return None
    try:
        statement = ast.parse(text[1:]).body[0]
    except (SyntaxError, ValueError):
        return None
    if not isinstance(statement, ast.ImportFrom):
        return None
    alias = statement.names[0]  # MONAI uses only the first
    return f"{statement.module}.{alias.name}", alias.asname or alias.name


def _is_name(target: str, *, own: bool) -> bool:
    return target.rpartition(".")[0] in MODULES if own else "." in target and not target.startswith("$")


def _exists(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError, ValueError):  # ValueError: no name at all
        return False
    return True
