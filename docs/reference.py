"""Write the pages of the manual that only repeat what the package says: commands, names, report, errors, keys."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from torch.nn import Module

import unetpp_monai
from unetpp_monai import errors
from unetpp_monai.cli import app
from unetpp_monai.task_rules import value_types

PACKAGE = Path(unetpp_monai.__file__).parent
CONFIGS = PACKAGE.parent / "configs"
PANEL = "Options"  # options that name no other group


def cell(text: object) -> str:
    """Return a text as it may stand in a cell of a Markdown table."""
    line = " ".join(str(text).split())
    return line.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table whose first column are names, which are not broken; its cells are Markdown already."""
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))
    return f"```{{table}}\n:class: names {head[1]}\n\n{lines}\n```\n"


def commands() -> str:
    """Return every command with its arguments and options, in the order of `unetpp --help`."""
    return (
        "# Commands\n\n`unetpp COMMAND --help` says the same. An option without a default is off, or unset.\n\n"
        + "\n".join(_command(name, command) for name, command in _leaves("unetpp", typer.main.get_command(app)))
    )


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from _leaves(f"{path} {name}", child)
    if not hasattr(command, "commands"):
        yield path, command


def _command(name: str, command: Any) -> str:
    options: dict[str, list[tuple[str, ...]]] = {}
    usage = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = (parameter.metavar or parameter.name).upper().rstrip(".") + ("..." if parameter.nargs < 0 else "")
            usage.append(shown if parameter.required else f"[{shown}]")
            names = f"`{shown}`"
        else:
            names = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        panel = getattr(parameter, "rich_help_panel", None) or PANEL
        options.setdefault(panel, []).append((names, _default(parameter), cell(parameter.help or "")))
    parts = [f"## {name}", inspect.cleandoc(command.help or ""), f"```text\n{' '.join(usage)} [OPTIONS]\n```"]
    for panel, rows in options.items():
        parts += [f"**{panel}**"] if len(options) > 1 else []
        parts.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or callable(value) or value in ((), []):
        return ""
    return f"`{cell(getattr(value, 'value', value))}`"


def report() -> str:
    """Return the keys of a report, from its schema."""
    schema = json.loads((PACKAGE / "report.schema.json").read_text())
    rows = list(_keys(schema, schema["$defs"]))
    text = f"# Report of a case\n\n{cell(schema['description'])} Schema: `unetpp_monai/report.schema.json`"
    return f"{text}, version {schema['properties']['schema']['const']}.\n\n" + table(("key", "type", "meaning"), rows)


def _keys(schema: Mapping[str, Any], shared: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, ...]]:
    needed = schema.get("required", [])
    for name, stated in schema["properties"].items():
        value = {**shared.get(stated.get("$ref", "").removeprefix("#/$defs/"), {}), **stated}
        meaning = value.get("description", "")
        if name not in needed and "bsent" not in meaning:
            meaning = f"{meaning} Not in every report.".strip()
        yield f"`{path}{name}`", cell(_type(value)), cell(meaning)
        if "properties" in value:
            yield from _keys(value, shared, f"{path}{name}.")


def _type(value: Mapping[str, Any]) -> str:
    for key in ("oneOf", "anyOf"):
        if key in value:
            return " or ".join(_type(one) for one in value[key])
    if "const" in value:
        return json.dumps(value["const"])
    if "enum" in value:
        return ", ".join(json.dumps(one) for one in value["enum"])
    kind = value.get("type", "object")
    return kind if isinstance(kind, str) else " or ".join(kind)


def error_page() -> str:
    """Return the tree of errors with the first line of each docstring."""
    head = "# Errors\n\nEvery error is one sentence: the rule, the input that breaks it, and what to do. "
    head += "`unetpp` prints it and ends with exit code 1. The network alone raises `ValueError`.\n\n"
    return head + "\n".join(_error(errors.UnetppError, 0)) + "\n"


def _error(kind: type, level: int) -> Iterator[str]:
    yield f"{'  ' * level}- `{kind.__name__}`: {(inspect.getdoc(kind) or '').splitlines()[0]}"
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _error(child, level + 1)


def bundle_keys() -> str:
    """Return what a task or an overlay may state, with meanings and the base's defaults."""
    schema = json.loads((PACKAGE / "task.schema.json").read_text())
    bases = {name: json.loads((PACKAGE / "base" / f"{name}.json").read_text()) for name in ("inference", "train")}
    both, train, inference = "Inference and training", "Training only", "Inference only"
    groups: dict[str, list[tuple[str, ...]]] = {both: [], train: [], inference: []}
    types = {name: value_types(base) for name, base in bases.items()}
    for key in sorted({**types["inference"], **types["train"]}):
        found = [name for name, keys in types.items() if key in keys]
        group = both if len(found) == 2 else train if found == ["train"] else inference
        defaults = dict.fromkeys(_default_of(bases[name], key) for name in found)
        groups[group].append((f"`{key}`", " or ".join(defaults), cell(schema["properties"][key]["description"])))
    metadata = [(f"`{key}`", cell(value["description"])) for key, value in _metadata(schema).items()]
    head = "# Keys of a bundle\n\nWhat `task.json` and `metadata.json` of a task may state; "
    head += "`unetpp_monai/task.schema.json` says the same to an editor.\n\n## task.json\n\n"
    head += (
        'The default is that of `unetpp_monai/base`; "required" has none. A value that begins with `$` is computed by '
    )
    head += "MONAI. `unetpp train --set KEY=VALUE` sets one for a training.\n\n"
    parts = [f"### {name}\n\n{table(('key', 'default', 'meaning'), rows)}" for name, rows in groups.items()]
    middle = "\n## metadata.json\n\nThe keys of MONAI's bundles, and those of this package.\n\n"
    return head + "\n".join(parts) + middle + table(("key", "meaning"), sorted(metadata))


def _default_of(base: Mapping[str, Any], key: str) -> str:
    value = base[key]
    if isinstance(value, str) and value.startswith("@") and "#" in value:  # another value of the same config
        first, second = value.removeprefix("@").split("#")
        value = base[first][second]
    return "required" if value is None else f"`{cell(json.dumps(value))}`"


def _metadata(schema: Mapping[str, Any]) -> dict[str, Any]:
    return dict(schema["$defs"]["metadata"]["properties"])


def python() -> str:
    """Return the public names of the package; autodoc does not find them, since they load when they are first used."""
    head = "# Python\n\nWhat `import unetpp_monai` offers.\n\n"
    return head + "\n".join(map(_name, unetpp_monai.__all__))


def _name(name: str) -> str:
    value = getattr(unetpp_monai, name)
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    if kind == "class" and issubclass(value, errors.UnetppError):
        return ""  # on the page of errors
    members = "   :members:\n" if kind == "class" and not issubclass(value, Module) else ""
    return f"```{{eval-rst}}\n.. auto{kind}:: unetpp_monai.{name}\n{members}```\n"


PAGES = {"python": python, "commands": commands, "report": report, "errors": error_page, "bundle_keys": bundle_keys}


def cards() -> dict[str, str]:
    """Return the model cards of the checkout, with headings as a page of the manual has them."""
    found = {}
    for path in sorted(CONFIGS.glob("*/docs/README.md")):
        text = re.sub(r"^(#+) \*\*(.*)\*\*$", r"\1 \2", path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^### (Authors|Tags)$", r"## \1", text, flags=re.MULTILINE)
        text = re.sub(r"^#### ", "### ", text, flags=re.MULTILINE)
        picture = rf"\1(../../configs/{path.parent.parent.name}/docs/\2)"
        found[f"card_{path.parent.parent.name}"] = re.sub(r"(!\[[^\]]*\])\(([^)]+)\)", picture, text)
    return found


def write(folder: Path) -> None:
    """Write all pages; one that has not changed keeps its time, so that Sphinx does not read it again."""
    folder.mkdir(exist_ok=True)
    for name, text in ({name: page() for name, page in PAGES.items()} | cards()).items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
