"""What is public: names and options; `python tests/helpers/public_api.py` writes the list anew."""

import inspect
import json
from importlib import import_module
from pathlib import Path

FILE = Path(__file__).parents[1] / "unit" / "public_api.json"
PACKAGES = ("", ".bundle", ".click_server", ".inference", ".interactive", ".io", ".networks")


def names():
    """Package -> public names with their parameters."""
    return {
        f"unetpp_monai{package}": {name: _parameters(value) for name, value in _public(package)} for package in PACKAGES
    }


def _public(package):
    module = import_module(f"unetpp_monai{package}")
    return [(name, getattr(module, name)) for name in module.__all__]


def _parameters(value):
    if not inspect.isfunction(value) and not (inspect.isclass(value) and value.__module__.startswith("unetpp_monai")):
        return None
    try:
        return [str(one).partition(":")[0].partition("=")[0].strip() for one in _signature(value)]
    except ValueError:  # such as of an enumeration
        return None


def _signature(value):
    return inspect.signature(value).parameters.values()


def options():
    """Command -> its options and arguments."""
    import typer

    from unetpp_monai.cli import app

    return dict(sorted(_commands(typer.main.get_command(app), "unetpp")))


def _commands(command, name):
    if hasattr(command, "commands"):
        for part, below in command.commands.items():
            yield from _commands(below, f"{name} {part}")
        return
    flags = (param.opts + param.secondary_opts if param.opts[0][0] == "-" else [param.name] for param in command.params)
    yield name, sorted(flag for some in flags for flag in some)


def current():
    return {"names": names(), "options": options()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=1) + "\n")
