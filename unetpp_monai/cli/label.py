"""`unetpp label start`, `versions` and `rollback`: annotate with a server that segments and learns."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .common import DeviceOption, RuntimeOption, TrustOption
from .pacs import CaOption, PasswordEnvOption, PasswordFileOption, UserOption, secrets

app = typer.Typer(help="Annotate with 3D Slicer or OHIF: a MONAI Label server with our bundles.", no_args_is_help=True)


@app.callback()
def label() -> None:
    """Annotate with 3D Slicer or OHIF: a MONAI Label server with our bundles."""


@app.command()
def start(
    studies: Annotated[str, typer.Option(metavar="DIR|URL", help="Folder of images, or a DICOMweb server.")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle",
            "--task",
            help="Bundle folder, or the name of an included task; repeatable. Default: the included bundle.",
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for trained versions, fetched series, logs. Default: unetpp_label.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: all (then set --token).")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="OHIF expects 8000.", min=1, max=65535)] = 8000,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    password_env: PasswordEnvOption = None,
    ca: CaOption = None,
    any_modality: Annotated[
        bool, typer.Option("--any-modality", help="Also accept DICOM of another modality than the bundles'.")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="URL", help="Server whose pages may send requests; repeatable. Default: this one."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="UNETPP_LABEL_TOKEN", help="Token required in every request, as Authorization: Bearer."),
    ] = None,
    open_endpoint: Annotated[
        list[str] | None,
        typer.Option("--open-endpoint", metavar="'METHOD PATH'", help="Open a closed endpoint; repeatable. See docs."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Serve until stopped (Ctrl-C, SIGTERM). Contacts no host except --studies."""
    from ..annotation.server import ServerOptions, serve

    name, password, _ = secrets(user, password_file, password_env, None)
    serve(
        ServerOptions(
            studies,
            tuple(bundle or ()),
            state,
            host,
            port,
            device,
            runtime,
            name,
            password,
            ca,
            any_modality=any_modality,
            trust=trust,
            origins=tuple(allow_origin or ()),
            token=token,
            opened=tuple(open_endpoint or ()),
        )
    )


FolderArgument = Annotated[Path, typer.Argument(help="A served bundle: STATE/bundles/NAME.")]


@app.command()
def versions(bundle: FolderArgument) -> None:
    """List the versions of a served bundle's weights; the served one is marked."""
    from ..annotation.version_store import VersionStore

    store = VersionStore(bundle)
    served = store.served().number
    table = Table("", "version", "date (UTC)", "from", "reason", "validation Dice", "cases", "weights sha256")
    for version in store.versions():
        before, after = version.origin.dice_before, version.origin.dice_after
        dice = "" if before is None or after is None else f"{before:.4f} → {after:.4f}"
        table.add_row(
            *("served" if version.number == served else "", str(version.number), version.date[:19]),
            *("" if version.parent is None else str(version.parent), version.origin.reason, dice),
            *(str(version.origin.validation_cases or ""), version.weights_sha256[:12]),
        )
    Console().print(table)


@app.command()
def rollback(
    bundle: FolderArgument,
    version: Annotated[
        int | None, typer.Option(help="Version to serve; default: the one before the served one.")
    ] = None,
) -> None:
    """Serve older weights again; a running server uses them from its next image on. No version is removed."""
    from ..annotation.version_store import VersionStore

    served = VersionStore(bundle).rollback(version)
    Console().print(f"version {served.number} is served", highlight=False)
