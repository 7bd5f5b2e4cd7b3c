"""`unetpp doctor`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .common import DeviceOption, RuntimeOption, print_error

PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}


def doctor(
    bundle: Annotated[Path | None, typer.Option("--bundle", "--task", help="Another bundle to check.")] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="Required extra, such as pacs; repeatable. Default: dicom, fast, train.")
    ] = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for bug reports.")] = False,
) -> None:
    """Check this installation and segment the included sample; exit 1 if anything is wrong.

    The output contains no paths, host, user or images of yours.
    """
    from ..workflows.doctor import examine

    result = examine(bundle, extras=extra or None, device=device, runtime=runtime)
    problems = [str(problem) for problem in result.problems]
    out = Console()
    if as_json:
        out.print(json.dumps({**result.found, "problems": problems}, indent=2), **PLAIN)
    else:
        for topic, content in result.found.items():
            for one in content if isinstance(content, list) else [content]:
                out.print(f"{topic}:", style="bold", **PLAIN)
                rows = one if isinstance(one, dict) else {"": one}
                for name, value in rows.items():
                    out.print(f"  {name:18} {_shown(value)}", **PLAIN)
        for problem in problems:
            print_error(problem)
        if not problems:
            out.print("no problems found", **PLAIN)
    if problems:
        raise typer.Exit(1)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
