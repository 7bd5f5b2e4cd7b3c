"""Find what a bundle's configs would execute, from their text only: nothing is evaluated, imported or instantiated.

MONAI evaluates every text that begins with `$`, builds `_target_`s, and first replaces `@references` and `%macros`,
so expressions are parsed as they would be evaluated, and every name, call, attribute and component in them must be
listed in `names`. Anything else needs the user's consent.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from ..json_files import clipped
from .expressions import Imports, NotListed, called, check_expression
from .names import APART, CLASSES, READERS, components

SPECIAL = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")  # MONAI's keys of a component
MODES = ("default", "callable")  # not "debug", which stops for a person
PARTS = ("network_def", "preprocessing", "inferer", "postprocessing")  # of inference.json, used to segment
CHAINS = ("preprocessing", "postprocessing")  # those whose own steps may read and write files
FILES = ("LoadImaged", "SaveImaged")  # skipped by our segmenter
FOLDERS, OUTPUTS = (
    ("save_dir", "log_dir"),
    ("@output_dir", "@ckpt_dir", "@cache_dir"),
)  # set by whoever runs a config
FILE_NAMES = ("key_metric_filename", "final_filename", "file_prefix")
UNPICKLE = ("allow_pickle", "pickle_module", "weights_only")  # arguments of any call
FILE = re.compile(r"\.(json|ya?ml)(::|$)", re.IGNORECASE)  # in a macro: another file
RELATIVE = re.compile("[@%]::")
COMPONENTS = components()

Configs = Mapping[str, Mapping[str, Any]]  # name of a file -> its content


@dataclass(frozen=True)
class Foreign:
    """An unlisted name in a config."""

    file: str  # such as "configs/train.json"
    key: str  # such as "train#handlers#0#_target_"
    what: str  # such as "os.mkdir"

    def __str__(self) -> str:
        return f"{clipped(self.file, 60)}: {clipped(self.key, 70)} ({clipped(self.what, 60)})"


def foreign(configs: Configs, *, main: str) -> Iterator[Foreign]:
    """Yield all unlisted names.

    Args:
        configs: of one bundle, after `rename_moved`.
        main: file with `PARTS`, which must neither write nor call others.
    """
    imports = Imports()
    for config in configs.values():
        imports.add_all(text for _, text in texts(config))
    for file, config in configs.items():
        own = imports.of(text for _, text in texts(config))
        for key, what in _foreign(config, own):
            yield Foreign(file, key, what)
    if main in configs:
        for key, name in _apart(configs[main]):
            yield Foreign(main, key, f"{name} in the segmentation")
        for key in _path_keys(configs[main], ""):
            yield Foreign(main, key, "a key that is a path, which is ambiguous")


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a config with its key."""
    if isinstance(value, str):
        yield key, value
    for name, item in _items(value):
        yield from texts(item, _below(key, name))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        yield from ((str(key), item) for key, item in (value.items() if isinstance(value, dict) else enumerate(value)))


def _below(key: str, name: str) -> str:
    return f"{key}#{name}" if key else name


def _foreign(config: Mapping[str, Any], imports: Imports) -> Iterator[tuple[str, str]]:
    strings = list(texts(config))
    macros = [key for key, text in strings if text.startswith("%")]
    for key, text in strings:
        if what := _of_text(text, imports, macros=bool(macros)):
            yield key, what
    yield from _of_keys(config, "", imports)


def _of_text(text: str, imports: Imports, *, macros: bool) -> str:
    """Return the first unlisted name in a text; empty if none."""
    plain = ReferenceResolver.normalize_id(text)
    if macros and text.startswith(("$", "@", "%")) and RELATIVE.search(plain):
        return "a relative reference in a config with macros, which is ambiguous"
    if text.startswith("%"):
        return f"a macro of another file, {text}" if FILE.search(plain) else ""
    if not text.startswith("$"):
        return ""
    try:
        check_expression(text, imports)
    except NotListed as error:
        return str(error)
    return ""


def _of_keys(value: Any, key: str, imports: Imports) -> Iterator[tuple[str, str]]:
    """Yield unlisted components and arguments."""
    for name, item in _items(value):
        place = _below(key, name)
        last = re.split("#|::", name)[-1].lstrip("+")  # merged, a key may be a path
        if isinstance(value, dict) and (what := _of_argument(last, item, imports, component="_target_" in value)):
            yield place, what
        yield from _of_keys(item, place, imports)


def _of_argument(name: str, value: Any, imports: Imports, *, component: bool) -> str:
    if name == "_target_":
        return "" if isinstance(value, str) and value in COMPONENTS else f"{value or 'nothing'}"
    if name == "_mode_":
        return "" if value in MODES else f"mode {value}"
    if name in CLASSES:
        return _of_class(value, CLASSES[name], imports)
    if name in FOLDERS and value not in OUTPUTS:
        return f"a folder to write into, {value}, that is not {' or '.join(OUTPUTS)}"
    if name in FILE_NAMES and not (isinstance(value, str) and re.fullmatch(r"[\w.=-]+", value)):
        return f"a file's name, {value}"
    if name in UNPICKLE or (component and name.startswith("_") and name not in SPECIAL):
        return f"argument {name}"
    return ""


def _of_class(value: Any, names: tuple[str, ...], imports: Imports) -> str:
    """Check a class named for MONAI or made by an expression; a reference could be any text."""
    if isinstance(value, list):
        return next(filter(None, (_of_class(item, names, imports) for item in value)), "")
    made = isinstance(value, str) and called(value, imports) in READERS
    return "" if value is None or value in names or made else f"{value or 'nothing'}"


def _apart(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield components of `APART` used in the segmentation, by key and name."""
    steps = {f"{chain}#transforms#{number}" for chain in CHAINS for number in range(len(_steps(config, chain)))}
    seen: set[str] = set()
    todo = list(PARTS)
    while todo:
        start = todo.pop()
        if start in seen:
            continue
        seen.add(start)
        for key, text in texts(_at(config, start), start):
            if key.endswith("_target_") and COMPONENTS.get(text) in APART:
                place = key.rpartition("#")[0]
                if not (start in CHAINS and place in steps and COMPONENTS[text] in FILES):
                    yield key, text
            todo += _references(key, text)


def _path_keys(value: Any, key: str) -> Iterator[str]:
    for name, item in _items(value):
        if "#" in name or "::" in name:
            yield _below(key, name)
        yield from _path_keys(item, _below(key, name))


def _steps(config: Mapping[str, Any], chain: str) -> list[Any]:
    found = _at(config, f"{chain}#transforms")
    return found if isinstance(found, list) else []


def _references(key: str, text: str) -> Iterator[str]:
    """Yield the keys a text refers to."""
    try:
        plain = ConfigParser.resolve_relative_ids(key.replace("#", "::"), text)
    except ValueError:  # out of range; building reports it
        return
    if plain.startswith("%"):
        yield plain[1:].replace("::", "#")
    yield from (name.replace("::", "#") for name in ReferenceResolver.match_refs_pattern(plain))


def _at(config: Any, key: str) -> Any:
    """Return the value at a key; None if missing."""
    for name in key.split("#") if key else ():
        if isinstance(config, list) and name.isdecimal() and int(name) < len(config):
            config = config[int(name)]
        elif isinstance(config, dict) and name in config:
            config = config[name]
        else:
            return None
    return config
