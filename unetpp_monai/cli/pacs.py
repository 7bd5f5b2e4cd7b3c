"""`unetpp pacs pull` and `unetpp pacs push`."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import InputError
from ..words import counted
from .common import OverwriteOption, report_failures

app = typer.Typer(help="Fetch series from a PACS, send results to it.", no_args_is_help=True)

AddressArgument = Annotated[
    str, typer.Argument(help="https://host/dicom-web, or dimse://AET@host:port (dimses:// with TLS).")
]
UserOption = Annotated[str | None, typer.Option("--user", help="For basic authentication.")]
PasswordFileOption = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password in its first line.")
]
PasswordEnvOption = Annotated[
    str | None, typer.Option("--password-env", help="Environment variable with the password.")
]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with a bearer token in its first line.")
]
CaOption = Annotated[Path | None, typer.Option("--ca", help="PEM file of trusted certificate authorities, for TLS.")]
CertificateOption = Annotated[Path | None, typer.Option("--certificate", help="PEM file of our certificate.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="PEM file of its key.")]
AetOption = Annotated[str, typer.Option("--aet", help="Our AE title, for DIMSE.")]


@app.command("pull")
def pull_command(
    address: AddressArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for <study>/<series>/<instance>.dcm.")],
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID.")] = None,
    patient: Annotated[str | None, typer.Option(help="Patient ID.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only series of this modality, such as MR.")] = None,
    move_port: Annotated[
        int | None,
        typer.Option(
            help="DIMSE: use C-MOVE to this local port, which the PACS must know, instead of C-GET.", min=1, max=65535
        ),
    ] = None,
    bind: Annotated[
        str, typer.Option(help="With --move-port: local address to receive at; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    overwrite: OverwriteOption = False,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    password_env: PasswordEnvOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    aet: AetOption = "UNETPP",
) -> None:
    """Fetch complete series into a folder each; print the folders."""
    from ..pacs import Credentials, Query, connect, pull

    user, password, token = secrets(user, password_file, password_env, token_file)
    _silence_libraries()
    remote = connect(
        address, Credentials(user, password, token, ca, certificate, key, aet), move_port=move_port, bind=bind
    )
    out = Console()
    for folder in pull(remote, Query(study, series, patient, modality), output, overwrite=overwrite):
        out.print(str(folder), markup=False, highlight=False, soft_wrap=True)


@app.command("push")
def push_command(
    address: AddressArgument,
    inputs: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them at any depth.")],
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    password_env: PasswordEnvOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    aet: AetOption = "UNETPP",
) -> None:
    """Send DICOM files; exit 0 only if the PACS confirmed every one."""
    from ..pacs import Credentials, connect, push

    user, password, token = secrets(user, password_file, password_env, token_file)
    _silence_libraries()
    pushed = push(connect(address, Credentials(user, password, token, ca, certificate, key, aet)), inputs)
    Console().print(f"{counted(len(pushed.stored), 'instance')} stored", highlight=False)
    report_failures([(uid, f"{uid} was not stored: {reason}") for uid, reason in pushed.failed.items()])


def secrets(
    user: str | None, password_file: Path | None, password_env: str | None, token_file: Path | None
) -> tuple[str | None, str | None, str | None]:
    """Read secrets, which must not be on the command line, where every process can see them.

    Returns:
        User, password and token for `Credentials`.

    Raises:
        InputError: a file or variable is missing, or they contradict each other.
    """
    if password_file is not None and password_env is not None:
        raise InputError("a password must come from a file or a variable, got both; remove one")
    if (user is None) != (password_file is None and password_env is None):
        raise InputError("basic authentication needs --user, and --password-file or --password-env")
    if user is not None and token_file is not None:
        raise InputError("credentials must be a password or a token, got both; remove one")
    password = None if password_file is None else _first_line(password_file)
    if password_env is not None:
        if password_env not in os.environ:
            raise InputError(f"the environment must have {password_env} with the password, got none; export it")
        password = os.environ[password_env]
    return user, password, None if token_file is None else _first_line(token_file)


def _silence_libraries() -> None:
    """Hide logs of libraries, which repeat our errors or quote headers; keep our warnings."""
    logging.getLogger().addHandler(logging.NullHandler())
    if logging.lastResort is not None:  # writes warnings to stderr
        logging.getLogger("unetpp_monai").addHandler(logging.lastResort)


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"a secret must be the first line of a text file, got {path} ({error})") from error
    if not lines or not lines[0]:
        raise InputError(f"a secret must be the first line of a text file, got an empty one in {path}")
    return lines[0]
