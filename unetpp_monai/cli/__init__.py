"""The command line: parse, call, report, exit code."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from .._version import __version__
from ..errors import StoppedError, UnetppError
from ..json_files import at
from .bundle import export, info, pack
from .calibrate import calibrate, ranges
from .clicks import clicks
from .cohort import cohort
from .common import console, message_of, print_error
from .convert import convert
from .doctor import doctor
from .evaluate import evaluate
from .label import app as label
from .listen import listen
from .pacs import app as pacs
from .plan import plan
from .run import run
from .segment import demo, segment
from .train import train

app = typer.Typer(
    help="UNet++ for medical images: one set of weights, any depth.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may name patients
)
for command in (
    segment,
    cohort,
    convert,
    evaluate,
    calibrate,
    ranges,
    info,
    export,
    plan,
    train,
    pack,
    run,
    listen,
    clicks,
    demo,
    doctor,
):
    app.command()(command)
app.add_typer(pacs, name="pacs")
app.add_typer(label, name="label")


def _show_version(wanted: bool) -> None:
    if wanted:
        from ..bundle import read_bundle

        found = read_bundle(None)
        typer.echo(f"unetpp_monai {__version__}, {found.name} {found.version}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the versions of package and bundle."
        ),
    ] = False,
) -> None: ...


TERMINATED = 143  # exit code of a process that SIGTERM ended


def main() -> None:
    """Run the command line; our errors, and those of files, print one line and exit with 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # unwinds, so that temporary files are removed
    try:
        app()
    except StoppedError as error:
        console.print(str(error), markup=False, highlight=False)
        sys.exit(128 + error.signal)
    except UnetppError as error:
        print_error(message_of(error))
        sys.exit(1)
    except OSError as error:  # such as a full disk, or a folder without permission
        if error.filename is None:
            raise
        where = at(Path(os.fsdecode(error.filename)))
        print_error(f"files must be readable and writable, got {error.strerror} for {where}")
        sys.exit(1)
    except SystemExit as end:
        if end.code == TERMINATED:  # threads of a runtime may still call Python and crash its shutdown
            os._exit(TERMINATED)
        raise
